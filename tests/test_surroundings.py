"""Every stage where it may not or cannot write: one line that names the place, exit code 2, and no half-written output.

The stages and their outputs are those of dvc.yaml. They run in this process: to import torch for each takes minutes.
"""

import ctypes
import errno
import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from stages.shared import running, training

from stages.runtime.errors import UserError
from stages.runtime.files import write_text
from stages.runtime.process import exit_cleanly
from stages.training.checkpoints import Checkpoint
from tests.imports import ROOT
from tests.test_damaged_inputs import PIPELINE, make_world, run_stage

STAGES = {name: stage for name, stage in PIPELINE.items() if name != "finetune"}  # train with another argument
STAGES["draw"] = (["stages.draw", "source", "drawn/images"], ["drawn/images"])
OUTPUTS = [(stage, Path(out)) for stage, (_, outs) in STAGES.items() for out in outs]
FOLDERS = sorted({(stage, out.parent) for stage, out in OUTPUTS})
MAY_OVERRIDE, MAY_SEARCH = 1 << 1, 1 << 2  # capabilities of root: to write to, and to read, what is not permitted


def run_and_settle(stage: str, command: list[str] | None = None) -> None:
    """Run a stage in this process and this folder; a checkpoint is written to its end, as when a process ends."""
    checkpoints = []

    class NotedCheckpoint(Checkpoint):
        def __init__(self, *values: object):
            super().__init__(*values)
            checkpoints.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Checkpoint", NotedCheckpoint)
        try:
            run_stage(stage, command or STAGES[stage][0])
        finally:
            for checkpoint in checkpoints:
                checkpoint.writer.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage but train has run."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
        make_world()
        run_stage("check")
        run_stage("draw", STAGES["draw"][0])
    return folder


@pytest.fixture
def world(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the whole folder, in which the test runs."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def mounted(*arguments: str) -> Iterator[None]:
    """Mount something at the last argument; skip the test where that is refused."""
    if subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode:
        pytest.skip("mount is refused here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", arguments[-1]], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    with mounted("--bind", str(folder), str(folder)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield


@contextmanager
def full(folder: Path) -> Iterator[None]:
    copy = folder.with_name(f"{folder.name} before")
    shutil.copytree(folder, copy)
    with mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)):
        shutil.copytree(copy, folder, dirs_exist_ok=True)
        shutil.rmtree(copy)
        with suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        yield


@contextmanager
def forbidden(folder: Path) -> Iterator[None]:
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for each in folders:
        each.chmod(0o555)
    try:
        with as_ordinary_user():
            yield
    finally:
        for each in folders:
            each.chmod(0o755)


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Put root's right to read and write everything aside, for this thread and the processes that it starts."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "capset"):
        pytest.skip("only Linux lets root put its rights aside")
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # sets[0]: what is in force
    assert libc.capget(header, sets) == 0
    rights = sets[0]
    sets[0] = rights & ~(MAY_OVERRIDE | MAY_SEARCH)
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = rights
        assert libc.capset(header, sets) == 0


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return {file.as_posix(): file.read_bytes() for file in files if file.is_file()}


