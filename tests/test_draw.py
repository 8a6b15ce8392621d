"""The drawn sets: images per class, the same bytes from the same seed, and no source class equal to a target class."""

import hashlib
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

from stages.draw import draw_set, list_pictures, main, read_class_weights, share_images
from stages.drawing.species import MIN_DISTANCE, draw_source_species, read_target_species, trait_distance
from stages.runtime.errors import UserError
from stages.settings.types import N_FLOWER_CLASSES, Flowers, Source

PARAMS = Path(__file__).parent.parent / "data/flowers/params.yaml"
SOURCE = Source(seed=1, n_classes=3, images_per_class=12, size_px=33)


def _hashes(folder: Path) -> dict[str, str]:
    paths = sorted(folder.rglob("*.jpg"))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_counts_sum_to_n_images_with_none_under_the_minimum():
    weights = read_class_weights()
    for n_images, min_images in ((1248, 12), (4501, 3)):
        counts = share_images(weights, n_images, min_images)
        assert sum(counts.values()) == n_images
        assert min(counts.values()) >= min_images


def test_counts_are_proportional_above_the_minimum():
    assert share_images({"a": 60, "b": 30, "c": 10}, 10, 1) == {"a": 6, "b": 3, "c": 1}
    assert share_images({"a": 97, "b": 2, "c": 1}, 20, 5) == {"a": 10, "b": 5, "c": 5}
    assert share_images({"a": 2, "b": 1}, 4, 1) == {"a": 3, "b": 1}  # 2.67 and 1.33: the larger remainder is rounded up


def test_every_class_has_traits_of_its_own():
    species = read_target_species()
    assert list(species) == list(read_class_weights())
    assert len(species) == N_FLOWER_CLASSES
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


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        draw_set(SOURCE.model_copy(update={"seed": seed}), tmp_path / name)
    one, two, other = (_hashes(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert len(set(one.values()) | set(other.values())) == len(one) + len(other)


def test_every_picture_of_both_sets_has_a_seed_of_its_own(tmp_path):
    flowers = Flowers(seed=1, n_images=313, min_images=3, size_px=16)
    pictures = list_pictures(flowers, tmp_path) + list_pictures(SOURCE, tmp_path)
    assert len({picture.seed for picture in pictures}) == len({picture.path for picture in pictures}) == 313 + 36


def test_a_set_is_a_folder_of_jpegs_for_each_class(tmp_path):
    assert draw_set(SOURCE, tmp_path / "images") == 36
    folders = {"drawn 001", "drawn 002", "drawn 003"}
    assert set(_hashes(tmp_path / "images")) == {f"{name}/{i:04d}.jpg" for name in folders for i in range(12)}
    for path in (tmp_path / "images").rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.size, image.mode, image.format) == ((33, 33), "RGB", "JPEG")


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "mine.jpg").write_text("a photo")
    with pytest.raises(UserError, match="expected a new folder"):
        draw_set(SOURCE, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jpg"]


def test_parameters_of_the_other_set_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["draw", "source", f"{tmp_path}/images", "--params", str(PARAMS)])
    with pytest.raises(UserError, match="images_per_class"):
        main()
