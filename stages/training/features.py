"""Features of a frozen backbone: computed once for a few views of each image.

All experiments share a folder of feature files, so a sweep over the settings of the head computes the features once.
A file's name is a hash of everything the features depend on. The stage `audit` also reads features of centre crops.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.networks.features import compute_features, describe_code, name_file
from stages.runtime.files import written_whole
from stages.training.augmentations import build_policy, choose_flips, derive_seed, draw_changes
from stages.training.job import Job

KEPT_BYTES = 4 * 2**30  # total size of all feature files; the oldest files are deleted first


def read_features(backbone: nn.Module, job: Job, split: str, folder: Path | None) -> np.ndarray:
    """Return the features of a split; read them from the folder, if it contains them.

    Args:
        split: `train`, with `frozen_views` views of each image, or `val`, with one.
        folder: folder of the feature files; None: compute the features and do not store them.
    Returns:
        float32, shape (n_views, n_images, ...): outputs of the backbone. View 0 is the centre crop, as in evaluation;
        the other views are drawn according to `augment`.
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
    """Return the features of `n_views` views of each image, float32, (n_views, n_images, ...)."""
    policy, views = build_policy(job.augment), []
    for number in range(n_views):
        print(f"{job.name}: features of {len(images)} images, view {number + 1} of {n_views}", flush=True)
        changes = None
        if number:
            seed = derive_seed(job.seed, number, 3)
            torch.manual_seed(seed)  # for the policy
            generator = torch.Generator().manual_seed(seed)
            flip = choose_flips(job, torch.arange(len(images)), number)
            changes = draw_changes(flip, job.view.margin_px, job.augment, generator)
        batches = compute_features(backbone, images, job.view, changes, policy if number else None)
        views.append(np.concatenate([*batches]))
    return np.stack(views)


def make_room(folder: Path) -> None:
    """Delete the least recently used feature files until at most KEPT_BYTES are left."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(folder.glob("*.npy"), key=lambda path: -path.stat().st_mtime)
    sizes = np.cumsum([path.stat().st_size for path in files])
    for path, size in zip(files, sizes, strict=True):
        if size > KEPT_BYTES:
            path.unlink(missing_ok=True)