def assert_refused(stage: str, place: Path, capfd, what: str, command: list[str] | None = None) -> None:
    """Run the stage: it says on one line what is wrong and where, and how to go on."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        run_and_settle(stage, command)
    said = capfd.readouterr().err
    line = rf"error: (/.*/)?{re.escape(place.as_posix())}[^:]*: {what}; [^;]*, and run again\n"
    assert re.fullmatch(line, said), said
    assert ended.value.code == 2


def outputs_in(stage: str, folder: Path) -> dict[str, bytes]:
    """Return the outputs of a stage that lie in the folder."""
    outs = [out for its_stage, out in OUTPUTS if its_stage == stage and folder in out.parents]
    return {name: content for out in outs for name, content in contents(out).items()}


TROUBLES = {
    "full": (full, "No space left on device"),
    "read-only": (read_only, "Read-only file system"),
    "forbidden": (forbidden, "Permission denied"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize(("stage", "folder"), FOLDERS, ids=[f"{stage} {folder}" for stage, folder in FOLDERS])
def test_a_folder_that_cannot_be_written_to_is_named_and_keeps_what_was_in_it(world, capfd, stage, folder, trouble):
    make_trouble, what = TROUBLES[trouble]
    before = outputs_in(stage, folder)
    with make_trouble(folder):
        assert_refused(stage, folder, capfd, what)
        assert outputs_in(stage, folder) == before
        assert list(Path().rglob(".*unfinished*")) == []


IN_PLACE_OF_A_FOLDER = [
    (stage, folder)
    for stage, folder in FOLDERS
    if (stage, folder.as_posix()) not in (("check", "data"), ("report", "metrics"))  # their inputs lie there, too
]


@pytest.mark.parametrize(("stage", "folder"), IN_PLACE_OF_A_FOLDER, ids=lambda each: str(each))
def test_a_file_in_place_of_an_output_folder_is_named_and_stays(world, capfd, stage, folder):
    shutil.rmtree(folder)
    folder.write_text("the user's", encoding="utf-8")
    assert_refused(stage, folder, capfd, "(File exists|Not a directory)")
    assert folder.read_text(encoding="utf-8") == "the user's"


@pytest.mark.parametrize(("stage", "out"), OUTPUTS, ids=lambda each: str(each))
def test_what_stands_in_place_of_an_output_is_named_and_stays(world, capfd, stage, out):
    if out.is_dir():
        shutil.rmtree(out)
        out.write_text("the user's", encoding="utf-8")
    else:
        out.unlink(missing_ok=True)
        (out / "the user's").mkdir(parents=True)
    assert_refused(stage, out, capfd, "[^;]*")
    assert out.is_file() or [path.name for path in out.iterdir()] == ["the user's"]
    assert list(Path().rglob(".*unfinished*")) == []


@pytest.mark.parametrize("stage", ["split", "ensemble"])
@pytest.mark.parametrize("link", ["to itself", "to nowhere"])
def test_a_link_that_leads_nowhere_in_place_of_an_output_folder_is_named(world, capfd, stage, link):
    folder = next(folder for its_stage, folder in FOLDERS[::-1] if its_stage == stage and folder.parts[0] == "metrics")
    shutil.rmtree(folder)
    folder.symlink_to(folder.name if link == "to itself" else "/nowhere/at/all")
    assert_refused(stage, folder, capfd, "(Too many levels of symbolic links|File exists)")


@pytest.mark.parametrize("stage", ["ensemble", "report"])
def test_a_name_that_is_too_long_is_a_users_mistake(world, capfd, stage):
    *command, last = STAGES[stage][0]
    last += 30 * "long name "
    assert_refused(stage, Path(last), capfd, "File name too long", [*command, last])


@pytest.mark.parametrize(
    ("stage", "path"),
    [
        ("check", "params.yaml"),
        ("pack", "data/manifest.csv"),
        ("evaluate", "data/models/cnn.safetensors"),
        ("evaluate", "data/packed/classes.json"),
        ("evaluate", "data/packed/val/images.npy"),
        ("ensemble", "data/predictions/cnn.npz"),
        ("report", "metrics/cnn.json"),
        ("report", "metrics/class_counts.csv"),
        ("report", "metrics/cnn/confusion.png"),
    ],
)
def test_an_input_that_may_not_be_read_is_no_damaged_one(world, capfd, stage, path):
    Path(path).chmod(0)
    with as_ordinary_user():
        assert_refused(stage, Path(path), capfd, "Permission denied")


def test_a_pipe_in_place_of_an_output_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(OSError, match=r"pipe\.csv"):
        write_text(tmp_path / "pipe.csv", "text")
    assert (tmp_path / "pipe.csv").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.csv"]


POOL = """
from stages.runtime.process import run_stage, spread

def main():
    print(*spread(abs, [-1, -2]))

if __name__ == "__main__":
    run_stage(main)
