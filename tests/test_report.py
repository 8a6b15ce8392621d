import csv
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.dataset.figures import draw_class_counts, draw_samples
from stages.report import PLOT, compare_in_words, plot_training, rank_classes, render_report
from stages.runtime.errors import UserError
from stages.scoring.confusion import confusion_frame, draw_confusion
from tests.imports import ROOT

MODELS = ["cnn", "vgg16", "resnet50", "vgg19_pretrained", "resnet50_pretrained"]
NAMES = ['<b>rose</b> & "co"', "iris's", "nan"]
SIX = {"accuracy": 0.7, "loss": 1.2, "f1_macro": 0.6, "top5_accuracy": 0.9, "ece": 0.1, "n_images": 4}
VAL = {**SIX, "n_images": 3}
COLUMNS = ["round", "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "best"]
FACTS = {
    "n_images": {"train": 15, "val": 3, "test": 4, "total": 22},
    **{"largest_class": 8, "smallest_class": 7, "n_exact_copies": 0, "n_near_copies": 0, "n_groups_of_copies": 0},
    **{"n_first_frame_only": 0, "width_px": {"min": 64.0, "median": 64.0, "max": 64.0}},
    "height_px": {"min": 40.0, "median": 48.5, "max": 1200.0},
    **{"n_rejected": {"total": 0, "damaged": 0}, "n_passed_over": {"total": 0, "hidden": 0}},
}
TAGS_WITHOUT_END = {"meta", "img", "input", "wbr"}


def write_csv(path, columns, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    """A whole metrics folder of three classes, whose names would break a careless page."""
    folder = tmp_path_factory.mktemp("metrics")
    confusion = confusion_frame(np.array([0, 0, 1, 2]), np.array([0, 2, 1, 2]), NAMES)
    for model in [*MODELS, "ensemble"]:
        (folder / model).mkdir()
        confusion.to_csv(folder / model / "confusion.csv")
        draw_confusion(confusion, model, folder / model / "confusion.png")
        per_class = [[name, 0.5, 0.5, 0.5, n_images] for name, n_images in zip(NAMES, (2, 1, 1), strict=True)]
        write_csv(folder / model / "per_class.csv", ["class", "precision", "recall", "f1", "support"], per_class)
    for model in MODELS:
        rows = [[1, 1, 0.1, 1.0, 0.5, 2.0, 0.25, 1], [1, 2, 0.1, 0.5, 0.5, 1.0, 0.25, 0]]
        write_csv(folder / model / "history.csv", COLUMNS, rows)
        content = {**SIX, "val": VAL, "start": "scratch", "n_parameters": 1_500_000}
        (folder / f"{model}.json").write_text(json.dumps(content))
    (folder / "ensemble.json").write_text(json.dumps(ensemble(0.02, 0.01, 0.03, 0.001)))
    counts = pd.DataFrame({"class": NAMES, "train": [4, 5, 6], "val": 1, "test": [2, 1, 1], "total": [7, 7, 8]})
    counts.to_csv(folder / "class_counts.csv", index=False)
    (folder / "dataset.json").write_text(json.dumps(FACTS))
    draw_class_counts(counts, folder / "class_counts.png")
    draw_samples([np.full((8, 9, 3), 25 * i, np.uint8) for i in range(10)], NAMES * 3 + ["$"], folder / "samples.png")
    return folder


def ensemble(difference, low, high, p):
    versus = {"accuracy_difference": difference, "low": low, "high": high, "mcnemar_p": p}
    vote = {"voting": "fitted", "weights": dict.fromkeys(MODELS, 0.2), "temperatures": dict.fromkeys(MODELS, 1.0)}
    ways = {"val": VAL, "equal": SIX, "fitted": SIX}
    return {**SIX, **vote, **ways, "best_member": "cnn", "vs_best_member": versus}


class Page(HTMLParser):
    """Collects the text, the resources, and the tags that are left open."""

    def __init__(self, html):
        super().__init__()
        self.text, self.resources, self.open = "", [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.resources += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in TAGS_WITHOUT_END:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_no_network(metrics):
    html = render_report(metrics)
    assert all(re.match(r"data:image/|#", resource) for resource in Page(html).resources)
    assert not re.search(r"https?:|<script|@import|url\(", html)


def test_every_tag_is_closed_and_every_link_has_its_target(metrics):
    html = render_report(metrics)
    page = Page(html)
    assert page.open == []
    assert all(f'id="{link[1:]}"' in html for link in page.resources if link.startswith("#"))


def test_every_model_has_its_scores_curves_and_confusion_matrix(metrics):
    html = render_report(metrics)
    for model in MODELS:
        assert f'<th scope="row">{model}<small>1.5 M parameters, from scratch' in html
        assert f'aria-label="accuracy of {model} by epoch"' in html
        assert f'alt="Confusion matrix of {model}"' in html
    assert 'alt="Confusion matrix of ensemble"' in html


def test_class_names_are_escaped(metrics):
    html = render_report(metrics)
    assert "<b>" not in html
    assert all(name in Page(html).text for name in NAMES)


def test_the_first_paragraph_counts_classes_and_images(metrics):
    assert "3 classes; 15 images to train on,\n3 to validate and 4 to test." in Page(render_report(metrics)).text


def test_the_same_metrics_give_the_same_bytes(metrics, tmp_path):
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for page in pages:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "stages.report", metrics, page]
        subprocess.run(command, check=True, cwd=tmp_path, env=environment)
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == pages  # no temporary file is left


def test_pictures_are_embedded_whole(metrics):
    assert render_report(metrics).count("data:image/png;base64,") == len(MODELS) + 2  # matrices, class counts
    with Image.open(metrics / "samples.png") as image:
        assert image.getpixel((0, 0))[3] == 0  # transparent: it lies on a light page and on a dark one


def test_a_missing_file_is_named(metrics):
    history = metrics / "cnn" / "history.csv"
    away = history.rename(metrics / "history.csv")
    with pytest.raises(UserError, match=r"cnn/history\.csv: .*No such file.*; run `dvc repro train@cnn`"):
        render_report(metrics)
    away.rename(history)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0.021, 0.004, 0.038, 0.0123), ["2.1 percentage points more", "+0.4 to +3.8", "p = 0.012", "is better."]),
        ((-0.02, -0.03, -0.01, 0.0001), ["2.0 percentage points less", "-3.0 to -1.0", "p < 0.001", "is worse."]),
        ((0.01, -0.01, 0.03, 0.4), ["cannot be told from noise"]),
        ((0.0, 0.0, 0.0, 1.0), ["exactly as accurate as", "cannot be told from noise"]),
        ((0.02, 0.001, 0.04, 0.06), ["borderline"]),
    ],
)
def test_only_interval_and_test_together_call_a_difference_real(numbers, words):
    sentence = compare_in_words(ensemble(*numbers))
    assert all(word in sentence for word in words)


