"""The metadata of a model file, and whether this version of Quintet understands it."""

import json
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from stages.models import list_architectures, load_architecture
from stages.networks.batches import MEAN, STD, View
from stages.runtime.errors import UserError
from stages.runtime.validation import describe_faults

KEY = "quintet"  # the only metadata key, because the order of several is not fixed
Side = Annotated[int, Field(ge=1, le=2**14)]  # in pixels
Depth = Annotated[int, Field(ge=8, le=16)]  # in bits
Deviation = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class ModelCard:
    """The metadata of a model file; fields that are None are not written."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    architecture: str  # the name of the file in stages/models
    arguments: dict[str, Any]  # arguments of its build_model
    class_names: Annotated[list[str], Field(min_length=1)]
    stored_size_px: Side  # side of the square to which an image is resized
    image_size_px: Side  # side of the central square that the network sees
    start: str  # "scratch", or the name of the start weights
    mean: tuple[float, float, float]  # mean of pixels in 0..1
    std: tuple[Deviation, Deviation, Deviation]
    grey_bits: Depth | None = None  # as in stages.pixels.decoding.decode; None: no image had wide grey

    def view(self, device: torch.device) -> View:
        """Return how the network sees its stored images."""
        return View(self.stored_size_px, self.image_size_px, tuple(self.mean), tuple(self.std), device)


def write_card(
    architecture: str,
    arguments: dict[str, Any],
    class_names: list[str],
    sizes_px: tuple[int, int],
    start: str,
    grey_bits: int | None = None,
) -> ModelCard:
    """Return the card of a new network, with the normalisation of ImageNet or that of its architecture.

    Args:
        sizes_px: sides of the stored image and of its centre, which the network sees.
    """
    module = load_architecture(architecture)
    mean, std = module.normalisation(**arguments) if hasattr(module, "normalisation") else (MEAN, STD)
    return ModelCard(architecture, arguments, class_names, *sizes_px, start, mean, std, grey_bits)


def read_card(path: Path, metadata: dict[str, str]) -> ModelCard:
    """Return the card in the metadata of a model file; missing arguments get their defaults.

    Args:
        path: path of the file, for error messages.
    Raises:
        UserError: the file is not a model of Quintet, or needs something that this version does not know.
    """
    train = f"train it here (`dvc repro train@{path.stem}`)"
    if KEY not in metadata:
        raise UserError(
            f"{path}: expected a model trained by Quintet, with `{KEY}` in its metadata, found "
            f"{', '.join(metadata) or 'nothing'}; to use other weights, name the file as `weights` of a model "
            f"in params.yaml, and {train}"
        )
    try:
        card = _validate(ModelCard, json.loads(metadata[KEY]))
        if card.architecture not in (known := list_architectures()):
            raise ValueError(f"the architecture {card.architecture!r:.60} (this version has {', '.join(known)})")

        if card.image_size_px > card.stored_size_px:
            raise ValueError(f"image_size_px {card.image_size_px} above stored_size_px {card.stored_size_px}")

        class Arguments(load_architecture(card.architecture).Arguments, extra="forbid"):
            """Refuses unknown keys."""

        arguments = _validate(Arguments, card.arguments, f"arguments of {card.architecture}: ")
        return replace(card, arguments=arguments.model_dump())
    except ValueError as error:
        raise UserError(
            f"{path}: expected a model that this version of Quintet can open, found in its metadata: {error}; check "
            f"out the revision that trained it, or {train}"
        ) from None


def _validate(kind: type, content: Any, of: str = "") -> Any:
    """Validate the content; a ValueError names the mistakes and the known keys."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        known = ", ".join(signature(kind).parameters)
        raise ValueError(f"{of}{describe_faults(error)} (this version knows {known})") from None
