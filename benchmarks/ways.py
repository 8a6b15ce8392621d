"""Ordinary ways to fine-tune ImageNet weights on photographs, each with a stopwatch: for transfer.py."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import default_loader
from torchvision.transforms import InterpolationMode, v2

from stages.runtime.workers import count_cores

NETWORK, WEIGHTS = "tf_efficientnet_lite0", Path("data/weights/packaged/tf_efficientnet_lite0.safetensors")
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)  # C, for standardised features


@dataclass
class Way:
    """The result of one method; its clock starts when the object is created."""

    note: str
    curve: list[tuple[float, float]] = field(default_factory=list)  # seconds, validation accuracy
    right: dict[str, np.ndarray] = field(default_factory=dict)  # for val and test: bool, (n_images,)
    end_s: float = 0  # when the predictions for the test split were complete
    started: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def add(self, accuracy: float) -> None:
        """Record a validation accuracy."""
        self.curve.append((self.seconds(), float(accuracy)))
        print(f"{self.note}: {self.seconds():.1f} s, val {accuracy:.4f}", file=sys.stderr, flush=True)


class Photographs(Dataset):
    """Files and labels from rows of the manifest; files are decoded on access, as in ImageFolder."""

    def __init__(self, rows: pd.DataFrame, transform: Callable):
        self.paths, self.labels, self.transform = rows["path"].tolist(), rows["label"].tolist(), transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(default_loader(self.paths[index])), self.labels[index]


@dataclass(frozen=True)
class Data:
    """The photographs, and the settings of batches and image size."""

    rows: dict[str, pd.DataFrame]  # per split: path, label and group
    n_classes: int
    size_px: int
    batch_size: int
    device: torch.device

    def load(self, split: str, *, augmented: bool = False) -> DataLoader:
        size, config, bicubic = self.size_px, timm.get_pretrained_cfg(NETWORK), InterpolationMode.BICUBIC
        random = [v2.RandomResizedCrop(size, interpolation=bicubic), v2.RandomHorizontalFlip()]
        centre = [v2.Resize(size * 8 // 7, bicubic), v2.CenterCrop(size)]
        scale = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(config.mean, config.std)]
        return DataLoader(
            Photographs(self.rows[split], v2.Compose([*(random if augmented else centre), *scale])),
            self.batch_size,
            shuffle=augmented,
            drop_last=augmented and len(self.rows[split]) >= self.batch_size,
            num_workers=count_cores(),
            persistent_workers=True,
        )

    def build_network(self, n_classes: int) -> nn.Module:
        """Build the network with ImageNet weights and a new classifier; for 0 classes, without a classifier."""
        network = timm.create_model(NETWORK, num_classes=n_classes)
        network.load_state_dict(load_file(WEIGHTS), strict=False)  # only the classifier is missing
        return network.to(self.device, memory_format=torch.channels_last)

    @torch.no_grad()
    def predict(self, network: nn.Module, loader: DataLoader) -> np.ndarray:
        """Return the outputs of the network, float32, shape (n_images, n_outputs)."""
        network.eval()
        return torch.cat([network(images.to(self.device)).cpu() for images, _ in loader]).numpy()

    def judge(self, split: str, answers: np.ndarray) -> np.ndarray:
        """Return which answers, int (n_images,), are right."""
        return answers == self.rows[split]["label"].to_numpy()


def train(data: Data, seconds: float, lr: float) -> Way:
    """Train all layers with one learning rate and a cosine schedule over time; validate after each epoch."""
    torch.manual_seed(1)
    way = Way(f"lr {lr:g}")
    network, batches, val = data.build_network(data.n_classes), data.load("train", augmented=True), data.load("val")
    optimizer, share = torch.optim.AdamW(network.parameters(), lr), 0.0
    while share < 1:
        network.train()
        for images, labels in batches:
            optimizer.param_groups[0]["lr"] = lr / 2 * (1 + math.cos(math.pi * share))
            logits = network(images.to(data.device, memory_format=torch.channels_last))
            functional.cross_entropy(logits, labels.to(data.device), label_smoothing=0.1).backward()
            optimizer.step()
            optimizer.zero_grad()
            share = min(1, way.seconds() / seconds)
            if share == 1:
                break
        way.right["val"] = data.judge("val", data.predict(network, val).argmax(axis=1))
        way.add(way.right["val"].mean())
    way.right["test"] = data.judge("test", data.predict(network, data.load("test")).argmax(axis=1))
    way.end_s = way.seconds()
    return way


def fine_tune(data: Data, seconds: float, lr_mult: float) -> Way:
    """Fine-tune with fastai: the head for an epoch, then all layers, the backbone at the head's rate / lr_mult."""
    from fastai.vision import all as fastai

    config = timm.get_pretrained_cfg(NETWORK)
    photographs = fastai.DataBlock(
        (fastai.ImageBlock, fastai.CategoryBlock(vocab=[*range(data.n_classes)])),
        get_x=fastai.ColReader("path"),
        get_y=fastai.ColReader("label"),
        splitter=fastai.ColSplitter(),
        item_tfms=fastai.RandomResizedCrop(data.size_px, min_scale=0.35),
        batch_tfms=[*fastai.aug_transforms(), fastai.Normalize.from_stats(config.mean, config.std)],
    )
    rows = pd.concat([data.rows[split].assign(is_valid=split == "val") for split in ("train", "val")])

    class Note(fastai.Callback):
        order = fastai.Recorder.order + 1

        def after_epoch(self) -> None:
            way.add(self.learn.recorder.values[-1][-1])

    def run(n_epochs: int) -> Any:
        torch.manual_seed(1)
        loading = {"bs": data.batch_size, "num_workers": count_cores(), "device": data.device}
        loaders, loss = photographs.dataloaders(rows, **loading), fastai.LabelSmoothingCrossEntropy()
        learner = fastai.vision_learner(loaders, NETWORK, pretrained=False, loss_func=loss, metrics=fastai.accuracy)
        learner.model[0].model.load_state_dict(load_file(WEIGHTS))
        with learner.no_bar(), learner.no_logging():
            learner.fine_tune(n_epochs, lr_mult=lr_mult, cbs=Note())
        return learner

    way = Way("fastai, two epochs to time them")
    run(1)
    (frozen_s, _), (both_s, _) = way.curve
    way = Way(f"lr_mult {lr_mult:g}")
    learner = run(max(1, round((seconds - frozen_s) / (both_s - frozen_s))))
    with learner.no_bar():
        for split in ("test", "val"):
            answers = learner.get_preds(dl=learner.dls.test_dl(data.rows[split]))[0].argmax(dim=1)
            way.right[split] = data.judge(split, answers.numpy())
            way.end_s = way.end_s or way.seconds()  # val was scored before
    return way


def regress(data: Data) -> Way:
    """Fit scikit-learn's logistic regression to features, with the best C on the validation split."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    way, backbone, models = Way("C"), data.build_network(0), []
    train, val = (data.predict(backbone, data.load(split)) for split in ("train", "val"))
    scaler = StandardScaler().fit(train)
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000)
        models.append(model.fit(scaler.transform(train), data.rows["train"]["label"]))
        way.add(data.judge("val", model.predict(scaler.transform(val))).mean())
    best = models[np.argmax([accuracy for _, accuracy in way.curve])]
    for split, features in {"val": val, "test": data.predict(backbone, data.load("test"))}.items():
        way.right[split] = data.judge(split, best.predict(scaler.transform(features)))
    way.note, way.end_s = f"C {best.C:g}, best of {len(models)}", way.seconds()
    return way
