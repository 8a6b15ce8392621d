"""What a network says of images: the one path from stored pixels to class probabilities."""

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from stages.networks.batches import View, predict_batches
from stages.networks.devices import in_exact_float32

BATCH_SIZE = 128


@torch.no_grad()
def predict_proba(network: nn.Module, images: np.ndarray, view: View, *, bar: bool = True) -> np.ndarray:
    """Return class probabilities, float32 (n_images, n_classes), in the images' order.

    In float32 throughout: a score should not depend on the device's idea of bfloat16 or TF32.

    Args:
        images: uint8, shape (n_images, stored_size_px, stored_size_px, 3).
        bar: shows the progress where stderr is a terminal.
    """
    network.to(view.device)
    batches = predict_batches(lambda images: network(images).softmax(dim=1).cpu(), images, BATCH_SIZE, view)
    total = -(-len(images) // BATCH_SIZE)
    with in_exact_float32():
        return torch.cat(list(tqdm(batches, total=total, disable=None if bar else True, leave=False))).numpy()