"""


def run_script(script: str, folder: Path, shell: str = "", *, private: bool = False) -> subprocess.CompletedProcess:
    """Run a script after shell commands, if need be with mounts of its own; skip the test where those are refused."""
    if private and subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a process may not have mounts of its own here")
    (folder / "script.py").write_text(script, encoding="utf-8")
    run = f"{shell}exec {shlex.quote(sys.executable)} script.py"
    return subprocess.run(
        [*(["unshare", "-m"] if private else []), "sh", "-c", run],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


SHARED_MEMORY = {
    "full": ("mount -t tmpfs -o size=4k tmpfs /dev/shm; ", "No space left on device"),
    "without a free file": ("mount -t tmpfs -o nr_inodes=1 tmpfs /dev/shm; ", "No space left on device"),
    "read-only": ("mount -t tmpfs -o ro tmpfs /dev/shm; ", "Read-only file system"),
    "missing": (
        "mkdir dev; mount -t tmpfs tmpfs dev; cp -a /dev/null /dev/urandom dev; mount --move dev /dev; ",
        "No such file or directory",
    ),
}


@pytest.mark.parametrize("state", SHARED_MEMORY)
def test_shared_memory_that_takes_no_semaphores_is_named(tmp_path, state):
    shell, what = SHARED_MEMORY[state]
    done = run_script(POOL, tmp_path, shell, private=True)
    assert re.fullmatch(f"error: /dev/shm: {what}, .*, and run again\n", done.stderr), done.stderr
    assert (done.returncode, done.stdout) == (2, "")


def test_shared_memory_of_64_kib_is_enough(tmp_path):
    done = run_script(POOL, tmp_path, "mount -t tmpfs -o size=64k tmpfs /dev/shm; ", private=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 2\n", "")


def test_a_python_without_semaphores_is_a_users_mistake(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("This Python build lacks multiprocessing.synchronize")

    monkeypatch.setattr(running, "ProcessPoolExecutor", refuse)
    with pytest.raises(UserError, match=r"lacks multiprocessing\.synchronize"):
        list(running.spread(abs, [-1]))


@pytest.mark.parametrize("n_files", [6, 10, 14])
def test_a_limit_of_open_files_is_said_to_be_one(tmp_path, n_files):
    limit = f"    resource.setrlimit(resource.RLIMIT_NOFILE, ({n_files}, {n_files}))\n    print("
    imports = "import resource\nfrom concurrent.futures import process\nfrom multiprocessing import connection\n"
    done = run_script(imports + POOL.replace("    print(", limit), tmp_path)
    words = r"error: Too many open files; raise the limit of open files \(ulimit -n\), and run again\n"
    assert re.fullmatch(words, done.stderr), done.stderr
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("n_started", [0, 1])
def test_workers_that_cannot_be_started_are_a_users_mistake_and_leave_no_other_worker(monkeypatch, capfd, n_started):
    fork, forks = os.fork, []

    def refuse() -> int:
        if len(forks) == n_started:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        forks.append(fork())
        return forks[-1]

    def work() -> None:
        with running.open_pool(2) as pool:
            list(pool.map(abs, [-1, -2]))

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(SystemExit) as ended:
        exit_cleanly(work)
    assert ended.value.code == 2
    assert re.fullmatch("error: Resource temporarily unavailable; .*, and run again\n", capfd.readouterr().err)
    left = multiprocessing.active_children()
    for process in left:
        process.join(timeout=2)
        process.kill()
    assert [process.exitcode for process in left if process.is_alive()] == []


LARGE_FILE = """
from pathlib import Path
from stages.runtime.files import write_text
from stages.runtime.process import run_stage

