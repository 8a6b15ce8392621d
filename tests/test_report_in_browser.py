"""The pages in a real browser, if there is one: no errors, no network, no wider than the window; sorting, searching."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.experiments.compare import compare_answers
from stages.experiments.comparison.changed_pictures import describe_changed
from stages.experiments.comparison.matching import Matching
from stages.experiments.comparison.texts import render_page
from stages.reporting.page import render
from stages.reporting.pictures import encode_thumbnail
from tests.test_report import gather_from, write_results

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = "--headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=9000 --enable-logging=stderr"
NAMES = [f"class {i}, of which the name is as long as some photographers' are" for i in range(30)]
LABELS = np.arange(60) % 30
ANSWERS = np.where(LABELS < 5, (LABELS + 1) % 5, LABELS)  # the first five classes are confused with their neighbours

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on PATH")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("results")
    write_results(folder, LABELS, ANSWERS, NAMES, size_px=64)
    return render("report.html", gather_from(folder))


@pytest.fixture(scope="module")
def comparison() -> str:
    """Return the page of two revisions: the second is right, the first confidently predicts the next class."""
    eye = np.eye(len(NAMES))
    before, after = ({"ensemble": 0.5 * eye[each][None] + 0.5 / len(NAMES)} for each in (ANSWERS, LABELS))
    paths = pd.DataFrame({"path_after": [f"{i}/{i:030}{'aPictureWithoutASpace' * 4}.jpg" for i in LABELS]})
    matching = Matching(paths, LABELS, np.arange(len(LABELS)), np.arange(len(NAMES)), n_elsewhere=3, n_relabelled=1)
    found, changed = compare_answers(matching, before, after, NAMES)
    names = {"before": "main", "after": "a-branch/of-which-the-name-is-as-long-as-others"}
    cards = describe_changed(changed, paths, NAMES, names)
    content = {"names": names, "split": "val", "seeds": [], **found, "surest": cards[:10]}
    thumbnail = encode_thumbnail(np.zeros((64, 64, 3), np.uint8))
    shown = [{**card, "picture": thumbnail if i % 5 else ""} for i, card in enumerate(cards)]
    return render_page(content, shown, size_px=64)


def run(folder: Path, page: str, width: int, script: str) -> tuple[Any, list[str]]:
    """Open a page in a frame of this width in pixels, and run the body of a function of its `window` and `document`.

    Returns:
        The result of the function; and the console output, which includes errors and blocked requests.
    """
    content = f"""<meta charset="utf-8">
<iframe width="{width}" height="900" style="border: 0" srcdoc="{html.escape(page)}"></iframe>
<script>
onload = () => {{
  const {{contentWindow, contentDocument}} = document.querySelector("iframe");
  const found = ((window, document) => {{ {script} }})(contentWindow, contentDocument);
  document.body.textContent = "found " + JSON.stringify(found) + " end";
}};
</script>"""
    (folder / "frame.html").write_text(content, encoding="utf-8")
    command = [CHROMIUM, *OPTIONS.split(), f"--user-data-dir={folder / 'profile'}", "--dump-dom", folder / "frame.html"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search("<body>found (.*) end</body>", done.stdout)
    return json.loads(html.unescape(found[1])), re.findall("CONSOLE.*", done.stderr)


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", ["page", "comparison"])
def test_a_page_is_silent_asks_for_nothing_and_is_no_wider_than_its_window(
    tmp_path: Path, request: pytest.FixtureRequest, name: str, width: int
):
    script = """
    const too_wide = [];
    for (const open of [false, true]) {
      document.querySelectorAll("details").forEach((each) => each.open = open);
      too_wide.push(document.documentElement.scrollWidth - window.innerWidth);
      // nor is anything cut off: what is wider scrolls in a box of its own
      const all = [...document.querySelectorAll("main *")].filter((each) => !each.closest(".scroll, svg"));
      const cut = all.filter((each) => each.getBoundingClientRect().right > window.innerWidth);
      too_wide.push(...cut.map((each) => each.outerHTML.slice(0, 200)));
    }
    const requests = window.performance.getEntriesByType("resource").map((each) => each.name);
    return [window.innerWidth, too_wide, requests.filter((name) => !name.startsWith("data:"))];
    """
    assert run(tmp_path, request.getfixturevalue(name), width, script) == ([width, [0, 0], []], [])


def test_the_browser_tells_of_errors_and_requests(tmp_path: Path, page: str):
    bad = page.replace("</main>", "<img src='https://example.org/a.png'><script>fail()</script></main>")
    _, console = run(tmp_path, bad, 390, "return 0")
    assert len(console) == 2


def test_a_heading_sorts_a_word_finds_and_a_dot_says_what_it_means(tmp_path: Path, page: str):
    script = """
    const rows = () => [...document.querySelectorAll("#f1 tbody tr:not([hidden])")];
    const column = (number) => rows().map((row) => row.cells[number].textContent);
    const click = (number) => document.querySelector(`#f1 th:nth-child(${number})`).click();
    const found = [column(2)[0]];
    click(3), found.push(column(2));
    click(1), found.push(column(0));
    click(1), found.push(column(0));
    const field = document.querySelector("#classes input");
    field.value = "NAME 29,";
    field.dispatchEvent(new Event("input"));
    found.push(column(0));
    const dot = document.querySelector(".reliability circle");
    dot.dispatchEvent(new PointerEvent("pointerover", {bubbles: true, clientX: 380, clientY: 9}));
    found.push(document.getElementById("tip").textContent, document.documentElement.scrollWidth);
    return found;
    """
    found, _ = run(tmp_path, page, 390, script)
    assert found[0] == "0.00"
    assert found[1] == ["1.00"] * 25 + ["0.00"] * 5  # the largest numbers first
    assert found[2:4] == [sorted(NAMES), sorted(NAMES, reverse=True)]
    assert found[4] == [NAMES[29]]
    assert found[5].startswith("1 image: sure to 25%")
    assert found[6] == 390


def test_what_a_picture_says_when_it_is_pointed_at_is_all_in_its_box(tmp_path: Path, comparison: str):
    script = """
    const said = document.querySelector(".classes [data-tip]"), tip = document.getElementById("tip");
    said.dispatchEvent(new PointerEvent("pointerover", {bubbles: true, clientX: 380, clientY: 9}));
    const {left, right} = tip.getBoundingClientRect();
    return [tip.textContent.length > 90, tip.scrollWidth <= tip.clientWidth, left >= 0, right <= window.innerWidth];
    """
    assert run(tmp_path, comparison, 390, script) == ([True] * 4, [])
