"""Settings in, the field's own augmentations out: policies that change one image, and mixing of the images of a batch.

They draw from torch's global generator, which is seeded anew for each epoch. Source: torchvision.transforms.v2,
imported where one of them is asked for.
"""

from collections.abc import Callable

import torch

from stages.settings.types import Augment, ModelSettings


def build_policy(augment: Augment) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return RandAugment or TrivialAugment with their usual settings, for one image, uint8 (3, height, width)."""
    if augment.policy == "none":
        return None
    from torchvision.transforms import InterpolationMode, v2

    policies = {"randaugment": v2.RandAugment, "trivialaugment": v2.TrivialAugmentWide}
    return policies[augment.policy](interpolation=InterpolationMode.BILINEAR)


def build_mixer(settings: ModelSettings, n_classes: int) -> Callable | None:
    """Return MixUp, CutMix, or either by chance.

    It maps images (batch, 3, height, width) and labels (batch,) to mixed images and shares (batch, n_classes).
    """
    if not (settings.mixup or settings.cutmix):
        return None
    from torchvision.transforms import v2

    mixers = []
    if settings.mixup:
        mixers.append(v2.MixUp(alpha=settings.mixup, num_classes=n_classes))
    if settings.cutmix:
        mixers.append(v2.CutMix(alpha=settings.cutmix, num_classes=n_classes))
    return v2.RandomChoice(mixers)
