"""The model card: what the models are, were made from, are worth and must not be used for.

Its first lines are YAML in the form that the Hugging Face hub reads: https://huggingface.co/docs/hub/model-cards
"""

import io
from typing import Any

from ruamel.yaml import YAML

EMBEDDED = "data/flowers/images"  # the only images whose licence is known here: Quintet draws them itself
OURS = ("scratch", "data/weights/drawn/")  # starts that were trained on nothing but drawn images
METRICS = {"accuracy": "Accuracy", "f1_macro": "Macro F1", "top5": "Top-5 accuracy", "loss": "Cross-entropy"}
HUB_METRICS = {"f1_macro": "f1", "top5": "accuracy"}  # the hub's name, where it is another


def describe_models(content: dict[str, Any]) -> dict[str, Any]:
    """Add to what the page shows what the card says beside it.

    Args:
        content: as the stage gathers it.
    Returns:
        The same, with `front_matter` (YAML), `is_embedded`, `is_ours` (all that the models learnt from), `licence`.
    """
    starts = [content["scores"][name]["start"] for name in content["models"]]
    is_embedded = content["images"] == EMBEDDED
    is_ours = is_embedded and all(start.startswith(OURS) for start in starts)
    licence = "apache-2.0" if is_ours else "unknown"
    text = io.StringIO()
    YAML().dump(_front_matter(content, licence, is_embedded), text)
    return {
        **content,
        "front_matter": text.getvalue(),
        "is_embedded": is_embedded,
        "is_ours": is_ours,
        "licence": licence,
    }


def _front_matter(content: dict[str, Any], licence: str, is_embedded: bool) -> dict[str, Any]:
    names = {**dict.fromkeys(content["models"]), "ensemble": "vote"}
    dataset = {
        "name": "Drawn flowers, 104 classes" if is_embedded else content["images"],
        "type": "drawn-flowers" if is_embedded else "image-folder",
        "split": "test",
    }
    return {
        "license": licence,
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "ensemble", "quintet"],
        "metrics": ["accuracy", "f1"],
        "model-index": [
            {
                "name": f"quintet-{title or name}",
                "results": [
                    {
                        "task": {"type": "image-classification", "name": "Image classification"},
                        "dataset": dict(dataset),
                        "metrics": [
                            {"type": HUB_METRICS.get(key, key), "name": title_of, "value": content["scores"][name][key]}
                            for key, title_of in METRICS.items()
                        ],
                    }
                ],
            }
            for name, title in names.items()
        ],
    }
