"""Export the ensemble, or one model, as an ONNX graph that runs without this project and without PyTorch.

    python -m stages.export FILE [--model NAME] [--models FOLDER]

The graph takes uint8 pictures, in each size that the models need, and returns probabilities. It contains cropping,
normalisation and the combination of the models. Its metadata say how to resize a picture, and list the classes. Needs
the extra `onnx` of pyproject.toml.
"""

import argparse
from pathlib import Path

from stages.runtime.process import exit_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="ONNX file to write")
    parser.add_argument(
        "--models",
        type=Path,
        default=Path("data/models"),
        metavar="FOLDER",
        help="folder of trained models, by default %(default)s",
    )
    parser.add_argument("--model", metavar="NAME", help="export only this model; by default the ensemble")
    arguments = parser.parse_args()

    from stages.inference.ensembles import load_ensemble
    from stages.inference.graphs import describe_members, write_onnx

    ensemble = load_ensemble(arguments.models, arguments.model)
    files = write_onnx(arguments.file, ensemble)
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    print(f"{' with '.join(map(str, files))}: {describe_members(ensemble)}; {size_mb:.1f} MB")


if __name__ == "__main__":
    exit_cleanly(main)
