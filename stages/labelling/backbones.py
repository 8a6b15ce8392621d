"""A frozen backbone that has never seen the labels, and its features of all pictures, with their colours."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.labelling.colours import describe_colours
from stages.networks.batches import View, centre_crops, predict_batches
from stages.networks.cards import write_card
from stages.networks.devices import in_exact_float32
from stages.networks.lineage import refuse_taught
from stages.networks.model_files import build_network
from stages.networks.start_weights import SCRATCH, load_start_weights
from stages.settings.types import Network

BATCH_SIZE = 128


def open_backbone(
    settings: Network, class_names: Sequence[str], stored_size_px: int, device: torch.device
) -> tuple[nn.Module, View]:
    """Build the backbone with its weights, on the device, and say how it looks at stored images.

    Raises:
        UserError: the weights do not fit, or have learnt from these labels.
    """
    path, sizes_px = Path(settings.weights), (stored_size_px, settings.image_size_px)
    refuse_taught(path, class_names)
    card = write_card(settings.architecture, settings.arguments(), [*class_names], sizes_px, SCRATCH)
    network = build_network(card)
    load_start_weights(network, path, card.mean, card.std)
    return network.backbone.eval().to(device, memory_format=torch.channels_last), card.view(device)


@torch.no_grad()
def compute_features(backbone: nn.Module, images: np.ndarray, view: View) -> np.ndarray:
    """Return what is known of each image without its label.

    That is the backbone's features, averaged over the image and its mirror image and over places in it, to the power
    of a half (as Perronnin et al. 2010 do it: a few large ones would else rule), and the colours.

    Args:
        images: uint8, shape (n_images, stored, stored, 3).
    Returns:
        float32, shape (n_images, n_features).
    """
    changes = centre_crops(len(images), view)
    mirrored = replace(changes, flip=~changes.flip)
    with in_exact_float32():
        one, other = (
            torch.cat([_pool(batch) for batch in predict_batches(backbone, images, BATCH_SIZE, view, each)]).numpy()
            for each in (changes, mirrored)
        )
    features = np.sign(one + other) * np.sqrt(np.abs(one + other))
    return np.concatenate([features, describe_colours(images, view.margin_px)], axis=1)


def _pool(features: torch.Tensor) -> torch.Tensor:
    """Average feature maps (batch, channels, height, width) over their places; others stay as they are."""
    return features.float().flatten(2).mean(dim=2).cpu() if features.ndim == 4 else features.float().flatten(1).cpu()
