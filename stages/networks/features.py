"""Features of a frozen backbone for one view of each image, and the name of a feature file: a hash of its inputs."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.networks.batches import Changes, View, predict_batches
from stages.networks.devices import in_exact_float32
from stages.runtime.sources import describe

BATCH_SIZE = 128  # fixed, because the batch size changes the last bits of the features


@torch.no_grad()
def compute_features(
    backbone: nn.Module, images: np.ndarray, view: View, changes: Changes | None = None, policy: Callable | None = None
) -> Iterator[np.ndarray]:
    """Yield the features of one view of each image, in batches, in evaluation mode and float32.

    Args:
        images: uint8, shape (n_images, stored, stored, 3).
        changes: changes of each image; None: centre crops.
        policy: as in `make_batch`.
    Returns:
        Outputs of the backbone, float32, each of shape (batch, ...).
    """
    was_training = backbone.training
    backbone.eval()
    with in_exact_float32():
        for batch in predict_batches(backbone, images, BATCH_SIZE, view, changes, policy):
            yield batch.float().cpu().numpy()
    backbone.train(was_training)


def name_file(folder: Path, backbone: nn.Module, images: np.ndarray, view: View, about: tuple) -> Path:
    """Return the path of a feature file; its name is a hash of weights, pixels, view and all other inputs.

    Args:
        about: the code that computes the features (`describe_code`), and the parameters of random views, if any.
    """
    seen = (view.stored_size_px, view.size_px, view.mean, view.std, view.device.type)
    digest = hashlib.sha256(repr((torch.__version__, torch.get_num_threads(), seen, about, images.shape)).encode())
    digest.update(images)
    for name, tensor in backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return folder / f"{digest.hexdigest()[:16]}.npy"


def describe_code(architecture: str) -> str:
    """Describe the code that computes the features of centre crops: this module and the architecture."""
    return describe(__name__) + describe(f"stages.models.{architecture}")
