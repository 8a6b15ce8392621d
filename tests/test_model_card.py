"""The model card: what the Hugging Face hub reads of it, and what it owns up to."""

import pytest
from huggingface_hub import ModelCard

from stages import extract
from stages.reporting.model_card import describe_models
from stages.reporting.pages import render

ROW = {"loss": 0.5, "f1_macro": 0.6, "top5": 0.9, "ece": 0.01, "start": "scratch", "n_parameters": 1234}
SCORES = {
    "cnn": {**ROW, "accuracy": 0.7},
    "ensemble": {**ROW, "accuracy": 0.75, "voting": "equal", "weights": {"cnn": 1.0}, "best_member": "cnn"},
}
SOURCE = {"images": "data/weights/source/images", "models": {"vgg19": {"weights": "data/weights/scratch"}}}
CONTENT = {
    "scores": SCORES,
    "models": ["cnn"],
    "images": "data/flowers/images",
    "source": SOURCE,
    "verdict": "The vote is right.",
    "start_in_words": lambda row: "equal vote of 1",
    "comparison": {"intervals": {name: {"accuracy": [0.7, 0.8], "f1_macro": [0.5, 0.7]} for name in SCORES}},
    "dataset": {
        "n_images": {"total": 9, "train": 5, "val": 2, "test": 2},
        **{"n_classes": 3, "smallest_class": 2, "largest_class": 4},
    },
    "provenance": {"fingerprint": "0123456789abcdef"},
}


def write_card(**changes) -> str:
    return render("model_card.md", describe_models({**CONTENT, **changes}))


def start_from(weights: str) -> dict:
    return {"scores": {**SCORES, "cnn": {**SCORES["cnn"], "start": weights}}}


PACKAGED = f"{extract.SOURCE} (sha256 0123456789abcdef)"
FROM_SOURCE = start_from("data/weights/source/models/vgg19.safetensors")


def test_the_hub_reads_the_scores_of_the_vote():
    card = ModelCard(write_card())
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found == {"Accuracy": 0.75, "Macro F1": 0.6, "Top-5 accuracy": 0.9, "Cross-entropy": 0.5}
    assert (card.data.model_name, card.data.pipeline_tag) == ("quintet", "image-classification")
    assert "| `cnn` | 0.7000 (0.700 to 0.800) | 0.6000 (0.500 to 0.700) |" in card.text


@pytest.mark.parametrize(
    ("changes", "licence"),
    [
        ({}, "apache-2.0"),
        ({"images": "/my/photos"}, "unknown"),
        (start_from("data/weights/timm/vgg19.safetensors"), "unknown"),
        (FROM_SOURCE, "apache-2.0"),
        ({**FROM_SOURCE, "source": {**SOURCE, "images": "/my/photos"}}, "unknown"),
        ({**FROM_SOURCE, "source": {**SOURCE, "models": {"vgg19": {"weights": "their.safetensors"}}}}, "unknown"),
        (start_from("scratch/theirs.safetensors"), "unknown"),
        (start_from(PACKAGED), "apache-2.0"),
        ({**start_from(PACKAGED), "images": "/my/photos"}, "unknown"),
        (start_from("timm vgg19_bn.tv_in1k (bsd-3-clause) (sha256 0123)"), "unknown"),
    ],
    ids=[
        *("drawn", "own images", "of others", "of drawn images", "of own images", "of others before", "of scratch/"),
        *("packaged", "packaged, own images", "another licence"),
    ],
)
def test_a_licence_is_claimed_only_where_that_of_all_parts_is_known(changes: dict, licence: str):
    card = ModelCard(write_card(**changes))
    assert card.data.license == licence
    assert ("licence is not known here" in card.text) == ("images" in changes)
    is_drawn = licence != "unknown" and "ImageNet" not in card.text
    assert ("**Photographs.**" in card.text) == is_drawn
