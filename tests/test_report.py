"""The page and the card: complete, offline, with all members, and with everything that was left out."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from stages import extract, report
from stages.report import gather, rank_classes
from stages.reporting.class_tables import write_tables
from stages.reporting.curves import AREA, plot_reliability, plot_selection, plot_training
from stages.reporting.mistakes import Answers, show_attention, show_mistakes, show_pairs
from stages.reporting.model_card import describe_models
from stages.reporting.page import render
from stages.reporting.pictures import lay_over
from stages.reporting.provenance import compare_parameters, list_copies
from stages.runtime.errors import UserError
from stages.scoring.mistakes import write_attention
from stages.scoring.predictions import Predictions, write_predictions
from stages.scoring.voting import VOTES
from tests.repository import ROOT

MODELS = ["vgg_any", "cnn", "a.b-c"]  # in the order of the parameters
NAMES = ['<b>rose</b> & "co"', "iris's", "nan"]
LABELS = np.array([0, 0, 1, 2])
ANSWERS = np.array([0, 2, 1, 2])
SCORES = {"accuracy": 0.7, "loss": 1.2, "f1_macro": 0.6, "ece": 0.1, "ece_expected": 0.03, "ece_bound": 0.05}
FACTS = {
    "n_classes": 3,
    "n_images": {"train": 15, "val": 3, "test": 4, "total": 22},
    **{"largest_class": 8, "smallest_class": 7, "n_exact_copies": 0, "n_near_copies": 0, "n_groups_of_copies": 0},
    **{"n_first_frame_only": 0, "width_px": {"min": 64.0, "median": 64.0, "max": 64.0}},
    "height_px": {"min": 40.0, "median": 48.5, "max": 1200.0},
    **{"n_rejected": {"total": 0, "damaged": 0}, "n_passed_over": {"total": 0, "hidden": 0}},
    "n_fixed": {"relabelled": 0, "relabelled_in_test": 0, "dropped": 0, "marked_in_test": 0, "confirmed": 0},
}
AUDIT = {
    **{"n_pictures": 22, "accuracy": 0.5, "temperature": 1.1, "noise_share": 0.05, "min_pictures": 8},
    **{"n_judged": 1, "n_ranked_only": 1, "expected_precision": 0.75, "backbone": "data/weights/<b>.safetensors"},
    "overlaps": [{"a": "folder 0", "b": "folder 1", "a_as_b": 0.4, "b_as_a": 0.5}],
    "alike": [{"files": ["a/<1>.jpg", "b/2.jpg"], "classes": ["folder 0", "folder 1"]}],
}
ISSUES = """file,given,suggested,score,split,judged
a/<1>.jpg,folder 0,folder 1,0.98,test,yes
b/2.jpg,folder 2,folder 1,0.6,train,no
"""
FIXES = "file,split,given,fixed\n"
VOTE = {
    **SCORES,
    "val": SCORES,
    "voting": "linear_pool",
    "weights": dict(zip(MODELS, [0.0, 0.96, 0.04], strict=True)),
    "best_member": "cnn",
    "sets": {"95": {"coverage": 0.9512, "low": 0.93, "high": 0.97, "mean_size": 1.75}},
    "unlike": 0.0125,
}
NO_DIFFERENCE = {"accuracy_difference": 0.0, "low": 0.0, "high": 0.0, "mcnemar_p": 1.0}
ALL = ["ensemble", *MODELS]
BINS = [{"confidence": 0.25, "accuracy": 0.5, "n_images": 1}, {"confidence": 1.0, "accuracy": 0.75, "n_images": 3}]
CALIBRATION = {
    "temperature": 1.5,
    "ece": 0.1,
    "tempered_ece": 0.1,
    "tempered_ece_bound": 0.2,
    "bins": BINS,
    "tempered_bins": BINS,
}
WITHOUT = {"accuracy": 0.7, "loss": 1.2, "accuracy_lost": 0.0, "loss_gained": 0.0}
COMPARISON = {
    "n_images": 4,
    "n_groups": 3,
    "intervals": {name: {"accuracy": [0.2, 1.0], "f1_macro": [0.1, 0.9]} for name in ALL},
    "pairs": [
        {"a": one, "b": other, **NO_DIFFERENCE, "holm_p": 1.0} for i, one in enumerate(ALL) for other in ALL[i + 1 :]
    ],
    "agreement": {one: dict.fromkeys(ALL, 1.0) for one in ALL},
    "calibration": dict.fromkeys(ALL, CALIBRATION),
    "votes": {kind: {"accuracy": 0.7, "loss": 1.2} for kind in VOTES},
    "over_equal": NO_DIFFERENCE,
    "without": dict.fromkeys(MODELS, WITHOUT),
    "selection": {
        "surest": [
            {"at_least": 0.9, "share": share, "n_images": 2, "accuracy": 0.875, "low": 0.2, "high": 1.0}
            for share in (0.5, 0.8125, 0.9, 1.0)
        ],
        "curve": [[0.5, 1.0], [1.0, 0.75]],
    },
}
DEFAULT = ROOT / "recipes" / "default.yaml"
SOURCE = ROOT / "data" / "weights" / "source" / "params.yaml"
COPIES = {"a/1.jpg": "train,g", "a/2.jpg": "train,g", **dict.fromkeys(["b/<3>.jpg", "b/4.jpg", "b/5.jpg"], "test,h")}
MANIFEST = "".join(f"{path},{path[0]},{rest}\n" for path, rest in {**COPIES, "b/6.jpg": "val,i"}.items())
WITHOUT_END = {"meta", "img", "input", "wbr", "link"}


def history(*rows) -> pd.DataFrame:
    columns = ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "best"]
    return pd.DataFrame([[i, *row] for i, row in enumerate(rows, start=1)], columns=columns)


def write_results(folder: Path, labels: np.ndarray, answers: np.ndarray, names: list[str], size_px: int) -> None:
    """Write complete folders metrics/ and data/ of an ensemble with identical members."""
    metrics, data, probabilities = folder / "metrics", folder / "data", np.eye(len(names))[answers]
    write_tables(metrics / "ensemble", "ensemble", labels, probabilities, names)
    predictions = Predictions(probabilities, labels, labels, probabilities, labels, labels, np.array(names))
    write_predictions(data / "vote.npz", predictions)
    for model in MODELS:
        shutil.copytree(metrics / "ensemble", metrics / "models" / model)
        history((1.0, 0.5, 2.0, 0.25, 0), (0.5, 0.5, 1.0, 0.25, 1), (0.4, 0.5, 1.5, 0.25, 0)).to_csv(
            metrics / "models" / model / "history.csv", index=False
        )
        content = {**SCORES, "val": SCORES, "start": "scratch", "n_parameters": 1_500_000}
        (metrics / "models" / f"{model}.json").write_text(json.dumps(content))
        write_predictions(data / "predictions" / f"{model}.npz", predictions)
        rows = np.flatnonzero(labels != answers)[:5]
        write_attention(data / "attention" / f"{model}.npz", rows, np.full((len(rows), 4, 4), 255, np.uint8))
    for path in ("models/removed.json", "models/removed/history.csv", "models/notes.md"):
        (metrics / path).parent.mkdir(exist_ok=True)
        (metrics / path).write_text("of a model that was taken out, and the user's own")
    for name, content in (("ensemble", VOTE), ("comparison", COMPARISON), ("dataset", FACTS)):
        (metrics / f"{name}.json").write_text(json.dumps(content))
    for name in ("samples.png", "class_counts.png"):
        Image.new("RGBA", (900, 9)).save(metrics / name)
    packed = data / "packed" / "32"
    (packed / "test").mkdir(parents=True)
    classes = [f"folder {i}" for i in range(len(names))]  # different from `names`, which are the readable names
    (packed / "classes.json").write_text(json.dumps(classes))
    images = np.random.default_rng(1).integers(0, 256, (len(labels), size_px, size_px, 3), dtype=np.uint8)
    np.save(packed / "test" / "images.npy", images)
    np.save(packed / "test" / "labels.npy", labels)
    (metrics / "audit.json").write_text(json.dumps(AUDIT))
    (metrics / "label_issues.csv").write_text(ISSUES)
    shown, alike = np.array([[0, 1, 2, -1], [2, -1, -1, -1]]), np.array([[0, 2]])
    np.savez(data / "audit.npz", images=images[:3], shown=shown, alike=alike)
    (data / "fixes.csv").write_text(FIXES)
    (data / "manifest.csv").write_text(f"path,class,split,group\n{MANIFEST}")
    (data / "rejected.csv").write_text("path,reason,detail\n<i>.jpg,damaged,truncated\n")
    (data / "code").mkdir()
    (data / "code" / "versions.txt").write_text("numpy 2.4.6 2.5.5\ntorch 2.15.0\n")


def gather_from(folder: Path) -> dict:
    return gather(folder / "metrics", folder / "data", ROOT / "params.yaml", DEFAULT, SOURCE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The results for three classes whose names would break a careless page."""
    folder = tmp_path_factory.mktemp("results")
    write_results(folder, LABELS, ANSWERS, NAMES, size_px=36)
    return folder


