"""Policies and mixing: what they leave as it is, what they change, and what their chance depends on."""

import pytest
import torch

from stages.training.augmentations import build_mixer, build_policy
from tests.trainings import AUGMENT, SETTINGS, change_settings

POLICIES = ["randaugment", "trivialaugment"]
MIXERS = [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}]
LABELS = torch.tensor([0, 1, 2, 3])


def _policy(name: str):
    return build_policy(AUGMENT.model_copy(update={"policy": name}))


def _image() -> torch.Tensor:
    """Return an image, uint8 (3, 12, 10), whose pixels all differ."""
    return (torch.arange(3 * 12 * 10) % 256).to(torch.uint8).view(3, 12, 10)


def _plain_images() -> torch.Tensor:
    """Return images (4, 3, 8, 8), of which each pixel of image i is 10 to the power of i."""
    return (10.0 ** torch.arange(4.0))[:, None, None, None].expand(4, 3, 8, 8).contiguous()


def _mix(seed: int = 1, **settings: float) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return build_mixer(change_settings(**settings), n_classes=5)(_plain_images(), LABELS)


def test_no_policy_and_no_mixing_are_nothing_at_all():
    assert build_policy(AUGMENT) is None
    assert build_mixer(SETTINGS, n_classes=5) is None


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_keeps_shape_and_type_and_changes_most_images(name):
    policy, image, n_changed = _policy(name), _image(), 0
    torch.manual_seed(1)
    for _ in range(40):
        changed = policy(image)
        assert (changed.shape, changed.dtype) == (image.shape, torch.uint8)
        n_changed += not torch.equal(changed, image)
    assert n_changed > 20
    assert torch.equal(image, _image())


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_draws_from_torchs_own_generator(name):
    def draw(seed: int) -> list[list]:
        torch.manual_seed(seed)
        policy = _policy(name)
        return [policy(_image()).tolist() for _ in range(10)]

    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize("settings", MIXERS)
def test_shares_of_the_classes_sum_to_1_and_belong_to_the_images_that_were_mixed(settings):
    for seed in range(10):
        images, shares = _mix(seed, **settings)
        assert images.shape == (4, 3, 8, 8)
        assert shares.shape == (4, 5)
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(4))
        assert (shares >= 0).all()
        # the mean over the pixels is the sum of the images' own values, each times its share
        values = torch.cat([10.0 ** torch.arange(4.0), torch.zeros(1)])
        torch.testing.assert_close(images.mean(dim=(1, 2, 3)), shares @ values)


def test_mixup_makes_every_pixel_a_mixture_of_two_images():
    images, shares = _mix(mixup=0.5)
    share = shares[1, 1].item()
    assert 0 < share < 1
    for image, own, other in zip(images, (1, 10, 100, 1000), (1000, 1, 10, 100), strict=True):
        torch.testing.assert_close(image, torch.full((3, 8, 8), own * share + other * (1 - share)))


def test_cutmix_takes_every_pixel_whole_from_one_of_two_images():
    images, shares = _mix(cutmix=1.0)
    assert 0 < shares[1, 1] < 1
    for image, own, other in zip(images, (1, 10, 100, 1000), (1000, 1, 10, 100), strict=True):
        assert set(image.unique().tolist()) == {own, other}


def test_both_together_mix_a_batch_in_one_way_or_the_other():
    ways = set()
    for seed in range(20):
        images, shares = _mix(seed, mixup=0.5, cutmix=1.0)
        if 0.05 < shares[1, 1] < 0.95:  # else they look alike
            ways.add(len(images[1].unique()))
    assert ways == {1, 2}  # all pixels alike: mixed up; two kinds of pixels: cut


@pytest.mark.parametrize("settings", MIXERS)
def test_mixing_depends_on_torchs_own_generator_alone(settings):
    one, again, other = _mix(1, **settings), _mix(1, **settings), _mix(3, **settings)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize("settings", MIXERS)
def test_mixing_leaves_the_images_that_it_was_given(settings):
    images = _plain_images()
    torch.manual_seed(1)
    build_mixer(change_settings(**settings), n_classes=5)(images, LABELS)
    assert torch.equal(images, _plain_images())


def test_a_larger_alpha_mixes_more_evenly():
    # Beta(a, a) has a variance of 1 / (4 (2 a + 1)): 1/84 for 10, 1/4.8 for 0.1
    def spread(alpha: float) -> float:
        return torch.stack([_mix(seed, mixup=alpha)[1][1, 1] for seed in range(200)]).var().item()

    assert spread(10.0) == pytest.approx(1 / 84, rel=0.4)
    assert spread(0.1) == pytest.approx(1 / 4.8, rel=0.2)
