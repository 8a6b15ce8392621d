"""The link types of DVC's cache: files in the workspace are copies or links into the cache."""

import pytest

from tests.pipelines import IMAGES, Clone


@pytest.mark.slow
def test_split_and_pack_write_the_same_bytes_whichever_way_dvc_links_files(tmp_path):
    clone = Clone(tmp_path)
    clone.run("dvc repro pack")
    outputs = ("data/manifest.csv", "data/rejected.csv", "data/packed", "metrics/dataset.json", "metrics/splits.csv")
    copied = clone.bytes_of(*outputs)
    for kind in ("hardlink", "symlink", "reflink,copy"):
        clone.run(f"dvc config cache.type {kind}")
        clone.run("dvc checkout --relink --with-deps pack")
        some = next(path for path in (tmp_path / IMAGES).rglob("*") if path.is_file())
        assert some.is_symlink() == (kind == "symlink")
        assert (some.stat().st_nlink > 1) == (kind == "hardlink")
        clone.run("dvc repro --force --single-item split pack")
        assert clone.bytes_of(*outputs) == copied