@pytest.fixture(scope="module")
def content(folder):
    return gather_from(folder)


@pytest.fixture(scope="module")
def html(content):
    return render("report.html", content)


class Page(HTMLParser):
    """Collect the text, the resources, and unclosed tags."""

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
    assert all(re.match(r"data:|#", resource) for resource in page.resources)
    assert not re.search(r"https?:|<script[^>]|@import|url\(", html)
    assert "default-src 'none'; img-src data:;" in html
    assert all(f'id="{link[1:]}"' in html for link in page.resources if link.startswith("#"))


def test_every_model_has_its_scores_curves_and_confusion_matrix_in_the_order_of_the_vote(html):
    for part in (
        r'<th scope="row">([^<]+)<small>1.5 M parameters, from scratch',
        r'aria-label="accuracy of ([^"]+) by epoch"',
        r"<details><summary>([^<]+)</summary><label",
        r'aria-label="Reliability of ((?!ensemble)[^"]+)"',
    ):
        assert re.findall(part, html) == MODELS
    assert re.findall('Confusion matrix of ([^"]+)"', html) == ["ensemble", *MODELS]


def test_the_page_says_what_the_vote_is_and_that_its_validation_scores_are_cross_fitted(html):
    text = " ".join(Page(html).text.split())
    for words in (
        "70.0 % of 4 test images",
        "linear pool of 3 models",
        "little more than a calibrated cnn",
        "(used)",
        "cross-fitted",
    ):
        assert words in text


