"""Features of all pictures from a frozen backbone that has never learnt from their labels, and from their colours."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.labelling.colours import describe_colours
from stages.networks.batches import View
from stages.networks.cards import write_card
from stages.networks.features import BATCH_SIZE, compute_features, describe_code, name_file
from stages.networks.lineage import refuse_taught
from stages.networks.model_files import build_network
from stages.networks.start_weights import SCRATCH, load_start_weights
from stages.settings.types import Network


def open_backbone(
    settings: Network, class_names: Sequence[str], stored_size_px: int, device: torch.device
) -> tuple[nn.Module, View]:
    """Build the backbone with its weights, on the device, and the view in which it sees stored images.

    Raises:
        UserError: the weights do not fit, or have learnt from these labels.
    """
    path, sizes_px = Path(settings.weights), (stored_size_px, settings.image_size_px)
    refuse_taught(path, class_names)
    card = write_card(settings.architecture, settings.arguments(), [*class_names], sizes_px, SCRATCH)
    network = build_network(card)
    load_start_weights(network, path, card.mean, card.std)
    return network.backbone.eval().to(device, memory_format=torch.channels_last), card.view(device)


def describe_pictures(backbone: nn.Module, images: np.ndarray, view: View, kept: Path, architecture: str) -> np.ndarray:
    """Return features of each picture that do not depend on its label.

    They are the backbone's features and the colours. The backbone's features are averaged over positions, replaced by
    their square roots (with sign) and scaled to length 1; otherwise a few large ones would dominate (Perronnin et al.
    2010).

    Args:
        images: uint8, shape (n_images, stored, stored, 3).
        kept: folder of feature files; a training from the same weights may have stored the features there.
    Returns:
        float32, shape (n_images, n_features).
    """
    path = name_file(kept, backbone, images, view, (describe_code(architecture),))
    batches = read_batches(path) if path.exists() else compute_features(backbone, images, view)
    features = np.concatenate([_pool(batch) for batch in batches])
    features = np.sign(features) * np.sqrt(np.abs(features))
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)
    return np.concatenate([features, describe_colours(images, view.margin_px)], axis=1)


def read_batches(path: Path) -> Iterator[np.ndarray]:
    """Yield the features of the first view in a file, float32, each of shape (batch, ...), in the original batches."""
    features = np.load(path, mmap_mode="r")[0]
    for start in range(0, len(features), BATCH_SIZE):
        yield features[start : start + BATCH_SIZE]


def _pool(features: np.ndarray) -> np.ndarray:
    """Average feature maps (batch, channels, height, width) over their positions; flatten other features."""
    flat = np.ascontiguousarray(features).reshape(*features.shape[:2], -1)  # sums depend on the strides
    return flat.mean(axis=2) if features.ndim == 4 else flat.reshape(len(features), -1)
