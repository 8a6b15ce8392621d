"""Changes, policies and mixing: what they change, what they keep, and what their random numbers depend on."""

from dataclasses import replace

import pytest
import torch
from torchvision.transforms import v2

from stages.networks.batches import make_batch
from stages.training.augmentations import (
    build_mixer,
    build_policy,
    choose_flips,
    draw_boxes,
    draw_changes,
    draw_order,
    iterate_epoch,
)
from tests.trainings import AUGMENT, SETTINGS, change_settings, make_job, noise_split

MIXERS = [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}]
LABELS = torch.tensor([0, 1, 2, 3])


def draw(n: int = 1000, margin_px: int = 4, **changes):
    settings = AUGMENT.model_copy(update={"crop": False, **changes})
    before = torch.get_rng_state()
    drawn = draw_changes(torch.zeros(n, dtype=torch.bool), margin_px, settings, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)  # all numbers are of this generator
    return drawn


def mix(seed: int, **settings: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix images (4, 3, 8, 8); each pixel of image i is 10 ** i."""
    images = (10.0 ** torch.arange(4.0))[:, None, None, None].expand(4, 3, 8, 8).contiguous()
    before = images.clone()
    torch.manual_seed(seed)
    mixed = build_mixer(change_settings(**settings), n_classes=5)(images, LABELS)
    assert torch.equal(images, before)
    return mixed


def test_the_batches_of_an_epoch_show_each_image_with_the_changes_drawn_for_it_and_by_the_policy():
    job = make_job(train=noise_split(23))  # with crops and flips
    order, generator = draw_order(job, 3)
    drawn = draw_changes(choose_flips(job, order, 3), 2, job.augment, generator)
    expected = make_batch(job.train.images, order, job.view, drawn)
    images, targets, labels = (torch.cat(parts) for parts in zip(*iterate_epoch(job, 3), strict=True))
    assert torch.equal(images, expected)
    assert torch.equal(targets, torch.from_numpy(job.train.labels)[order])
    assert torch.equal(labels, targets)
    changed = replace(job, augment=job.augment.model_copy(update={"policy": "trivialaugment"}))
    assert not torch.equal(torch.cat([images for images, *_ in iterate_epoch(changed, 3)]), expected)


def test_nothing_asked_for_is_the_centre_crop_and_nothing_else():
    changes = draw(n=3)
    assert (changes.top.tolist(), changes.left.tolist(), changes.flip.any()) == ([2, 2, 2], [2, 2, 2], False)
    assert changes.affine is None is changes.colour is changes.erase
    assert build_policy(AUGMENT) is None is build_mixer(SETTINGS, n_classes=5)


def test_crops_take_every_place():
    changes = draw(crop=True)
    assert {tuple(place) for place in torch.stack([changes.top, changes.left], dim=1).tolist()} == {
        (top, left) for top in range(5) for left in range(5)
    }


def test_half_of_the_images_are_flipped_first_and_then_each_image_in_every_second_pass():
    job = make_job(train=noise_split(1000))
    orders = [draw_order(job, number)[0] for number in range(3)]
    first, second, third = (choose_flips(job, order, i)[order.argsort()] for i, order in enumerate(orders))
    assert first.float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(second, ~first)
    assert torch.equal(third, first)
    twice = torch.cat(orders[:2])  # an epoch of two passes, as for `min_steps`
    assert torch.equal(choose_flips(job, twice, 5), torch.cat([first[orders[0]], second[orders[1]]]))
    other = replace(job, seed=job.seed + 1)
    assert not torch.equal(choose_flips(other, orders[0], 0)[orders[0].argsort()], first)
    assert not choose_flips(replace(job, augment=AUGMENT.model_copy(update={"flip": False})), orders[0], 1).any()


def test_turns_zooms_shifts_and_colours_stay_within_their_bounds_and_reach_them():
    turned = draw(rotation_deg=90).affine
    angles = torch.rad2deg(torch.atan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert [angles.min().item(), angles.max().item()] == pytest.approx([-90, 90], abs=2)
    matrices = draw(rotation_deg=90, zoom=0.5).affine[:, :, :2]
    scales = torch.linalg.det(matrices).sqrt()
    torch.testing.assert_close(matrices.mT @ matrices, scales[:, None, None] ** 2 * torch.eye(2).expand(1000, 2, 2))
    assert [scales.min().item(), scales.max().item()] == pytest.approx([1 / 1.5, 1 / 0.5], rel=0.02)
    shifts = draw(shift=0.25).affine[:, :, 2]  # a quarter of the image is 0.5 of a grid from -1 to 1
    assert [shifts.min().item(), shifts.max().item()] == pytest.approx([-0.5, 0.5], abs=0.01)
    factors = draw(colour=0.2).colour
    assert [factors.min().item(), factors.max().item()] == pytest.approx([0.8, 1.2], abs=0.01)


def test_crops_of_other_sizes_lie_within_the_picture_and_reach_their_bounds():
    changes = draw(n=10_000, scale=0.25, ratio=4 / 3)
    assert changes.top is None is changes.left
    sides, centres = changes.affine[:, [0, 1], [0, 1]], changes.affine[:, :, 2]
    areas, ratios = sides.prod(dim=1), sides[:, 0] / sides[:, 1]
    assert [areas.min().item(), areas.max().item()] == pytest.approx([0.25, 1], abs=0.01)
    assert [ratios.min().item(), ratios.max().item()] == pytest.approx([3 / 4, 4 / 3], rel=0.01)
    edges = torch.stack([centres - sides, centres + sides])
    assert [edges.min().item(), edges.max().item()] == pytest.approx([-1, 1], abs=1e-5)
    assert [edges[0].max().item(), edges[1].min().item()] == pytest.approx([0.1, -0.1], abs=0.1)  # up to 1 - 2 * 0.43


def test_turns_and_shifts_move_the_crop_in_its_own_size():
    affine = draw(scale=0.25, rotation_deg=90).affine
    sides = affine[:, :, :2].norm(dim=2)
    torch.testing.assert_close(sides[:, 0], sides[:, 1])
    assert [sides.min().item(), sides.max().item()] == pytest.approx([0.5, 1], abs=0.01)
    angles = torch.rad2deg(torch.atan2(affine[:, 1, 0], affine[:, 0, 0]))
    assert [angles.min().item(), angles.max().item()] == pytest.approx([-90, 90], abs=2)
    affine = draw(n=10_000, scale=0.25, shift=0.25).affine
    beyond = affine[:, :, 2].abs() + affine[:, 0, :1] - 1
    assert (beyond / affine[:, 0, :1]).max().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("areas", "ratios", "theirs"),
    [
        ((0.08, 1), (3 / 4, 4 / 3), lambda picture, *bounds: v2.RandomResizedCrop(9, *bounds).make_params([picture])),
        ((0.02, 0.33), (10 / 33, 3.3), lambda picture, *bounds: v2.RandomErasing(1, *bounds).make_params([picture])),
    ],
    ids=["crops", "erased"],
)
def test_boxes_are_those_of_torchvision(areas, ratios, theirs):
    torch.manual_seed(1)
    picture = torch.zeros(1, 1000, 1000)
    drawn = [theirs(picture, areas, ratios) for _ in range(3000)]
    names = ("left", "top", "width", "height") if "left" in drawn[0] else ("j", "i", "w", "h")
    expected = torch.tensor([[each[name] for name in names] for each in drawn]) / 1000
    found = draw_boxes(30_000, areas, ratios[1], 1, torch.Generator().manual_seed(1))
    quantiles = torch.arange(0.1, 1, 0.1)
    torch.testing.assert_close(found.quantile(quantiles, 0), expected.quantile(quantiles, 0), rtol=0, atol=0.03)


@pytest.mark.parametrize("otherwise", [0, 1])
def test_where_no_box_fits_it_is_the_whole_or_nothing(otherwise):
    boxes = draw_boxes(50, (1, 1), 4, otherwise, torch.Generator().manual_seed(1))
    assert boxes[:, 2:].unique().tolist() == [otherwise]
    assert not boxes[:, :2].any() or not otherwise


def test_the_share_of_the_images_that_erase_says_loses_a_box():
    erased = draw(erase=0.25).erase
    areas = erased[:, 2:].prod(dim=1)
    assert (areas > 0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert [areas[areas > 0].min().item(), areas.max().item()] == pytest.approx([0.02, 0.33], abs=0.02)
    assert (erased[:, :2] + erased[:, 2:]).max() <= 1


@pytest.mark.parametrize("name", ["randaugment", "trivialaugment"])
def test_a_policy_changes_most_images_by_torchs_own_generator(name):
    image = (torch.arange(3 * 12 * 10) % 256).to(torch.uint8).view(3, 12, 10)

    def change(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        policy = build_policy(AUGMENT.model_copy(update={"policy": name}))
        return [policy(image) for _ in range(40)]

    one, again, other = change(1), change(1), change(2)
    assert {(each.shape, each.dtype) for each in one} == {(image.shape, torch.uint8)}
    assert sum(not torch.equal(each, image) for each in one) > 20
    assert all(map(torch.equal, one, again))
    assert not all(map(torch.equal, one, other))


@pytest.mark.parametrize("settings", MIXERS, ids=str)
def test_shares_of_the_classes_sum_to_1_and_belong_to_the_images_that_were_mixed(settings):
    values = torch.cat([10.0 ** torch.arange(4.0), torch.zeros(1)])
    for seed in range(10):
        images, shares = mix(seed, **settings)
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(4))
        assert (shares >= 0).all()
        # the mean over the pixels is the sum of the images' own values, each times its share
        torch.testing.assert_close(images.mean(dim=(1, 2, 3)), shares @ values)
    assert torch.equal(mix(9, **settings)[0], images)  # depends only on torch's generator


def test_mixup_mixes_every_pixel_cutmix_takes_it_whole_and_both_do_the_one_or_the_other():
    def kinds_of_pixels(**settings: float) -> set[int]:
        mixed = [mix(seed, **settings) for seed in range(20)]
        return {len(images[1].unique()) for images, shares in mixed if 0.05 < shares[1, 1] < 0.95}  # otherwise equal

    assert kinds_of_pixels(mixup=0.5) == {1}
    assert kinds_of_pixels(cutmix=1.0) == {2}
    assert kinds_of_pixels(mixup=0.5, cutmix=1.0) == {1, 2}
    mixer = build_mixer(change_settings(mixup=0.2, cutmix=0.7), n_classes=5)
    assert [each.alpha for each in mixer.transforms] == [0.2, 0.7]
