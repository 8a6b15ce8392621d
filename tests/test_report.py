"""The page: whole, offline, of the models that voted, and honest about what was left out."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import report
from stages.report import gather, rank_classes, render_page
from stages.reporting.curves import AREA, plot_training
from stages.runtime.errors import UserError
from stages.scoring.class_tables import write_tables
from stages.scoring.voting import VOTES

MODELS = ["vgg_any", "cnn", "a.b-c"]  # in the order of the parameters
NAMES = ['<b>rose</b> & "co"', "iris's", "nan"]
SCORES = {"accuracy": 0.7, "loss": 1.2, "f1_macro": 0.6, "top5": 0.9, "ece": 0.1}
FACTS = {
    "n_classes": 3,
    "n_images": {"train": 15, "val": 3, "test": 4, "total": 22},
    **{"largest_class": 8, "smallest_class": 7, "n_exact_copies": 0, "n_near_copies": 0, "n_groups_of_copies": 0},
    **{"n_first_frame_only": 0, "width_px": {"min": 64.0, "median": 64.0, "max": 64.0}},
    "height_px": {"min": 40.0, "median": 48.5, "max": 1200.0},
    **{"n_rejected": {"total": 0, "damaged": 0}, "n_passed_over": {"total": 0, "hidden": 0}},
}
VOTE = {
    **SCORES,
    "val": SCORES,
    "voting": "linear_pool",
    "weights": dict(zip(MODELS, [0.0, 0.96, 0.04], strict=True)),
    "temperatures": dict.fromkeys(MODELS, 1.0),
    "best_member": "cnn",
}
COMPARISON = {
    "n_images": 4,
    "pairs": [{"a": "ensemble", "b": "cnn", "accuracy_difference": 0.0, "low": 0.0, "high": 0.0, "mcnemar_p": 1.0}],
    "votes": {kind: {"accuracy": 0.7, "loss": 1.2} for kind in VOTES},
}
WITHOUT_END = {"meta", "img", "input", "wbr"}


def history(*rows) -> pd.DataFrame:
    columns = ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "best"]
    return pd.DataFrame([[i, *row] for i, row in enumerate(rows, start=1)], columns=columns)


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    """A whole metrics folder of three classes, whose names would break a careless page."""
    folder = tmp_path_factory.mktemp("metrics")
    labels, answers = np.array([0, 0, 1, 2]), np.eye(3)[[0, 2, 1, 2]]
    write_tables(folder / "ensemble", "ensemble", labels, answers, NAMES)
    for model in MODELS:
        shutil.copytree(folder / "ensemble", folder / "models" / model)
        history((1.0, 0.5, 2.0, 0.25, 0), (0.5, 0.5, 1.0, 0.25, 1), (0.4, 0.5, 1.5, 0.25, 0)).to_csv(
            folder / "models" / model / "history.csv", index=False
        )
        content = {**SCORES, "val": SCORES, "start": "scratch", "n_parameters": 1_500_000}
        (folder / "models" / f"{model}.json").write_text(json.dumps(content))
    (folder / "models" / "removed.json").write_text("of a model that was taken out")
    (folder / "notes.json").write_text("the user's")
    (folder / "ensemble.json").write_text(json.dumps(VOTE))
    (folder / "comparison.json").write_text(json.dumps(COMPARISON))
    (folder / "dataset.json").write_text(json.dumps(FACTS))
    for name in ("samples.png", "class_counts.png"):
        Image.new("RGBA", (9, 9)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def html(metrics):
    return render_page(gather(metrics))


class Page(HTMLParser):
    """Collects the text, the resources, and the tags that are left open."""

    def __init__(self, html):
        super().__init__()
        self.text, self.resources, self.open = "", [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.resources += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in WITHOUT_END:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_no_network_and_every_link_has_its_target(html):
    page = Page(html)
    assert page.open == []
    assert all(name in page.text for name in NAMES)  # escaped
    assert all(re.match(r"data:image/|#", resource) for resource in page.resources)
    assert not re.search(r"https?:|<script|@import|url\(", html)
    assert all(f'id="{link[1:]}"' in html for link in page.resources if link.startswith("#"))


def test_every_model_has_its_scores_curves_and_confusion_matrix_in_the_order_of_the_vote(html):
    for part in (
        r'<th scope="row">([^<]+)<small>1.5 M parameters, from scratch',
        r'aria-label="accuracy of ([^"]+) by epoch"',
        r"<details><summary>([^<]+)<",
    ):
        assert re.findall(part, html) == MODELS
    assert re.findall('alt="Confusion matrix of ([^"]+)"', html) == ["ensemble", *MODELS]


def test_the_page_says_what_the_vote_is_and_that_its_validation_scores_are_cross_fitted(html):
    text = Page(html).text
    assert "3 classes; 15 images to train on,\n3 to validate and 4 to test." in text
    assert "The ensemble is the linear pool of 3 models, fitted on the validation split." in text
    assert "little more than cnn, calibrated" in text
    assert "linear pool (used)" in text
    assert "cross-fitted" in text


def test_a_pool_without_temperatures_shows_none(metrics, tmp_path):
    shutil.copytree(metrics, tmp_path / "metrics")
    pool = {**VOTE, "voting": "logarithmic_pool", "weights": dict.fromkeys(MODELS, 0.5)}
    del pool["temperatures"]
    (tmp_path / "metrics/ensemble.json").write_text(json.dumps(pool))
    text = Page(render_page(gather(tmp_path / "metrics"))).text
    assert "the logarithmic pool of 3 models" in text
    assert "logarithmic pool (used)" in text
    assert "0.500" in text


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["report", *map(str, arguments)])
    report.main()


def test_the_curves_of_all_models_stand_in_one_table_for_dvc(metrics, html, tmp_path, monkeypatch):
    run(monkeypatch, metrics, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == html  # the same metrics give the same bytes
    curves = pd.read_csv(metrics / "curves.csv")
    assert curves["model"].tolist() == [name for name in MODELS for _ in range(3)]
    assert curves["epoch"].tolist() == [1, 2, 3] * 3
    assert curves["val_loss"].tolist() == [2.0, 1.0, 1.5] * 3


def test_a_missing_file_is_named_with_the_stage_to_run(metrics, tmp_path, monkeypatch):
    shutil.copytree(metrics, tmp_path / "metrics")
    (tmp_path / "metrics/models/cnn/history.csv").unlink()
    with pytest.raises(UserError, match=r"cnn/history\.csv: .*`dvc repro report`"):
        run(monkeypatch, tmp_path / "metrics", tmp_path / "page.html")


def test_curves_share_their_vertical_scale_and_mark_the_best_epoch():
    low, high = history((1.0, 0, 1.0, 0.5, 0), (1.0, 0, 1.0, 1.0, 1)), history((2.0, 0, 2.0, 0.5, 1))
    first, second = plot_training({"low": low, "high": high}, n_classes=104)
    for one, other in zip(first["plots"], second["plots"], strict=True):
        assert one["ticks"] == other["ticks"]
    accuracy = first["plots"][0]
    assert AREA == {"left": 30, "right": 212, "top": 10, "bottom": 104}
    assert accuracy["val"] == "30.0,57.0 212.0,10.0"  # 0.5, then 1
    assert accuracy["best"] == (212, 10)
    assert (first["best"], first["n_epochs"]) == (2, 2)


def test_the_worst_class_comes_first():
    def table(*f1):
        return pd.DataFrame({"class": list("abc"), "f1": f1, "support": 2})

    ranked = rank_classes({"cnn": table(0.9, 0.5, 0.1), "ensemble": table(0.4, 0.4, 0.3)})
    assert [each["name"] for each in ranked] == ["c", "b", "a"]  # a and b tie; the mean of b is lower
    assert ranked[0] == {"name": "c", "support": 2, "f1": {"cnn": 0.1, "ensemble": 0.3}}


def test_what_was_left_out_of_the_folder_is_told(metrics):
    facts = FACTS | {"n_rejected": {"total": 7, "damaged": 4, "link": 3}, "n_passed_over": {"total": 2, "hidden": 2}}
    facts |= {"n_exact_copies": 5, "n_near_copies": 6, "n_groups_of_copies": 9, "n_first_frame_only": 1}
    page = " ".join(render_page(gather(metrics) | {"dataset": facts}).split())
    assert "22 images, 64 px wide and 40 to 1200 px (half of them up to 48) high" in page
    assert "5 are exact copies of another and 6 near copies" in page
    assert "<strong>7 files were left out</strong>" in page
    assert "damaged (4), link (3)." in page
    assert "2 files were passed over" in page
