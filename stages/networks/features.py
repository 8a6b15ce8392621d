"""Features of a frozen backbone: one view of each image; and how a file of them is called, after all it depends on."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.networks.batches import Changes, View, predict_batches
from stages.networks.devices import in_exact_float32
from stages.runtime.sources import describe

BATCH_SIZE = 128  # always: in batches of other sizes, the last bits of the features are others


@torch.no_grad()
def compute_features(
    backbone: nn.Module, images: np.ndarray, view: View, changes: Changes | None = None, policy: Callable | None = None
) -> Iterator[np.ndarray]:
    """Yield the features of one view of each image, in batches, in evaluation mode and float32.

    Args:
        images: uint8, shape (n_images, stored, stored, 3).
        changes: of each image; None: centre crops. `policy` is as in `make_batch`.
    Returns:
        float32, each of shape (batch, ...), as the backbone gives them.
    """
    was_training = backbone.training
    backbone.eval()
    with in_exact_float32():
        for batch in predict_batches(backbone, images, BATCH_SIZE, view, changes, policy):
            yield batch.float().cpu().numpy()
    backbone.train(was_training)


def name_file(folder: Path, backbone: nn.Module, images: np.ndarray, view: View, about: tuple) -> Path:
    """Return the file of all images' features: its name is a hash of weights, pixels, view, and what else they need.

    Args:
        about: the code that they are made by (`describe_code`), and how views are drawn, if they are.
    """
    seen = (view.stored_size_px, view.size_px, view.mean, view.std, view.device.type)
    digest = hashlib.sha256(repr((torch.__version__, torch.get_num_threads(), seen, about, images.shape)).encode())
    digest.update(images)
    for name, tensor in backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return folder / f"{digest.hexdigest()[:16]}.npy"


def describe_code(architecture: str) -> str:
    """Return the text of the code that centre crops' features are made by: of this module, and of the architecture."""
    return describe(__name__) + describe(f"stages.models.{architecture}")
