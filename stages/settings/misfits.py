"""Parameters that are right by themselves in; which of them do not fit one another, a line each, out."""

import posixpath
from collections.abc import Iterator
from typing import Any

from stages.settings.types import (
    DRAWN,
    IMAGENET,
    MIN_SIZE_VALID_PX,
    MIN_SIZE_VGG_PX,
    CnnSettings,
    VggSettings,
)
from stages.settings.wording import nearest, show


def find_misfits(blocks: dict[str, Any]) -> Iterator[str]:
    """Say which values, each right by itself, do not fit one another.

    Args:
        blocks: the fields of Config that are right by themselves.
    """
    yield from _size_misfits(blocks)
    yield from _backbone_misfits(blocks)
    if "flowers" in blocks and blocks["flowers"].min_images < 3:
        yield f"flowers.min_images is {blocks['flowers'].min_images}, expected 3 or more: split needs 3 images a class"
    if {"ensemble", "models"} <= blocks.keys():
        members = blocks["ensemble"].members
        for member in dict.fromkeys(members):
            if member not in blocks["models"]:
                yield f"ensemble.members: unknown model {show(member)}{nearest(member, blocks['models'])}"
            if members.count(member) > 1:
                yield f"ensemble.members: {show(member)} stands there twice"


def _size_misfits(blocks: dict[str, Any]) -> Iterator[str]:
    size = blocks.get("image_size_px")
    if size is None:
        return
    if "pack" in blocks and blocks["pack"].stored_size_px < size:
        yield f"pack.stored_size_px is {blocks['pack'].stored_size_px}, expected image_size_px or more ({size})"
    for name, model in blocks.get("models", {}).items():
        if isinstance(model, CnnSettings) and model.padding == "valid" and size < MIN_SIZE_VALID_PX:
            yield (
                f"models.{name}.padding is 'valid', which needs images of {MIN_SIZE_VALID_PX} px or more, but "
                f"image_size_px is {size}; set the one to 'same', or raise the other"
            )
        if isinstance(model, VggSettings) and size < MIN_SIZE_VGG_PX:
            yield f"image_size_px is {size}, but models.{name} needs images of {MIN_SIZE_VGG_PX} px or more"


def _backbone_misfits(blocks: dict[str, Any]) -> Iterator[str]:
    """Batch normalisation has to be in the weights exactly if it is in the network: stages/networks/start_weights.py."""
    model = blocks.get("models", {}).get("vgg19_pretrained")
    folder = posixpath.normpath(blocks.get("weights", ""))
    if not isinstance(model, VggSettings):
        return
    if folder == DRAWN and "pretrain" in blocks:
        key, has = "pretrain.vgg19.batch_norm", blocks["pretrain"].vgg19.batch_norm
        says = f"{key} is {str(has).lower()}"
    elif folder == IMAGENET and "imagenet" in blocks:
        key, has = "imagenet.vgg19", blocks["imagenet"].vgg19.startswith("vgg19_bn.")
        says = f"{key} is {blocks['imagenet'].vgg19!r}, {'with' if has else 'without'} batch normalisation"
    else:
        return
    if has != model.batch_norm:
        yield (
            f"models.vgg19_pretrained.batch_norm is {str(model.batch_norm).lower()}, but {says}, and weights is "
            f"{folder}; set the two alike"
        )
