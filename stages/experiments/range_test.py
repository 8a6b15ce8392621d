"""A learning-rate range test: find a good learning rate within one short training.

    python -m stages.experiments.range_test MODEL [--packed FOLDER] [--params PATH] [--out FOLDER] [--steps N]

The learning rate rises by a constant factor from batch to batch, from 1e-6 to 1, or until the loss diverges. Everything
else is as in the model's own training. Only the train split is read. Writes MODEL.csv and MODEL.png, and suggests a
rate.

Source: L. N. Smith, Cyclical Learning Rates for Training Neural Networks, 2017, section 3.3. The constant factor and
the smoothing became usual later.
"""

import argparse
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from stages.networks.devices import choose_device
from stages.pixels.packed_splits import open_splits
from stages.runtime.errors import UserError
from stages.runtime.files import write_text, written_whole
from stages.runtime.process import exit_cleanly
from stages.training.augmentations import iterate_epoch
from stages.training.job import Job, prepare, read_recipe
from stages.training.trainer import Trainer

LOWEST, HIGHEST = 1e-6, 1.0
SMOOTHING = 0.9  # weight of earlier losses in the running mean
FALLEN = 0.8  # share of the decrease of the loss that is reached at the suggested rate
EXPLODED = 1.5  # stop when the loss exceeds this multiple of the smallest smoothed loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a block of `models` in the parameters")
    parser.add_argument("--packed", type=Path, default="data/packed", help="folder of the packs, one per image size")
    parser.add_argument("--params", type=Path, default="params.yaml", help="parameter file, by default %(default)s")
    parser.add_argument(
        "--out", type=Path, default="metrics/range_test", help="folder to write, by default %(default)s"
    )
    parser.add_argument("--steps", type=int, default=200, help="number of batches from the lowest rate to the highest")
    arguments = parser.parse_args()
    if arguments.steps < 20:
        raise UserError(f"--steps: expected 20 or more, found {arguments.steps}; choose a larger number")
    recipe = read_recipe(arguments.params, arguments.model)
    size_px = recipe.models[arguments.model].image_size_px
    packed, stored_size_px = arguments.packed / str(size_px), recipe.pack.stored_size_px(size_px)
    class_names, (train,) = open_splits(packed, ("train",))
    if (found_px := train.images.shape[1]) != stored_size_px:
        raise UserError(
            f"{packed}: expected images of {stored_size_px} px, as in {arguments.params}, "
            f"found {found_px} px; run `dvc repro pack`"
        )
    network, _, job = prepare(recipe, arguments.model, class_names, (train, train), choose_device())
    rates, losses = try_rates(network, job, arguments.steps)
    smoothed = smooth(losses)
    suggested = suggest_rate(rates, smoothed)
    table, figure = (arguments.out / f"{arguments.model}.{ending}" for ending in ("csv", "png"))
    rows = pd.DataFrame({"lr": rates, "loss": losses, "smoothed_loss": smoothed})
    write_text(table, rows.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    draw_curve(figure, arguments.model, rates, losses, smoothed, suggested, job.settings.lr)
    print(f"{arguments.model}: {len(rates)} batches from lr {rates[0]:.1e} to {rates[-1]:.1e}; see {figure}, {table}")
    print(f"{arguments.model}: suggested lr {suggested:.1e}; the parameters say {job.settings.lr:g}")


def try_rates(network: nn.Module, job: Job, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Train with a rising learning rate.

    Returns:
        The rates and the losses of the batches, float (n,), n <= n_steps.
    """
    trainer = Trainer(network, job)
    trainer.epoch = job.settings.frozen_epochs  # all layers learn
    trainer.begin_epoch()
    rates, losses, mean, smallest = np.geomspace(LOWEST, HIGHEST, n_steps), [], 0.0, math.inf
    batches = itertools.chain.from_iterable(iterate_epoch(job, epoch) for epoch in itertools.count())
    trainer.schedule = LambdaLR(trainer.optimizer, lambda step: rates[min(step, n_steps - 1)] / job.settings.lr)
    for images, targets, _ in itertools.islice(tqdm(batches, total=n_steps, disable=None, leave=False), n_steps):
        loss = trainer.step(images, targets)[0].item() / len(images)
        if not math.isfinite(loss):
            break
        losses.append(loss)
        mean = smooth(losses)[-1]
        smallest = min(smallest, mean)
        if mean > EXPLODED * smallest:
            break
    return rates[: len(losses)], np.array(losses)


def smooth(losses: Sequence[float]) -> np.ndarray:
    """Return the running mean of losses (n,), corrected for the bias towards 0 at the beginning."""
    return pd.Series(losses, dtype=float).ewm(alpha=1 - SMOOTHING).mean().to_numpy()


def suggest_rate(rates: np.ndarray, smoothed: np.ndarray) -> float:
    """Return the lowest rate at which the smoothed loss has completed most of its decrease.

    At the minimum itself the rate is too high, because training is about to diverge; the minimum is also often flat.
    Four fifths of the decrease fit real grids of `cnn` and `resnet50` (docs/experiments.md).
    """
    bottom = int(smoothed.argmin())
    top = smoothed[: bottom + 1].max()
    return float(rates[(smoothed <= top - FALLEN * (top - smoothed[bottom])).argmax()])


def draw_curve(
    path: Path, model: str, rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggested: float, lr: float
) -> None:
    """Plot the losses over the rates, with the suggested rate and the rate in the parameters."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color="#9ecae1", linewidth=0.8, label="loss of a batch")
    axes.plot(rates, smoothed, color="#08519c", label="smoothed")
    axes.axvline(suggested, color="#d94801", label=f"suggested: {suggested:.1e}")
    axes.axvline(lr, color="#7d7d7d", linestyle=":", label=f"of the parameters: {lr:g}")
    lowest, highest = smoothed.min(), smoothed[: smoothed.argmin() + 1].max()
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=f"{model}: learning-rate range test")
    axes.set_ylim(lowest - 0.2 * (highest - lowest), highest + 0.3 * (highest - lowest))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with written_whole(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})


if __name__ == "__main__":
    exit_cleanly(main)
