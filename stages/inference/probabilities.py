"""The only path from stored pixels to the class probabilities of a network."""

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from stages.networks.batches import View, predict_batches
from stages.networks.devices import in_exact_float32

BATCH_SIZE = 128


@torch.no_grad()
def predict_proba(network: nn.Module, images: np.ndarray, view: View, *, bar: bool = True) -> np.ndarray:
    """Return class probabilities, float32 (n_images, n_classes), in the order of the images.

    It computes in float32: a score should not depend on how a device handles bfloat16 or TF32.

    Args:
        images: uint8, shape (n_images, stored_size_px, stored_size_px, 3).
        bar: show a progress bar if stderr is a terminal.
    """
    network.to(view.device)
    batches = predict_batches(lambda images: network(images).softmax(dim=1).cpu(), images, BATCH_SIZE, view)
    total = -(-len(images) // BATCH_SIZE)
    with in_exact_float32():
        return torch.cat(list(tqdm(batches, total=total, disable=None if bar else True, leave=False))).numpy()
