"""Predictions of a model, calculated by hand for a network that only uses the mean colour."""

import math

import numpy as np
import torch

from stages.inference import probabilities
from stages.networks.batches import View


class MeanColour(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))  # logits: red, green, blue


def test_probabilities_are_the_networks_of_each_centre_crop_in_the_order_of_the_split(monkeypatch):
    monkeypatch.setattr(probabilities, "BATCH_SIZE", 2)
    labels = np.array([2, 0, 1, 1, 0])
    images = np.full((5, 4, 4, 3), 255, dtype=np.uint8)  # a white frame, which the crop of 2 px leaves out
    images[:, 1:3, 1:3] = 255 * np.eye(3, dtype=np.uint8)[labels][:, None, None]
    view = View(4, 2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), device=torch.device("cpu"))
    found = probabilities.predict_proba(MeanColour(), images, view)
    # logits of 1, 0 and 0
    expected = np.where(np.eye(3)[labels] == 1, math.e / (math.e + 2), 1 / (math.e + 2))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert found.dtype == np.float32