def history(*rows):
    return [dict(zip(COLUMNS, map(str, (1, i, 0.1, *row)), strict=True)) for i, row in enumerate(rows, start=1)]


def test_curves_share_their_vertical_scale_and_mark_the_best_epoch():
    low, high = history((1.0, 0, 1.0, 0.5, 0), (1.0, 0, 1.0, 1.0, 1)), history((2.0, 0, 2.0, 0.5, 1))
    first, second = plot_training({"low": low, "high": high}, n_classes=104)
    assert [plot["ticks"] for plot in first["plots"]] == [plot["ticks"] for plot in second["plots"]]
    accuracy = first["plots"][0]
    assert PLOT == {"left": 30, "right": 212, "top": 10, "bottom": 104}
    assert accuracy["val"] == "30.0,57.0 212.0,10.0"  # 0.5, then 1
    assert accuracy["best"] == (212, 10)
    assert (first["best"], first["n_epochs"]) == ("2", 2)


def test_an_exploded_first_epoch_does_not_press_the_curves_flat():
    rows = history((1e6, 0, float("nan"), 0.5, 0), (1.0, 0, 1.0, 0.5, 1))
    (curve,) = plot_training({"cnn": rows}, n_classes=3)
    loss = curve["plots"][1]
    assert float(loss["ticks"][-1][1]) == 2.5  # twice ln 3 is 2.2
    assert loss["val"].split() == ["212.0,66.4"]  # the nan is left out; 1.0 of 2.5 is drawn


def test_the_worst_class_comes_first():
    def rows(a, b, c):
        return [{"class": name, "f1": str(f1), "support": "2"} for name, f1 in zip("abc", (a, b, c), strict=True)]

    ranked = rank_classes({"cnn": rows(0.9, 0.5, 0.1), "ensemble": rows(0.4, 0.4, 0.3)})
    assert [each["name"] for each in ranked] == ["c", "b", "a"]  # a and b tie; the mean of b is lower
    assert ranked[0]["f1"] == {"cnn": 0.1, "ensemble": 0.3}


def test_what_was_left_out_of_the_folder_is_told(metrics, tmp_path):
    shutil.copytree(metrics, tmp_path / "metrics")
    facts = FACTS | {"n_rejected": {"total": 7, "damaged": 4, "link": 3}, "n_passed_over": {"total": 2, "hidden": 2}}
    facts |= {"n_exact_copies": 5, "n_near_copies": 6, "n_groups_of_copies": 9, "n_first_frame_only": 1}
    (tmp_path / "metrics/dataset.json").write_text(json.dumps(facts))
    page = " ".join(render_report(tmp_path / "metrics").split())
    assert "22 images, 64 px wide and 40 to 1200 px (half of them up to 48) high" in page
    assert "5 are exact copies of another and 6 near copies" in page
    assert "<strong>7 files were left out</strong>" in page
    assert "a damaged image (4)," in page
    assert "2 files were passed over" in page


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps(FACTS | {"n_images": {"train": 1}})])
def test_facts_of_other_images_are_refused(metrics, tmp_path, content):
    shutil.copytree(metrics, tmp_path / "metrics")
    (tmp_path / "metrics/dataset.json").write_text(content)
    with pytest.raises(UserError, match=r"dataset\.json: expected .*run `dvc repro split`"):
        render_report(tmp_path / "metrics")
