"""Oxford 102 Flowers from a local site: all photographs, or none and one line with the reason."""

import hashlib
import io
import socket
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from torchvision.datasets import Flowers102

from stages import download
from stages.runtime.process import exit_cleanly
from tests.hub import Hub

ARCHIVE, LABELS, SPLITS = "102flowers.tgz", "imagelabels.mat", "setid.mat"
LABEL_OF = {1: 1, 2: 60, 3: 1, 4: 60, 5: 1, 6: 60}  # 60 is "pink-yellow dahlia?"
SPLIT_OF = {1: "test", 2: "train", 3: "val", 4: "test", 5: "train", 6: "val"}


def write_archives() -> dict[str, bytes]:
    """Return the files of the site, with six photographs of two classes."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for number in LABEL_OF:
            member = tarfile.TarInfo(f"jpg/image_{number:05d}.jpg")
            member.size = 1
            tar.addfile(member, io.BytesIO(str(number).encode()))
    tables = {LABELS: {"labels": np.array([*LABEL_OF.values()])}, SPLITS: {}}
    for name, split in (("trnid", "train"), ("valid", "val"), ("tstid", "test")):
        tables[SPLITS][name] = np.array([number for number, its in SPLIT_OF.items() if its == split])
    files = {ARCHIVE: archive.getvalue()}
    for name, table in tables.items():
        mat = io.BytesIO()
        savemat(mat, table)
        files[name] = mat.getvalue()
    return files


@pytest.fixture
def site(monkeypatch) -> Iterator[Hub]:
    files = write_archives()
    with Hub(**files) as served:
        listed = zip(("image", "label", "setid"), files.items(), strict=True)
        digests = {key: (name, hashlib.md5(content).hexdigest()) for key, (name, content) in listed}
        monkeypatch.setattr(Flowers102, "_download_url_prefix", f"{served.url}/")
        monkeypatch.setattr(Flowers102, "_file_dict", digests)
        monkeypatch.setattr(download, "TIMEOUT_S", 0.1)
        yield served
    socket.setdefaulttimeout(None)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs the stage, and returns the exit code, the output and the folder."""

    def download_as(form: str = "images") -> tuple[int, str, Path]:
        folder = tmp_path / "oxford" / form
        monkeypatch.setattr(sys, "argv", ["download", form, str(folder)])
        code = 0
        try:
            exit_cleanly(download.main)
        except SystemExit as ended:
            code = ended.code
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(said) == (code == 2)
        return code, "".join(said), folder

    return download_as


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_there_is_a_folder_for_each_class(site, run):
    code, _, folder = run()
    assert code == 0
    names = {1: "001 pink primrose", 60: "060 pink-yellow dahlia"}
    assert contents(folder) == {f"{names[label]}/image_{n:05d}.jpg": str(n) for n, label in LABEL_OF.items()}
    assert [*folder.parent.iterdir()] == [folder]


def test_the_official_split_is_that_of_torchvision(site, run):
    code, _, folder = run("official_split")
    assert code == 0
    assert {int(content): path.partition("/")[0] for path, content in contents(folder).items()} == SPLIT_OF
    assert {path.name for path in folder.iterdir()} == {"train", "val", "test"}


FAULTS = {
    "there is none": [404],
    "out of order": [503],
    "no answer": ["hang"],
    "half an archive": [None, "truncated"],
    "no table": [None, None, 404],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_a_download_that_fails_is_one_line_and_the_next_run_succeeds(site, run, faults):
    site.faults.extend(faults)
    code, said, folder = run()
    assert (code, folder.exists()) == (2, False)
    assert "data/flowers/images" in said
    assert run()[0] == 0
    assert len(contents(folder)) == len(LABEL_OF)


def test_what_was_downloaded_whole_is_not_downloaded_again(site, run):
    site.faults.extend([None, None, 404])
    run()
    del site.files[ARCHIVE]
    code, _, folder = run()
    assert code == 0
    assert len(contents(folder)) == len(LABEL_OF)


def test_a_run_that_ended_while_it_arranged_the_images_is_gone_on_with(site, run, monkeypatch):
    rename = Path.rename

    def end_at_the_fourth(path: Path, target: Path) -> Path:
        if path.name == "image_00004.jpg":
            raise SystemExit(9)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", end_at_the_fourth)
        assert run()[0] == 9
    del site.files[ARCHIVE]
    code, _, folder = run()
    assert code == 0
    assert len(contents(folder)) == len(LABEL_OF)


def test_a_folder_that_is_there_is_left_alone(site, run, tmp_path):
    mine = tmp_path / "oxford" / "images" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert run()[0] == 2
    assert mine.read_text() == "mine"
