import json
import subprocess
import sys

import pytest

from stages.reporting.score_table import best_models, read_scores, render_markdown, render_text
from stages.runtime.errors import UserError


def scores(accuracy: float, loss: float, **more) -> dict:
    return {"accuracy": accuracy, "loss": loss, "f1_macro": 0.5, "top5_accuracy": 0.9, "ece": 0.05, **more}


FILES = {
    "ensemble": scores(0.75, 0.9, voting="equal", weights={"cnn": 0.5, "vgg19_pretrained": 0.5}),
    "vgg19_pretrained": scores(0.75004, 1.0, start="data/weights/drawn/vgg19.safetensors (sha256 12ab...)"),
    "another": scores(0.6, 1.5, start="scratch"),
    "cnn": scores(0.7, 1.25, start="scratch"),
    "dataset": {"n_classes": 2},
}


@pytest.fixture
def metrics(tmp_path):
    for name, content in FILES.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_models_stand_in_the_known_order_then_others_then_the_ensemble(metrics):
    assert list(read_scores(metrics)) == ["cnn", "vgg19_pretrained", "another", "ensemble"]


def test_best_is_highest_accuracy_and_lowest_loss_and_ties_are_as_printed(metrics):
    best = best_models(read_scores(metrics))
    assert best["accuracy"] == {"vgg19_pretrained", "ensemble"}  # 0.75004 is printed as 0.7500
    assert best["loss"] == {"ensemble"}


def test_text_columns_are_aligned(metrics):
    lines = render_text(read_scores(metrics)).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["model", "starts", "from", "accuracy", "loss", "macro", "F1", "top-5", "ECE"]
    assert lines[2].split() == ["cnn", "scratch", "0.7000", "1.2500", "0.5000", "0.9000", "0.0500"]
    assert lines[-1].split()[:5] == ["ensemble", "equal", "vote", "of", "2"]


def test_markdown_marks_the_best_and_names_the_folder_of_the_weights(metrics):
    lines = render_markdown(read_scores(metrics)).splitlines()
    assert lines[1] == "|---|---|---:|---:|---:|---:|---:|"
    assert lines[3].startswith("| `vgg19_pretrained` | data/weights/drawn | **0.7500** | 1.0000 |")
    assert {line.count("|") for line in lines} == {8}


def test_a_member_of_the_vote_without_metrics_is_named(metrics):
    (metrics / "cnn.json").unlink()
    with pytest.raises(UserError, match=r"cnn\.json: .*No such file.*`dvc repro evaluate@cnn`"):
        read_scores(metrics)


@pytest.mark.parametrize(("text", "problem"), [("{", "found no JSON file"), ('{"accuracy": 1}', "expected loss")])
def test_a_broken_file_is_named(metrics, text, problem):
    (metrics / "cnn.json").write_text(text)
    with pytest.raises(UserError, match=rf"cnn\.json: .*{problem}"):
        read_scores(metrics)


def test_the_command_says_where_the_report_lies_and_loads_neither_numpy_nor_pandas(metrics):
    code = (
        "import runpy, sys; sys.argv[1:] = [sys.argv[1]]; runpy.run_module('stages.reporting.score_table', "
        "run_name='__main__'); assert not {'numpy', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(metrics)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith(f"{metrics}/report.html")


def test_a_missing_folder_is_one_line_and_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "stages.reporting.score_table", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "dvc repro" in done.stderr