def test_page_and_card_say_when_the_vote_should_not_answer(content, html):
    text = " ".join(Page(html).text.split())
    for words in (
        "95 %95.1 %93.0 % to 97.0 %1.75",
        "81.2 %0.9000.8750",
        "1.2 % of the test images are marked as unlike",
    ):
        assert words in text.replace("\n", "")
    card = " ".join(write_card(content).text.split())
    for words in (
        "1.2 % of the test pictures are",
        "95.1 % at 95 % (mean size 1.8)",
        "On the 81 % of test pictures",
    ):
        assert words in card
    few = {**content, "scores": content["scores"] | {"ensemble": VOTE | {"sets": {}}}}
    assert "--coverage" not in render("report.html", few) + write_card(few).text


def test_a_vote_without_mistakes_and_members_without_maps_have_a_page(tmp_path):
    write_results(tmp_path, LABELS, LABELS, NAMES, size_px=64)
    html = render("report.html", gather_from(tmp_path))
    assert Page(html).open == []
    assert "made no mistake" in html
    assert "Grad-CAM" not in html


def test_classes_may_be_called_as_the_columns_of_tables(tmp_path):
    write_results(tmp_path, LABELS, LABELS[::-1], ["class", "actual", "count"], size_px=36)
    content = gather_from(tmp_path)
    assert sorted(each["name"] for each in content["classes"]) == ["actual", "class", "count"]
    assert {content["pairs"][0][key] for key in ("actual", "predicted")} <= {"actual", "class", "count"}


