"""The training images of an epoch: in which order they come, and what is changed in them at random.

Order, crops, flips and so on are drawn before an epoch from a generator of their own, so that they depend on the seed
and the epoch alone: not on the device, on workers, or on how the epoch before was run. Policies and mixing are
torchvision's, and draw from torch's global generator, which is seeded anew for each batch.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch

from stages.networks.batches import Changes, make_batch, send
from stages.settings.types import Augment, ModelSettings
from stages.training.job import Job


def iterate_epoch(job: Job, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield an epoch's batches of images, their targets (mixed, where the settings say so) and their labels.

    All images come once, or once in each pass, in batches whose sizes differ by one at most: a rest of two would ruin
    batch normalisation. Of several processes, each takes its share of every batch.

    Args:
        number: of the epoch, over all rounds, from 0.
    """
    order, generator = draw_order(job, number)
    changes = draw_changes(len(order), job.view.margin_px, job.augment, generator)
    policy, mix = build_policy(job.augment), build_mixer(job.settings, job.n_classes)
    labels = torch.from_numpy(job.train.labels)
    for batch, rows in enumerate(divide_epoch(job)):
        torch.manual_seed(derive_seed(job.seed, number, 1 + job.processes.rank, batch, 1))
        images = make_batch(job.train.images, order[rows], job.view, changes.of(rows), policy)
        its_labels = send(labels[order[rows]], job.device)
        mixed, targets = mix(images, its_labels) if mix else (images, its_labels)
        # on a GPU, MixUp leaves another layout: slower, and compiled once more
        yield mixed.contiguous(memory_format=torch.channels_last), targets, its_labels


def iterate_features(
    job: Job, number: int, features: np.ndarray
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield an epoch's batches as `iterate_epoch` does, of features instead of images; the views take turns.

    Args:
        features: float32, shape (n_views, n_images, ...), of the training images.
    """
    order, _ = draw_order(job, number)
    view, labels = features[number % len(features)], torch.from_numpy(job.train.labels)
    for rows in divide_epoch(job):
        its_labels = send(labels[order[rows]], job.device)
        yield send(torch.from_numpy(view[order[rows].numpy()]), job.device), its_labels, its_labels


def draw_order(job: Job, number: int) -> tuple[torch.Tensor, torch.Generator]:
    """Return the images of an epoch in their order, int64 (n_images of the epoch,), and what draws their changes."""
    generator = torch.Generator().manual_seed(derive_seed(job.seed, number, 0))
    n = len(job.train)
    return torch.cat([torch.randperm(n, generator=generator) for _ in range(job.n_images // n)]), generator


def divide_epoch(job: Job) -> Iterator[slice]:
    """Yield this process's rows of each batch of an epoch."""
    ends = [job.n_images * number // job.n_batches for number in range(job.n_batches + 1)]
    yield from (job.processes.share_of(start, end) for start, end in itertools.pairwise(ends))


def derive_seed(*numbers: int) -> int:
    """Return a seed that is another, and unrelated, for other numbers; the last one may not be 0."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def draw_changes(n: int, margin_px: int, augment: Augment, generator: torch.Generator) -> Changes:
    """Draw the changes of n images, whose stored size is `margin_px` larger than what the network sees."""

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
