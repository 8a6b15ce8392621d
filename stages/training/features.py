"""Features of a frozen backbone: computed once for a few views of each image.

They are kept in a folder that all experiments share, under the name of all that they depend on, so that a sweep over
the settings of the head computes them once. The stage `audit` reads those of centre crops, too.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.networks.features import compute_features, describe_code, name_file
from stages.runtime.files import written_whole
from stages.training.augmentations import build_policy, derive_seed, draw_changes
from stages.training.job import Job

KEPT_BYTES = 4 * 2**30  # of all feature files together; the oldest go first


def read_features(backbone: nn.Module, job: Job, split: str, folder: Path | None) -> np.ndarray:
    """Return a split's features, from the folder if they are there.

    Args:
        split: `train`, of which there are `frozen_views` views of each image, or `val`.
        folder: of feature files; None: compute, and keep nothing.
    Returns:
        float32, shape (n_views, n_images, ...), as the backbone gives them. View 0 is the centre crop, as in
        evaluation; the others are drawn as `augment` says.
    """
    images = job.train.images if split == "train" else job.val.images
    n_views = job.settings.frozen_views if split == "train" else 1
    if folder is None:
        return compute_views(backbone, job, images, n_views)
    drawn = (job.code, n_views, job.augment.model_dump(), job.seed) if n_views > 1 else ()
    path = name_file(folder, backbone, images, job.view, (describe_code(job.settings.architecture), *drawn))
    if not path.exists():
        make_room(folder)
        features = compute_views(backbone, job, images, n_views)
        with written_whole(path) as temporary:
            np.save(temporary, features)
    path.touch()
    return np.load(path)


def compute_views(backbone: nn.Module, job: Job, images: np.ndarray, n_views: int) -> np.ndarray:
    """Return the features of so many views of each image, float32, (n_views, n_images, ...)."""
    policy, views = build_policy(job.augment), []
    for number in range(n_views):
        print(f"{job.name}: features of {len(images)} images, view {number + 1} of {n_views}", flush=True)
        changes = None
        if number:
            seed = derive_seed(job.seed, number, 3)
            torch.manual_seed(seed)  # of the policy
            generator = torch.Generator().manual_seed(seed)
            changes = draw_changes(len(images), job.view.margin_px, job.augment, generator)
        batches = compute_features(backbone, images, job.view, changes, policy if number else None)
        views.append(np.concatenate([*batches]))
    return np.stack(views)


def make_room(folder: Path) -> None:
    """Remove the feature files that have not been used for longest, until less than KEPT_BYTES are left."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(folder.glob("*.npy"), key=lambda path: -path.stat().st_mtime)
    sizes = np.cumsum([path.stat().st_size for path in files])
    for path, size in zip(files, sizes, strict=True):
        if size > KEPT_BYTES:
            path.unlink(missing_ok=True)