def run(monkeypatch, folder):
    arguments = [folder / "metrics", folder / "data", DEFAULT, SOURCE, "--params", ROOT / "params.yaml"]
    monkeypatch.setattr("sys.argv", ["report", *map(str, arguments)])
    report.main()


def test_the_stage_writes_page_short_version_card_and_the_curves_for_dvc(folder, html, monkeypatch):
    run(monkeypatch, folder)
    metrics = folder / "metrics"
    assert (metrics / "report.html").read_text(encoding="utf-8") == html  # the same results give the same bytes
    assert {path.name for path in metrics.glob("models/[rn]*")} == {"notes.md"}  # the files of `removed` are gone
    curves = pd.read_csv(metrics / "curves.csv")
    assert curves["model"].tolist() == [name for name in MODELS for _ in range(3)]
    assert curves["epoch"].tolist() == [1, 2, 3] * 3
    assert curves["val_loss"].tolist() == [2.0, 1.0, 1.5] * 3
    short = (metrics / "report.md").read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[1:3] for line in short if line.startswith("| `")] == [["0.7000", "0.200 to 1.000"]] * 3


def test_a_missing_file_is_named_with_the_stage_to_run(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "results")
    (tmp_path / "results/metrics/models/cnn/history.csv").unlink()
    with pytest.raises(UserError, match=r"cnn/history\.csv: .*`dvc repro report`"):
        run(monkeypatch, tmp_path / "results")


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


def test_what_was_left_out_of_the_folder_is_told(content):
    facts = FACTS | {"n_rejected": {"total": 7, "damaged": 4, "link": 3}, "n_passed_over": {"total": 2, "hidden": 2}}
    facts |= {"n_exact_copies": 5, "n_near_copies": 6, "n_groups_of_copies": 9, "n_first_frame_only": 1}
    page = " ".join(render("report.html", {**content, "dataset": facts}).split())
    assert "22 images, 64 px wide and 40 to 1200 px (half of them up to 48) high" in page
    assert "5 images are exact copies of another image and 6 are near copies" in page
    assert "<strong>7 files were left out</strong>" in page
    assert "damaged (4), link (3)." in page
    assert "2 files were ignored" in page
    assert "&lt;i&gt;.jpg" in page
    assert "b/&lt;3&gt;.jpg, b/4.jpg, b/5.jpg" in page


def test_labels_that_look_wrong_are_shown_with_both_classes_and_pictures_of_the_suggested_one(html):
    text = " ".join(Page(html).text.split())
    for words in (
        "2 of 22 labels are in metrics/label_issues.csv; 1 of them, in classes of fewer than 8 pictures, are ranked",
        "75 % of the others are expected to be wrong",
        "about half of the labels on such lists are wrong (Northcutt et al. 2021)",
        "a/<1>.jpg, test, 98 %",
        "b/2.jpg, train, 60 %, ranked only",
    ):
        assert words in text
    issues = re.search('id="issues">(.*?)</ul>', html, re.DOTALL)[1]
    assert "folder" not in issues  # classes have readable names
    assert issues.count("<img") == 2 + 2  # each picture, and two neighbours of the first
    assert "labels_fixed.csv gives" not in text


