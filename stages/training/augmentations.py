"""What is changed at random in the training images: drawn for a whole epoch at once, or a policy's for each image.

The crops, flips and so on of an epoch come from a generator of their own, so that they depend on the seed and the epoch
alone: not on the device, on workers, or on how the epoch before was run. Policies and mixing are torchvision's, and
draw from torch's global generator, which is seeded anew for each epoch.
"""

import math
from collections.abc import Callable

import torch

from stages.networks.batches import Changes
from stages.settings.types import Augment, ModelSettings


def draw_changes(n: int, margin_px: int, augment: Augment, generator: torch.Generator) -> Changes:
    """Draw the changes of n images; `margin_px` is the stored size less the size that the network sees."""

    def uniform(*shape: int) -> torch.Tensor:  # in [-1, 1)
        return torch.rand(*shape, generator=generator) * 2 - 1

    centre = torch.full((n,), margin_px // 2)
    return Changes(
        top=torch.randint(margin_px + 1, (n,), generator=generator) if augment.crop else centre,
        left=torch.randint(margin_px + 1, (n,), generator=generator) if augment.crop else centre,
        flip=torch.rand(n, generator=generator) < (0.5 if augment.flip else 0),
        affine=_affine(uniform(n, 4), augment) if augment.rotation_deg or augment.zoom or augment.shift else None,
        colour=1 + augment.colour * uniform(n, 3) if augment.colour else None,
    )


def _affine(draws: torch.Tensor, augment: Augment) -> torch.Tensor:
    angle = draws[:, 0] * math.radians(augment.rotation_deg)
    scale = 1 / (1 + augment.zoom * draws[:, 1])
    shift = 2 * augment.shift * draws[:, 2:]  # grid coordinates run from -1 to 1
    rows = (
        torch.stack([angle.cos() * scale, -angle.sin() * scale, shift[:, 0]], dim=1),
        torch.stack([angle.sin() * scale, angle.cos() * scale, shift[:, 1]], dim=1),
    )
    return torch.stack(rows, dim=1)


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
