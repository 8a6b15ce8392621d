"""The only path from stored pixels to the class probabilities of a network."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from stages.networks.batches import View, predict_batches
from stages.networks.devices import in_exact_float32
from stages.networks.maps import watched

BATCH_SIZE = 128


def predict_proba(network: nn.Module, images: np.ndarray, view: View, *, bar: bool = True) -> np.ndarray:
    """Return class probabilities, float32 (n_images, n_classes), in the order of the images.

    It computes in float32: a score should not depend on how a device handles bfloat16 or TF32.

    Args:
        images: uint8, shape (n_images, stored_size_px, stored_size_px, 3).
        bar: show a progress bar if stderr is a terminal.
    """
    return _predict(network, lambda batch: network(batch).softmax(dim=1), images, view, bar)


def predict_with_features(
    network: nn.Module, layers: Sequence[str], images: np.ndarray, view: View, *, bar: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same, and the features from these layers, float32 (n_images, n_features)."""
    with watched(network, layers) as features:

        def predict(batch: torch.Tensor) -> torch.Tensor:
            return torch.cat([network(batch).softmax(dim=1), features()], dim=1)

        rows = _predict(network, predict, images, view, bar)
    return np.split(rows, [network.head[-1].out_features], axis=1)


@torch.no_grad()
def _predict(network: nn.Module, predict: Callable, images: np.ndarray, view: View, bar: bool) -> np.ndarray:
    network.to(view.device)
    batches = predict_batches(lambda batch: predict(batch).cpu(), images, BATCH_SIZE, view)
    total = -(-len(images) // BATCH_SIZE)
    with in_exact_float32():
        return torch.cat(list(tqdm(batches, total=total, disable=None if bar else True, leave=False))).numpy()