def test_the_test_score_stands_there_with_the_labels_as_given_and_without_marked_pictures(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "results")
    data = tmp_path / "results/data"
    files = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]  # classes 0 0 1 2, answers 0 2 1 2
    rows = [f"{file},{NAMES[2]},test,{i}" for i, file in enumerate(files)]
    (data / "manifest.csv").write_text("\n".join(["path,class,split,group", "t.jpg,nan,train,x", *rows]))
    fixes = "t.jpg,train,folder 2,\nb.jpg,test,folder 0,\nd.jpg,test,folder 1,folder 2\n"
    (data / "fixes.csv").write_text(FIXES + fixes)
    content = gather_from(tmp_path / "results")
    assert content["fixed"]["accuracies"]["cnn"] == {"reported": 0.75, "as_given": 0.5, "without_marked": 1.0}
    assert (content["fixed"]["n_relabelled"], content["fixed"]["n_marked"]) == (1, 1)
    facts = FACTS | {"n_fixed": {**FACTS["n_fixed"], "relabelled": 1, "dropped": 1, "marked_in_test": 1}}
    text = " ".join(Page(render("report.html", {**content, "dataset": facts})).text.split())
    assert "gives 1 test pictures another class, and marks 1" in text
    assert "0.75000.50001.0000" in text  # a row of the table


PROBABILITIES = {
    "ensemble": np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]),
    "cnn": np.array([[0.3, 0.7], [0.8, 0.2], [0.1, 0.9], [0.4, 0.6]]),
}
ANSWERED = Answers(np.zeros((4, 36, 36, 3), np.uint8), np.array([1, 1, 1, 0]), np.array(["no", "yes"]), PROBABILITIES)


def test_the_surest_mistake_of_the_vote_comes_first_with_what_each_says():
    first, second = show_mistakes(ANSWERED)
    assert [each["actual"] for each in (first, second)] == ["yes", "yes"]
    assert first["said"] == [
        {"name": "ensemble", "answer": "no", "probability": 0.9, "right": False},
        {"name": "cnn", "answer": "no", "probability": 0.8, "right": False},
    ]
    assert [said["right"] for said in second["said"]] == [False, True]


def test_a_pair_of_classes_shows_what_was_confused_first():
    (pair,) = show_pairs(ANSWERED)
    assert (pair["actual"], pair["predicted"]) == ("yes", "no")
    assert [[each["wrong"] for each in pictures] for pictures in pair["pictures"]] == [[True, True, False], [False]]


def test_maps_are_shown_of_mistakes_that_the_vote_makes_as_well():
    maps = {1: np.full((4, 4), 255, np.uint8), 3: np.full((4, 4), 255, np.uint8)}
    (shown,) = show_attention(ANSWERED, "cnn", maps, 32)
    assert (shown["actual"], shown["answer"], shown["probability"]) == ("yes", "no", 0.8)


def test_a_map_is_bright_where_the_network_looked():
    overlay = lay_over(np.full((96, 96, 3), 128, np.uint8), np.array([[0, 255], [0, 255]], np.uint8)).astype(int)
    assert (overlay[:, 80].sum(axis=1) > overlay[:, 10].sum(axis=1) + 100).all()


def test_parameters_that_differ_from_the_default_stand_first(tmp_path):
    (tmp_path / "default.yaml").write_text("seed: 1\nmodels: {cnn: {lr: 1.0e-3, phases: []}}\n")
    (tmp_path / "params.yaml").write_text("seed: 1\nmodels: {cnn: {lr: 0.002, phases: []}, sixth: {lr: 1}}\n")
    rows = compare_parameters(tmp_path / "params.yaml", tmp_path / "default.yaml")
    assert [tuple(row.values()) for row in rows] == [
        ("models.cnn.lr", "0.002", "0.001", True),
        ("models.sixth.lr", "1", "", True),
        ("seed", "1", "1", False),
        ("models.cnn.phases", "[]", "[]", False),
    ]


