"""Classify pictures with the trained models: print the five likeliest classes of each.

    python -m stages.predict PATH... [--model NAME] [--coverage SHARE] [--at-least PROBABILITY] [--json | --csv]
        [--models FOLDER]

PATH is a file, a folder, or - for a list on standard input, one path per line. By default the ensemble answers; --model
asks one model. Pictures are decoded and resized as in `pack`. A file that is not a usable image is named on standard
error; all others are answered, and the exit code is 1. A picture that is farther from the training pictures than 99 %
of the validation pictures is marked as unlike them. --coverage adds a set of classes, --at-least marks answers for a
person.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.inference.answers import Answer, describe, write_csv, write_json_lines, write_table
from stages.inference.pictures import list_files, read_pictures
from stages.runtime.errors import UserError
from stages.runtime.process import exit_cleanly


def answer(
    paths: list[str], folder: Path, model: str | None, coverage: float | None = None, at_least: float | None = None
) -> Iterator[tuple[str, Answer | str]]:
    """Yield each path with its Answer, or with the reason why it is not a picture; only a few pictures are in memory.

    Answers come in the order of the paths; failures come earlier.

    Args:
        coverage: how often the set of classes contains the right one; None: no set.
        at_least: an answer below this probability is for a person; None: no mark.
    """
    from stages.inference.ensembles import load_ensemble
    from stages.inference.probabilities import BATCH_SIZE
    from stages.networks.devices import choose_device

    ensemble = load_ensemble(folder, model)
    names, sizes_px = ensemble.class_names, ensemble.stored_sizes_px
    mass = None if coverage is None else ensemble.find_mass(coverage)

    def ask(pictures: list[tuple[str, dict[int, np.ndarray]]]) -> Iterator[tuple[str, Answer]]:
        images = {size_px: np.stack([picture[size_px] for _, picture in pictures]) for size_px in sizes_px}
        # chosen after the worker processes have started: a process that is forked after CUDA has started may hang
        probabilities, distances = ensemble.predict(images, choose_device())
        for i, (path, _) in enumerate(pictures):
            distance = None if distances is None else float(distances[i])
            yield path, describe(probabilities[i], names, distance, mass, at_least)

    waiting: list[tuple[str, dict[int, np.ndarray]]] = []
    for path, picture in read_pictures(paths, sizes_px, ensemble.grey_bits):
        if isinstance(picture, str):
            yield path, picture
            continue
        waiting.append((path, picture))
        if len(waiting) == BATCH_SIZE + 2:  # batches as in `evaluate`, and no single image at the end
            yield from ask(waiting[:BATCH_SIZE])
            del waiting[:BATCH_SIZE]
    if waiting:
        yield from ask(waiting)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a file, a folder, or - for a list on standard input")
    parser.add_argument(
        "--models",
        type=Path,
        default=Path("data/models"),
        metavar="FOLDER",
        help="folder of trained models, by default %(default)s",
    )
    parser.add_argument("--model", metavar="NAME", help="ask only this model; by default the ensemble")
    parser.add_argument(
        "--coverage",
        type=float,
        metavar="SHARE",
        help="also print the classes that contain the right one for this share of pictures, for example 0.95",
    )
    parser.add_argument(
        "--at-least",
        type=float,
        metavar="PROBABILITY",
        help="mark answers below this probability for a person, for example 0.9",
    )
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument(
        "--json", dest="write", action="store_const", const=write_json_lines, help="print one JSON object per line"
    )
    formats.add_argument(
        "--csv", dest="write", action="store_const", const=write_csv, help="print one CSV row per picture"
    )
    parser.set_defaults(write=write_table)
    arguments = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # file names may be invalid UTF-8; JSON can escape them
    sys.stderr.reconfigure(errors="backslashreplace")
    for name in ("coverage", "at_least"):
        if (value := vars(arguments)[name]) is not None and not 0 < value < 1:
            raise UserError(
                f"--{name.replace('_', '-')}: expected a number between 0 and 1, for example 0.95, found {value:g}"
            )
    paths = list(list_files(arguments.paths))
    if not paths:
        found = f"no file in {' '.join(arguments.paths)}" if arguments.paths else "none"
        raise UserError(f"PATH: expected pictures, or folders with pictures, found {found}; name files or folders")

    n_refused = 0

    def name_refused(answers: Iterable[tuple[str, Answer | str]]) -> Iterator[tuple[str, Answer]]:
        nonlocal n_refused
        for path, found in answers:
            if isinstance(found, str):
                n_refused += 1
                tqdm.write(f"{path}: no usable image ({found})", file=sys.stderr)
            else:
                yield path, found

    # printed rows already show the progress
    hidden = True if sys.stdout.isatty() else None
    answers = answer(paths, arguments.models, arguments.model, arguments.coverage, arguments.at_least)
    arguments.write(name_refused(tqdm(answers, total=len(paths), unit="image", disable=hidden, leave=False)))
    if n_refused:
        print(f"{n_refused} of {len(paths)} files hold no usable image", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    exit_cleanly(main)
