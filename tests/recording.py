"""Stands in for a stage's command: notes that the stage ran, and writes outputs that tell what they were made of.

    python -S -E recording.py DATA ... -- PARAMETER ... -- OUTPUT ...

An output is a checksum of the stage's name, of the bytes of its data, and of the values of its parameters (each a key,
the prefix of keys, or an empty word for all), but not of its code: other data and other parameters go on to the stages
below, a comment does not. The stage's name comes from DVC, in the environment; the values lie in a file of their own.
"""

# started a thousand times by a test: hashlib, pathlib, or json to read params.yaml, would each take as long as all else
# ruff: noqa: PTH103, PTH112, PTH118, PTH120, PTH123

import os
import sys
from zlib import crc32

LOG = "ran.txt"  # the stages that ran, a line each
VALUES = "values.txt"  # the leaves of params.yaml, a line each: key, space, value


def files_of(path: str) -> list[str]:
    """Return the file itself, or all files of the folder."""
    if not os.path.isdir(path):
        return [path]
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)


def values_of(prefixes: list[str]) -> list[str]:
    """Return the lines of those leaves that are one of these keys, or below it."""
    with open(VALUES, encoding="utf-8") as file:
        leaves = [(line.split()[0] + ".", line) for line in file]
    return [line for key, line in leaves if any(not each or key.startswith(f"{each}.") for each in prefixes)]


def checksum(stage: str, data: list[str], prefixes: list[str]) -> int:
    found = crc32("\n".join([stage, *values_of(prefixes)]).encode())
    for path in data:
        for each in files_of(path):
            with open(each, "rb") as file:
                found = crc32(each.removeprefix(path).encode() + b"\n" + file.read(), found)
    return found


def main() -> None:
    lists: list[list[str]] = [[]]
    for word in sys.argv[1:]:
        if word == "--":
            lists.append([])
        else:
            lists[-1].append(word)
    data, prefixes, outputs = lists
    stage = os.environ["DVC_STAGE"]
    with open(LOG, "a", encoding="utf-8") as log:
        log.write(stage + "\n")
    content = f"{checksum(stage, data, prefixes)}\n"
    for output in outputs:
        os.makedirs(os.path.dirname(output), exist_ok=True)
        with open(output, "w", encoding="utf-8") as file:
            file.write(content)


if __name__ == "__main__":
    main()
