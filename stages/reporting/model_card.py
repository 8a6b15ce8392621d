"""The model card: the origin of images and weights, and the licence that follows from it.

The first lines of the card are YAML in the format of the Hugging Face hub: https://huggingface.co/docs/hub/model-cards
"""

import re
from typing import Any

EMBEDDED = "data/flowers/images"  # the only images with a known licence: Quintet draws them
SOURCE, DRAWN = "data/weights/source/", "data/weights/source/images"  # start weights, and the images they learnt from
SCRATCH = "data/weights/scratch"
FREE = re.compile(r"\bapache-2\.0\) \(sha256 ", re.IGNORECASE)  # in the name of weights with our licence


def describe_models(content: dict[str, Any]) -> dict[str, Any]:
    """Add to the content of the page what the card needs.

    Args:
        content: as gathered by the stage.
    Returns:
        The same, with `is_embedded` (the images), `is_ours` (everything the models learnt from) and `is_free` (all of
        that is ours or has the same licence).
    """
    starts = [content["scores"][name]["start"] for name in content["models"]]
    source = content["source"]
    is_drawn = source["images"] == DRAWN and all(it["weights"] == SCRATCH for it in source["models"].values())
    is_embedded = content["images"] == EMBEDDED
    of_others = [it for it in starts if it != "scratch" and not (is_drawn and it.startswith(SOURCE))]
    is_free = is_embedded and all(map(FREE.search, of_others))
    return {**content, "is_embedded": is_embedded, "is_ours": is_embedded and not of_others, "is_free": is_free}
