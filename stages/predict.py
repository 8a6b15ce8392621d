"""Ask the trained models what is on pictures: the five likeliest classes of each, by the vote or by one model.

    python -m stages.predict PATH... [--model NAME] [--json | --csv] [--models FOLDER]

PATH is a file, a folder of them, or - for a list on standard input, a path a line. Pictures are decoded and resized as
`pack` does it, and seen as by `evaluate`. A file of which no picture can be made is named on standard error; the others
are answered, and the exit code is 1.
"""

import argparse
import csv
import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.inference.pictures import list_files, read_pictures
from stages.runtime.errors import UserError
from stages.runtime.process import exit_cleanly

TOP = 5

Answer = list[tuple[str, float]]  # the likeliest classes with their probabilities, the likeliest first


def answer(paths: list[str], folder: Path, model: str | None, refuse: Callable[[str], None]) -> Iterator:
    """Yield (path, Answer) of each picture in order; memory holds a few of them at a time.

    Args:
        refuse: is told of each file that holds no picture.
    """
    from stages.inference.ensembles import load_ensemble
    from stages.inference.probabilities import BATCH_SIZE
    from stages.networks.devices import choose_device

    ensemble, device = load_ensemble(folder, model), choose_device()
    names = ensemble.card.class_names

    def ask(pictures: list[tuple[str, np.ndarray]]) -> Iterator[tuple[str, Answer]]:
        probabilities = ensemble.predict_proba(np.stack([picture for _, picture in pictures]), device)
        for (path, _), row in zip(pictures, probabilities, strict=True):
            best = np.argsort(-row, kind="stable")[:TOP]
            yield path, [(names[label], float(row[label])) for label in best]

    waiting: list[tuple[str, np.ndarray]] = []
    for path, picture in read_pictures(paths, ensemble.card.stored_size_px):
        if isinstance(picture, str):
            refuse(f"{path}: no usable image ({picture})")
            continue
        waiting.append((path, picture))
        if len(waiting) == BATCH_SIZE + 2:  # no image is left alone at the end: the same batches as in `evaluate`
            yield from ask(waiting[:BATCH_SIZE])
            del waiting[:BATCH_SIZE]
    if waiting:
        yield from ask(waiting)


def write_table(answers: Iterable[tuple[str, Answer]]) -> None:
    for path, classes in answers:
        print(path, *(f"  {probability:.4f}  {name}" for name, probability in classes), sep="\n", flush=True)


def write_csv(answers: Iterable[tuple[str, Answer]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, (path, classes) in enumerate(answers):
        if not number:
            ranks = range(1, len(classes) + 1)
            writer.writerow(["path", *(f"{column}_{rank}" for rank in ranks for column in ("class", "probability"))])
        writer.writerow([path, *(cell for name, probability in classes for cell in (name, f"{probability:.6f}"))])


def write_json_lines(answers: Iterable[tuple[str, Answer]]) -> None:
    for path, classes in answers:
        top = [{"class": name, "probability": round(probability, 6)} for name, probability in classes]
        print(json.dumps({"path": path, "top": top}, ensure_ascii=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a file, a folder, or - for a list on standard input")
    parser.add_argument(
        "--models", type=Path, default=Path("data/models"), metavar="FOLDER", help="by default %(default)s"
    )
    parser.add_argument("--model", metavar="NAME", help="one of them alone; by default they vote")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", dest="write", action="store_const", const=write_json_lines, help="an object a line")
    formats.add_argument("--csv", dest="write", action="store_const", const=write_csv, help="a row a picture")
    arguments = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` has seen enough
    sys.stdin.reconfigure(errors="surrogateescape")
    sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text; in JSON that is its escape
    sys.stderr.reconfigure(errors="backslashreplace")
    paths = list(list_files(arguments.paths))
    if not paths:
        found = f"no file in {' '.join(arguments.paths)}" if arguments.paths else "none"
        raise UserError(f"PATH: expected pictures, or folders of them, found {found}; name some")

    refused: list[str] = []
    # rows that pass over the screen are progress enough
    hidden = True if sys.stdout.isatty() else None
    with tqdm(total=len(paths), unit="image", disable=hidden, leave=False) as bar:

        def refuse(line: str) -> None:
            refused.append(line)
            bar.write(line, file=sys.stderr)
            bar.update()

        def advance(answers: Iterable[tuple[str, Answer]]) -> Iterator[tuple[str, Answer]]:
            for each in answers:
                yield each
                bar.update()

        (arguments.write or write_table)(advance(answer(paths, arguments.models, arguments.model, refuse)))
    if refused:
        print(f"{len(refused)} of {len(paths)} files hold no usable image", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    exit_cleanly(main)
