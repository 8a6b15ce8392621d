"""The page in a real browser, where there is one: silent, offline, as wide as its window, and it sorts and finds."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stages.report import gather
from stages.reporting.page import render
from tests.browser import CHROMIUM, Browser
from tests.repository import ROOT
from tests.test_report import write_results

NAMES = [f"class {i}, of which the name is as long as some photographers' are" for i in range(30)]
LABELS = np.arange(60) % 30
ANSWERS = np.where(LABELS < 5, (LABELS + 1) % 5, LABELS)  # the first five classes are taken for their neighbours

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on PATH")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_results(folder, LABELS, ANSWERS, NAMES, size_px=64)
    source = ROOT / "data" / "weights" / "source" / "params.yaml"
    content = gather(folder / "metrics", folder / "data", ROOT / "params.yaml", ROOT / "recipes/default.yaml", source)
    (folder / "page.html").write_text(render("report.html", content), encoding="utf-8")
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_is_silent_asks_for_nothing_and_is_no_wider_than_its_window(browser: Browser, page: Path, width: int):
    browser.open(page, width)
    for details in ("false", "true"):
        browser.run(f"document.querySelectorAll('details').forEach((each) => each.open = {details})")
        assert browser.run("document.documentElement.scrollWidth") == width
        # nor is anything cut off: what is wider scrolls in a box of its own
        assert (
            browser.run(
                "[...document.querySelectorAll('main *')].filter((each) => !each.closest('.scroll, svg') && "
                "each.getBoundingClientRect().right > innerWidth).map((each) => each.outerHTML.slice(0, 200))"
            )
            == []
        )
    assert browser.complaints() == []
    assert browser.requests() == []


def test_the_browser_would_tell_of_errors_and_requests(browser: Browser, tmp_path: Path):
    (tmp_path / "bad.html").write_text("<img src='picture.png'><script>console.log(1); fail()</script>")
    browser.open(tmp_path / "bad.html", 390)
    assert browser.requests() == [(tmp_path / "picture.png").as_uri()]
    assert {event["method"] for event in browser.complaints()} >= {
        "Runtime.consoleAPICalled",
        "Runtime.exceptionThrown",
    }


def test_a_heading_sorts_and_a_word_finds(browser: Browser, page: Path):
    browser.open(page, 1440)
    column = "[...document.querySelectorAll('#f1 tbody tr:not([hidden])')].map((row) => row.cells[{}].textContent)"
    assert browser.run(column.format(2))[0] == "0.00"
    browser.run("document.querySelector('#f1 th:nth-child(3)').click()")
    assert browser.run(column.format(2)) == ["1.00"] * 25 + ["0.00"] * 5  # numbers the largest first
    browser.run("document.querySelector('#f1 th').click()")
    assert browser.run(column.format(0)) == sorted(NAMES)
    browser.run("document.querySelector('#f1 th').click()")
    assert browser.run(column.format(0)) == sorted(NAMES, reverse=True)
    browser.run(
        "{ const field = document.querySelector('#classes input'); field.value = 'NAME 29,'; "
        "field.dispatchEvent(new Event('input')) }"
    )
    assert browser.run(column.format(0)) == [NAMES[29]]


def test_what_a_dot_means_is_shown_where_it_is_pointed_at(browser: Browser, page: Path):
    browser.open(page, 390)
    browser.run("document.querySelector('.reliability circle').scrollIntoView({block: 'center'})")
    box = browser.run(
        "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
        "(document.querySelector('.reliability circle').getBoundingClientRect())"
    )
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
    assert browser.run("document.getElementById('tip').textContent").startswith("1 image: sure to 25%")
    assert browser.run("document.documentElement.scrollWidth") == 390
