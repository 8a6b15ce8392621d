"""The model card: whose the images and weights are that the models learnt from, and so what its licence may say.

The card's first lines are YAML in the form that the Hugging Face hub reads: https://huggingface.co/docs/hub/model-cards
"""

import re
from typing import Any

EMBEDDED = "data/flowers/images"  # the only images whose licence is known here: Quintet draws them itself
SOURCE, DRAWN = "data/weights/source/", "data/weights/source/images"  # starts, drawn images to learn them from
SCRATCH = "data/weights/scratch"
FREE = re.compile(r"\bapache-2\.0\) \(sha256 ", re.IGNORECASE)  # in the start of weights that are licensed as ours are


def describe_models(content: dict[str, Any]) -> dict[str, Any]:
    """Add to what the page shows what the card says beside it.

    Args:
        content: as the stage gathers it.
    Returns:
        The same, with `is_embedded` (the images), `is_ours` (all that the models learnt from) and `is_free` (all
        of that is ours, or licensed as ours is).
    """
    starts = [content["scores"][name]["start"] for name in content["models"]]
    source = content["source"]
    is_drawn = source["images"] == DRAWN and all(it["weights"] == SCRATCH for it in source["models"].values())
    is_embedded = content["images"] == EMBEDDED
    of_others = [it for it in starts if it != "scratch" and not (is_drawn and it.startswith(SOURCE))]
    is_free = is_embedded and all(map(FREE.search, of_others))
    return {**content, "is_embedded": is_embedded, "is_ours": is_embedded and not of_others, "is_free": is_free}
