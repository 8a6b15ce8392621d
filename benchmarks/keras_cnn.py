"""Time the small CNN of the assignment in Keras, with Keras's generator, to compare it with `cnn`.

    python benchmarks/keras_cnn.py IMAGES data/manifest.csv [--size 80] [--epochs 2]

It needs `tensorflow-cpu`, `pandas` and `scipy`, in a separate environment. Layers, optimizer and batch size are as in
recipes/assignment-224.yaml, at an image size that its unpadded convolutions still allow. Prints one JSON object: the
seconds of each epoch, including validation; the last validation accuracy; the number of parameters.
"""

import argparse
import json
import time
from pathlib import Path

import pandas as pd
from keras import Sequential, callbacks, layers, optimizers
from keras.src.legacy.preprocessing.image import ImageDataGenerator

AUGMENTATION = {"rotation_range": 40, "width_shift_range": 0.2, "height_shift_range": 0.2, "zoom_range": 0.2}


def build_network(n_classes: int, size: int) -> Sequential:
    network = Sequential([layers.Input((size, size, 3))])
    for filters in (32, 64, 128, 256):
        for _ in range(2):
            network.add(layers.Conv2D(filters, 3, activation="relu"))
        network.add(layers.MaxPooling2D())
        network.add(layers.BatchNormalization())
    network.add(layers.Flatten())
    for _ in range(2):
        network.add(layers.Dense(1024, activation="relu"))
        network.add(layers.Dropout(0.5))
    network.add(layers.Dense(n_classes, activation="softmax"))
    network.compile(optimizers.Adam(1e-3, epsilon=0.1), loss="categorical_crossentropy", metrics=["accuracy"])
    return network


class Stopwatch(callbacks.Callback):
    """Record the duration of each epoch."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds.append(round(time.perf_counter() - self.started, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("manifest", type=Path, help="manifest.csv of the stage `split`")
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    manifest = pd.read_csv(arguments.manifest, keep_default_na=False)
    manifest["path"] = str(arguments.images) + "/" + manifest["path"]
    ways = {"train": {**AUGMENTATION, "horizontal_flip": True}, "val": {}}
    train, val = (
        ImageDataGenerator(rescale=1 / 255, **way).flow_from_dataframe(
            manifest[manifest["split"] == split],
            x_col="path",
            y_col="class",
            target_size=(arguments.size, arguments.size),
            batch_size=32,
            shuffle=split == "train",
        )
        for split, way in ways.items()
    )
    network = build_network(len(train.class_indices), arguments.size)
    stopwatch = Stopwatch()
    history = network.fit(train, validation_data=val, epochs=arguments.epochs, callbacks=[stopwatch], verbose=2)
    result = {"seconds_of_epochs": stopwatch.seconds, "val_accuracy": history.history["val_accuracy"][-1]}
    print(json.dumps(result | {"parameters": network.count_params()}))


if __name__ == "__main__":
    main()