run_stage(lambda: write_text(Path("out/large.csv"), "a" * 100_000))
"""


def test_a_file_larger_than_its_limit_is_a_users_mistake_and_is_not_left(tmp_path):
    done = run_script(LARGE_FILE, tmp_path, "ulimit -f 8; ")
    assert re.fullmatch("error: out/large.csv: File too large; .*, and run again\n", done.stderr), done.stderr
    assert done.returncode == 2
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.EBUSY, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENOTEMPTY])
def test_what_the_machine_refuses_is_one_line(number, capfd):
    def fail() -> None:
        raise OSError(number, os.strerror(number), "metrics/cnn.json")

    with pytest.raises(SystemExit) as ended:
        exit_cleanly(fail)
    assert ended.value.code == 2
    line = f"error: metrics/cnn.json: {os.strerror(number)}; [^;]*, and run again\n"
    assert re.fullmatch(line, capfd.readouterr().err)


@pytest.mark.parametrize("error", ["ZeroDivisionError()", "ValueError()", "OSError('no')", "FileNotFoundError(2, '')"])
def test_an_error_of_our_own_is_a_traceback_and_exit_code_1(tmp_path, error):
    script = f"from stages.runtime.process import run_stage\ndef main(): raise {error}\nrun_stage(main)\n"
    done = run_script(script, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")


@pytest.mark.parametrize("state", ["a folder", "forbidden"])
def test_a_time_that_cannot_be_noted_does_not_end_a_stage_that_has_written_its_outputs(tmp_path, monkeypatch, state):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    if state == "a folder":
        Path("data/timings.csv").mkdir()
    else:
        Path("data/timings.csv").touch(mode=0o444)
    monkeypatch.setattr(running.signal, "signal", lambda *_: None)  # this process keeps its own answers
    with as_ordinary_user():
        running.run_stage(lambda: write_text(Path("out.csv"), "text"))
    assert Path("out.csv").read_text(encoding="utf-8") == "text"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Return a function that makes each download end with an error."""

    def fail_with(error: BaseException) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        timm = SimpleNamespace(list_pretrained=lambda: ["vgg19_bn.tv_in1k"], create_model=fail)
        monkeypatch.setitem(sys.modules, "timm", timm)
        monkeypatch.setitem(sys.modules, "torchvision.datasets", SimpleNamespace(Flowers102=fail))

    return fail_with


DOWNLOADS = {
    "fetch": ["stages.fetch", "vgg19", "data/weights/imagenet/vgg19.safetensors"],
    "download": ["stages.download", "data/oxford102/images"],
}


@pytest.mark.parametrize("stage", DOWNLOADS)
def test_a_full_disk_is_not_taken_for_a_failed_download(world, capfd, hub, stage):
    hub(OSError(errno.ENOSPC, "No space left on device", "cache/of/the/hub"))
    assert_refused(stage, Path("cache/of/the/hub"), capfd, "No space left on device", DOWNLOADS[stage])
    assert [path.name for path in Path(DOWNLOADS[stage][-1]).parent.iterdir()] == ["dvc.yaml"]


@pytest.mark.parametrize("stage", DOWNLOADS)
@pytest.mark.parametrize("error", [OSError("no network"), RuntimeError("a wrong checksum"), TimeoutError(110, "late")])
def test_a_failed_download_is_one_line_that_names_the_parameter_and_leaves_nothing(world, capfd, hub, stage, error):
    hub(error)
    with pytest.raises(SystemExit) as ended:
        run_stage(stage, DOWNLOADS[stage])
    assert ended.value.code == 2
    assert re.fullmatch("error: .*: the download failed .*; set `(weights|images)` to .*\n", capfd.readouterr().err)
    assert [path.name for path in Path(DOWNLOADS[stage][-1]).parent.iterdir()] == ["dvc.yaml"]


def test_a_download_does_not_replace_a_folder(world, capfd, hub):
    hub(AssertionError("the network was asked first"))
    Path("data/oxford102/images").mkdir()
    with pytest.raises(SystemExit) as ended:
        run_stage("download", DOWNLOADS["download"])
    assert ended.value.code == 2
    line = "error: data/oxford102/images: expected no such folder before the download, found one; remove it\n"
    assert capfd.readouterr().err == line


INPUT_PIPELINES = DOWNLOADS | {
    "pretrain": ["stages.pretrain", "resnet50", "photos", "mine/resnet50.safetensors", "mine/history.csv"]
}


@pytest.mark.parametrize("trouble", ["read-only", "forbidden"])
@pytest.mark.parametrize(("stage", "command"), INPUT_PIPELINES.items(), ids=INPUT_PIPELINES)
def test_a_folder_of_inputs_that_cannot_be_written_to_is_named_before_any_work(
    world, capfd, hub, stage, command, trouble
):
    hub(OSError("the network was asked first"))
    folder = Path(command[-1]).parent
    folder.mkdir(exist_ok=True)
    make_trouble, what = TROUBLES[trouble]
    with make_trouble(folder):
        assert_refused(stage, folder, capfd, what, command)
