"""A graph whose weights do not fit into one file: two files that always belong together."""

from pathlib import Path

import numpy as np
import pytest

from stages.inference import graph_files
from stages.inference.graph_files import save_graph

onnx_ir, onnxruntime = pytest.importorskip("onnx_ir"), pytest.importorskip("onnxruntime")


def add(number: float):
    """Return a graph that adds a number to its 100 weights."""
    from onnx import TensorProto, helper, numpy_helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [100]) for name in "xy")
    weights = numpy_helper.from_array(np.full(100, number, np.float32), "weights")
    graph = helper.make_graph([helper.make_node("Add", ["x", "weights"], ["y"])], "add", [x], [y], [weights])
    return onnx_ir.from_proto(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]))


def run(path: Path) -> float:
    return onnxruntime.InferenceSession(path).run(None, {"x": np.zeros(100, np.float32)})[0][0].item()


def test_what_one_file_can_hold_is_in_one(tmp_path, monkeypatch):
    path = tmp_path / "new folder" / "vote.onnx"
    for limit_bytes, n_files in ((399, 2), (400, 1)):
        monkeypatch.setattr(graph_files, "ONE_FILE_BYTES", limit_bytes)
        files = save_graph(add(limit_bytes), path)
        assert (len(files), files[0], run(path)) == (n_files, path, limit_bytes)
        assert sorted(path.parent.iterdir()) == sorted(files)  # nothing of an older graph
        assert all(each.name.startswith("vote.onnx") for each in files)


@pytest.mark.parametrize("name", ["vote.onnx", ".data"], ids=["the graph's name", "the weights' name"])
def test_an_export_that_ends_early_leaves_the_old_graph_and_its_weights(tmp_path, monkeypatch, name):
    monkeypatch.setattr(graph_files, "ONE_FILE_BYTES", 0)
    path, replace = tmp_path / "vote.onnx", Path.replace
    (tmp_path / "vote.onnx.mine.data").write_text("of somebody else", encoding="utf-8")
    save_graph(add(1), path)

    def stop(self: Path, target: Path) -> Path:
        if target.name.endswith(name):
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            save_graph(add(2), path)
    assert run(path) == 1
    assert not [*tmp_path.glob(".*")]
    files = save_graph(add(3), path)
    assert run(path) == 3
    assert sorted(tmp_path.iterdir()) == sorted([*files, tmp_path / "vote.onnx.mine.data"])
