"""What a file of weights says of itself; and whether this clone knows all of it, since a file may be of another."""

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

KEY = "quintet"  # of the metadata: one, since the order of several is not fixed
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class ModelCard:
    """What a file of weights says of itself; what is None is not written."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    architecture: str  # the name of the file in stages/models
    arguments: dict[str, Any]  # of its build_model
    class_names: Annotated[list[str], Field(min_length=1)]
    stored_size_px: Count  # side of the square that an image is resized to
    image_size_px: Count  # side of the centre of it that the network sees
    start: str  # "scratch", or what the weights started from
    mean: tuple[float, float, float]  # of the pixels in 0..1, subtracted before the network
    std: tuple[float, float, float]
    grey_bits: Count | None = None  # as of stages.pixels.decoding.decode; None: no image had grey of more than 8 bits

    def view(self, device: torch.device) -> View:
        """Return how the network looks at images that were stored for it."""
        return View(self.stored_size_px, self.image_size_px, tuple(self.mean), tuple(self.std), device)


def write_card(
    architecture: str,
    arguments: dict[str, Any],
    class_names: list[str],
    sizes_px: tuple[int, int],
    start: str,
    grey_bits: int | None = None,
) -> ModelCard:
    """Return a new network's card; the pixels are normalised as ImageNet's, unless its architecture says otherwise.

    Args:
        sizes_px: of the stored image, and of its centre that the network sees.
    """
    module = load_architecture(architecture)
    mean, std = module.normalisation(**arguments) if hasattr(module, "normalisation") else (MEAN, STD)
    return ModelCard(architecture, arguments, class_names, *sizes_px, start, mean, std, grey_bits)


def read_card(path: Path, metadata: dict[str, str]) -> ModelCard:
    """Return what a model file's metadata say; arguments that they lack are as this clone has them by default.

    Args:
        path: of the file, for the message.
    Raises:
        UserError: it is no model of Quintet's, or needs what this clone does not know.
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

        class Arguments(load_architecture(card.architecture).Arguments, extra="forbid"):
            """Keys that it lacks are refused."""

        arguments = _validate(Arguments, card.arguments, f"arguments of {card.architecture}: ")
        return replace(card, arguments=arguments.model_dump())
    except ValueError as error:
        raise UserError(
            f"{path}: expected a model that this version of Quintet can open, found in its metadata: {error}; check "
            f"out the revision that trained it, or {train}"
        ) from None


def _validate(kind: type, content: Any, of: str = "") -> Any:
    """Raises ValueError: says what is wrong, and which keys this clone knows."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        known = ", ".join(signature(kind).parameters)
        raise ValueError(f"{of}{describe_faults(error)} (this version knows {known})") from None
