"""Save an ONNX graph in one file; if the format cannot hold the weights, they go to a second file beside it."""

import hashlib
import re
from pathlib import Path
from typing import Any

from stages.runtime.files import written_together

ONE_FILE_BYTES = 2_000_000_000  # limit for the weights: protobuf allows 2 GiB, and the graph needs some of it


def save_graph(graph: Any, path: Path) -> list[Path]:
    """Write a graph; return its files, `path` first. On failure the old graph keeps its weights.

    The name of the second file contains a hash of the weights, so that the old graph keeps its own until then.

    Args:
        graph: an onnx_ir.Model.
    Raises:
        OSError: the disk is full or read-only.
    """
    import onnx_ir

    weights = [each.const_value for part in graph.graphs() for each in part.initializers.values()]
    is_large = sum(each.nbytes for each in weights) > ONE_FILE_BYTES
    data = [path.with_name(f"{path.name}.{_hash(weights)}.data")] if is_large else []
    with written_together(path) as folder:
        onnx_ir.save(graph, folder / path.name, external_data=data[0].name if data else None)
    for other in path.parent.iterdir():
        if re.fullmatch(rf"{re.escape(path.name)}\.[0-9a-f]{{16}}\.data", other.name) and other not in data:
            other.unlink()  # weights of the old graph
    return [path, *data]


def _hash(weights: list[Any]) -> str:
    digest = hashlib.sha256()
    for each in weights:
        digest.update(f"{each.name} {each.dtype} {each.shape}".encode())
        digest.update(each.tobytes())
    return digest.hexdigest()[:16]