def test_the_largest_group_of_copies_comes_first(folder):
    groups = list_copies(pd.read_csv(folder / "data/manifest.csv"))
    assert groups == [
        {"split": "test", "paths": ["b/<3>.jpg", "b/4.jpg", "b/5.jpg"]},
        {"split": "train", "paths": ["a/1.jpg", "a/2.jpg"]},
    ]


def test_the_surest_images_stand_left_and_an_accuracy_of_1_on_top():
    plot = plot_selection([[0.5, 1.0], [1.0, 0.75]])
    assert plot["ticks"] == [(104, "0.7"), (57, "0.85"), (10, "1")]
    assert plot["points"] == "121.0,10.0 212.0,88.3"  # 104 - 94 * 0.05 / 0.3


def test_a_dot_stands_at_its_confidence_and_accuracy():
    first, second = plot_reliability(COMPARISON["calibration"])[0]["before"]
    assert (first["x"], first["y"]) == (58.5, 71.0)  # 26 + 130 / 4, 136 - 130 / 2
    assert (second["x"], second["y"]) == (156.0, 38.5)
    assert second["radius"] == pytest.approx(first["radius"] * 3**0.5, abs=0.1)


def write_card(content: dict, start: str = "scratch", **changes) -> ModelCard:
    scores = content["scores"] | {"cnn": content["scores"]["cnn"] | {"start": start}}
    return ModelCard(render("model_card.md", describe_models({**content, "scores": scores, **changes})))


def test_the_hub_reads_the_scores_of_the_vote(content):
    card = write_card(content)
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found == {"Accuracy": 0.7, "Macro F1": 0.6, "Cross-entropy": 1.2}  # no top-5 for three classes
    assert (card.data.model_name, card.data.pipeline_tag) == ("quintet", "image-classification")
    assert "| `cnn` | 0.7000 (0.200 to 1.000) | 0.6000 (0.100 to 0.900) |" in card.text


def test_the_card_says_how_many_bits_of_wide_grey_pictures_count_where_there_are_any(content):
    assert "bits are used" not in write_card(content).text
    assert " 12 bits are used," in write_card(content, dataset={**content["dataset"], "grey_bits": 12}).text


PACKAGED = f"{extract.SOURCE} (sha256 0123456789abcdef)"
FROM_SOURCE = "data/weights/source/models/vgg19.safetensors"
DRAWN = {"images": "data/weights/source/images", "models": {"vgg19": {"weights": "data/weights/scratch"}}}


@pytest.mark.parametrize(
    ("changes", "licence"),
    [
        ({}, "apache-2.0"),
        ({"images": "/my: photos"}, "unknown"),
        ({"start": "data/weights/timm/vgg19.safetensors"}, "unknown"),
        ({"start": FROM_SOURCE, "source": DRAWN}, "apache-2.0"),
        ({"start": FROM_SOURCE, "source": {**DRAWN, "images": "/my/photos"}}, "unknown"),
        ({"start": FROM_SOURCE, "source": {**DRAWN, "models": {"vgg19": {"weights": "their.safetensors"}}}}, "unknown"),
        ({"start": "scratch/theirs.safetensors"}, "unknown"),
        ({"start": PACKAGED}, "apache-2.0"),
        ({"start": PACKAGED, "images": "/my/photos"}, "unknown"),
        ({"start": "timm vgg19_bn.tv_in1k (bsd-3-clause) (sha256 0123)"}, "unknown"),
    ],
    ids=[
        *("drawn", "own images", "of others", "of drawn images", "of own images", "of others before", "of scratch/"),
        *("packaged", "packaged, own images", "another licence"),
    ],
)
def test_a_licence_is_claimed_only_where_that_of_all_parts_is_known(content, changes: dict, licence: str):
    card = write_card(content, **changes)
    assert card.data.license == licence
    assert ("licence is not known here" in card.text) == ("images" in changes)
    is_drawn = licence != "unknown" and changes.get("start") != PACKAGED
    assert ("**Photographs.**" in card.text) == is_drawn
