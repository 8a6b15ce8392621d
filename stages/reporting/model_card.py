"""The model card: what the models are, were made from, are worth and must not be used for.

Its first lines are YAML in the form that the Hugging Face hub reads: https://huggingface.co/docs/hub/model-cards
"""

import io
import re
from typing import Any

from ruamel.yaml import YAML

EMBEDDED = "data/flowers/images"  # the only images whose licence is known here: Quintet draws them itself
SOURCE, DRAWN = "data/weights/source/", "data/weights/source/images"  # starts, drawn images to learn them from
SCRATCH = "data/weights/scratch"
FREE = re.compile(r"\bapache-2\.0\) \(sha256 ", re.IGNORECASE)  # in the start of weights that are licensed as ours are
METRICS = {  # the hub's names of ours, and their titles
    "accuracy": ("accuracy", "Accuracy"),
    "f1_macro": ("f1", "Macro F1"),
    "top5": ("top_5_accuracy", "Top-5 accuracy"),
    "loss": ("loss", "Cross-entropy"),
}


def describe_models(content: dict[str, Any]) -> dict[str, Any]:
    """Add to what the page shows what the card says beside it.

    Args:
        content: as the stage gathers it.
    Returns:
        The same, with `front_matter` (YAML), `is_embedded`, `is_ours` (all that the models learnt from) and `is_free`
        (all of that is ours, or licensed as ours is).
    """
    starts = [content["scores"][name]["start"] for name in content["models"]]
    source = content["source"]
    is_drawn = source["images"] == DRAWN and all(it["weights"] == SCRATCH for it in source["models"].values())
    is_embedded = content["images"] == EMBEDDED
    of_others = [it for it in starts if it != "scratch" and not (is_drawn and it.startswith(SOURCE))]
    is_free = is_embedded and all(map(FREE.search, of_others))
    text = io.StringIO()
    YAML().dump(_front_matter(content, "apache-2.0" if is_free else "unknown", is_embedded), text)
    known = {"is_embedded": is_embedded, "is_ours": is_embedded and not of_others, "is_free": is_free}
    return {**content, "front_matter": text.getvalue(), **known}


def _front_matter(content: dict[str, Any], licence: str, is_embedded: bool) -> dict[str, Any]:
    vote = content["scores"]["ensemble"]
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {
            "name": "Drawn flowers, 104 classes" if is_embedded else content["images"],
            "type": "drawn-flowers" if is_embedded else "image-folder",
            "split": "test",
        },
        "metrics": [{"type": kind, "name": title, "value": vote[key]} for key, (kind, title) in METRICS.items()],
    }
    return {
        "license": licence,
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "ensemble", "quintet"],
        "metrics": ["accuracy", "f1"],
        "model-index": [{"name": "quintet", "results": [result]}],  # the hub's reader knows one model a card: the vote
    }
