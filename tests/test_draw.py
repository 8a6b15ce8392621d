"""The drawn sets: how many images of what, the same bytes from the same seed, and no source class that is a target."""

import hashlib
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

from stages.draw import draw_set, read_class_weights, share_images
from stages.drawing.species import MIN_DISTANCE, draw_source_species, read_target_species, trait_distance
from stages.runtime.errors import UserError
from stages.settings.types import Flowers, Source

SOURCE = Source(seed=2, n_classes=3, images_per_class=12, size_px=16)  # more than one task of a worker


def _hashes(folder: Path) -> dict[str, str]:
    paths = sorted(folder.rglob("*.jpg"))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_counts_sum_to_n_images_with_none_under_the_minimum():
    weights = read_class_weights()
    for n_images, min_images in ((1248, 12), (1249, 12), (4500, 12), (4501, 1), (16000, 30)):
        counts = share_images(weights, n_images, min_images)
        assert sum(counts.values()) == n_images
        assert min(counts.values()) >= min_images


def test_counts_are_proportional_above_the_minimum():
    assert share_images({"a": 60, "b": 30, "c": 10}, 10, 1) == {"a": 6, "b": 3, "c": 1}
    assert share_images({"a": 97, "b": 2, "c": 1}, 20, 5) == {"a": 10, "b": 5, "c": 5}
    assert share_images({"a": 2, "b": 1}, 4, 1) == {"a": 3, "b": 1}  # 2.67 and 1.33: the larger remainder is rounded up


def test_too_few_images_for_the_classes_names_both_numbers():
    with pytest.raises(UserError, match=r"n_images is 1000.* need 1248"):
        share_images(read_class_weights(), 1000, 12)


def test_every_class_has_traits_of_its_own():
    species = read_target_species()
    assert list(species) == list(read_class_weights())
    assert all(trait_distance(one, other) > 0.1 for one, other in combinations(species.values(), 2))


def test_no_source_class_looks_like_a_target_or_another_source_class():
    targets, sources = read_target_species(), draw_source_species(2, 40)
    assert not targets.keys() & sources.keys()
    for source in sources.values():
        others = [*targets.values(), *(other for other in sources.values() if other is not source)]
        assert min(trait_distance(source, other) for other in others) >= MIN_DISTANCE


def test_trait_distance_is_symmetric_and_zero_for_twins():
    rose, daisy = read_target_species()["rose"], read_target_species()["daisy"]
    assert trait_distance(rose, rose) == 0
    assert trait_distance(rose, daisy) == trait_distance(daisy, rose) > MIN_DISTANCE


def test_more_source_classes_leave_the_first_ones_as_they_are():
    assert list(draw_source_species(2, 12).values())[:5] == list(draw_source_species(2, 5).values())


def test_bytes_depend_on_the_seed_and_not_on_the_number_of_workers(tmp_path):
    draw_set("source", SOURCE, tmp_path / "one", n_workers=1)
    draw_set("source", SOURCE, tmp_path / "two", n_workers=2)
    draw_set("source", SOURCE.model_copy(update={"seed": 3}), tmp_path / "other", n_workers=2)
    one, two, other = (_hashes(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one.keys() == other.keys()
    assert not set(one.values()) & set(other.values())


def test_another_seed_draws_other_flowers(tmp_path):
    settings = Flowers(seed=1, n_images=104, min_images=1, size_px=16)
    draw_set("flowers", settings, tmp_path / "one", n_workers=1)
    draw_set("flowers", settings.model_copy(update={"seed": 2}), tmp_path / "two", n_workers=1)
    one, two = _hashes(tmp_path / "one"), _hashes(tmp_path / "two")
    assert len(one) == len(two) == 104
    assert not set(one.values()) & set(two.values())


def test_a_set_replaces_the_older_one_whole_and_leaves_nothing_else(tmp_path):
    folder = tmp_path / "images"
    (folder / "stale class").mkdir(parents=True)
    (tmp_path / ".images.unfinished" / "left by a killed run").mkdir(parents=True)
    assert draw_set("source", SOURCE.model_copy(update={"images_per_class": 4}), folder, n_workers=1) == 12
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert sorted(path.name for path in folder.iterdir()) == ["drawn 001", "drawn 002", "drawn 003"]
    assert [path.name for path in sorted((folder / "drawn 001").iterdir())] == [f"{i:04d}.jpg" for i in range(4)]


@pytest.mark.parametrize("size_px", [16, 33, 64])
def test_images_have_the_size_that_was_asked_for(tmp_path, size_px):
    draw_set("source", SOURCE.model_copy(update={"size_px": size_px, "images_per_class": 3}), tmp_path / "images", 1)
    for path in (tmp_path / "images").rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.size, image.mode, image.format) == ((size_px, size_px), "RGB", "JPEG")
