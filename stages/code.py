"""Describe the code of each script and architecture in a text; stages depend on that text, not on source files.

The text ignores comments, docstrings and layout, so that an edit that cannot change a result reruns nothing else.
"""

import argparse
from pathlib import Path

from stages.runtime.files import write_text
from stages.runtime.process import run_stage
from stages.runtime.sources import describe


def write_descriptions(folder: Path) -> None:
    """Write SCRIPT.txt for each file of stages/, and models/ARCHITECTURE.txt for each file of stages/models/.

    versions.txt has the pinned versions of all packages that any of them imports.
    """
    stages, versions = Path("stages"), set()
    for path in [*stages.glob("[!_]*.py"), *stages.glob("models/[!_]*.py")]:
        module = ".".join(path.with_suffix("").parts)
        text = describe(module)
        write_text(folder / path.relative_to(stages).with_suffix(".txt"), text)
        versions |= {line.removeprefix("package ") for line in text.splitlines() if line.startswith("package ")}
    write_text(folder / "versions.txt", "".join(f"{line}\n" for line in sorted(versions)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=Path, help="folder to write: a text for each script and architecture")
    write_descriptions(parser.parse_args().texts)


if __name__ == "__main__":
    run_stage(main)
