"""One warp for image and target; flips are measured."""

from dataclasses import replace

import numpy as np
import torch

from models.augmentation import SIDED, AugmentConfig, _asymmetry, _layout, augment, measure_symmetry, resolve
from models.examples import Example
from tests.models.tiny import disc_examples


def test_the_target_follows_the_image() -> None:
    image = torch.full((8, 3, 32, 32), -0.8)
    image[:, :, 8:20, 10:26] = 0.8
    inside = (image[:, :1] > 0).float()
    target = torch.cat([1 - inside, inside], dim=1)
    config = AugmentConfig(
        horizontal_flip=True, vertical_flip=True, brightness=0, contrast=0, gamma=0, colour=0, noise=0, blur=0
    )
    warped_image, warped_target = augment(image, target, config, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(warped_image, image)
    assert torch.allclose((warped_image[:, :1] + 0.8) / 1.6, warped_target[:, 1:], atol=1e-4)
    assert torch.allclose(warped_target.sum(1), torch.ones(8, 32, 32), atol=1e-4)


def test_ignored_pixels_stay_ignored() -> None:
    _, target = augment(
        torch.zeros(2, 3, 16, 16),
        torch.zeros(2, 2, 16, 16),
        AugmentConfig(),
        generator=torch.Generator().manual_seed(0),
    )
    assert target.abs().max() == 0


def test_images_stay_in_range_and_repeat_with_the_seed() -> None:
    image = torch.rand(4, 3, 32, 48) * 2 - 1
    target = torch.rand(4, 2, 32, 48)
    once = augment(image, target, AugmentConfig(), generator=torch.Generator().manual_seed(3))
    again = augment(image, target, AugmentConfig(), generator=torch.Generator().manual_seed(3))
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])
    assert once[0].abs().max() <= 1


def test_upright_pictures_are_not_turned_over() -> None:
    draw = np.random.default_rng(0)
    upright = []
    for _ in range(5):
        label = np.zeros((32, 32), np.uint8)
        label[: 10 + draw.integers(0, 4)] = 1
        upright.append(Example(np.zeros((32, 32, 3), np.uint8), label))
    assert measure_symmetry(upright, num_classes=2) == (True, False)
    resolved = resolve(AugmentConfig(), upright, num_classes=2)
    assert (resolved.horizontal_flip, resolved.vertical_flip, resolved.rotation) == (True, False, 15.0)


def standing(*columns: int) -> list[Example]:
    """Images of one upright figure each, at these columns."""
    examples = []
    for column in columns:
        label = np.zeros((32, 32), np.uint8)
        label[12:30, column : column + 8] = 1
        examples.append(Example(np.zeros((32, 32, 3), np.uint8), label))
    return examples


def test_five_figures_that_lean_to_one_side_by_chance_may_be_mirrored() -> None:
    leaning = standing(4, 6, 8, 5, 13)
    layouts = np.stack([_layout(example.label_HW, 2, 4) for example in leaning])
    assert 3 < _asymmetry(layouts, axis=3) < SIDED
    assert measure_symmetry(leaning, num_classes=2) == (True, False)


def test_what_is_always_on_the_left_is_not_mirrored() -> None:
    assert measure_symmetry(standing(2, 3, 2, 4, 3), num_classes=2) == (False, False)


def test_one_image_says_nothing_of_its_sides() -> None:
    assert measure_symmetry(standing(2), num_classes=2) == (True, False)


def test_scattered_things_may_be_turned_any_way() -> None:
    assert measure_symmetry(disc_examples(6), num_classes=2) == (True, True)


def test_only_the_chosen_images_are_softened() -> None:
    image_BCHW, target_BCHW = torch.rand(6, 3, 16, 16) * 2 - 1, torch.rand(6, 2, 16, 16)

    def augmented(blur: float) -> torch.Tensor:
        config = AugmentConfig(blur=blur, noise=0.0)
        return augment(image_BCHW, target_BCHW, config, generator=torch.Generator().manual_seed(3))[0]

    sharp_BCHW, soft_BCHW, mixed_BCHW = augmented(0.0), augmented(1.0), augmented(0.5)
    padded_BCHW = torch.nn.functional.pad(sharp_BCHW, (1, 1, 1, 1), mode="replicate")
    expected_BCHW = 0.5 * sharp_BCHW + 0.5 * torch.nn.functional.avg_pool2d(padded_BCHW, 3, stride=1)
    torch.testing.assert_close(soft_BCHW, expected_BCHW)
    softened_B = (mixed_BCHW == soft_BCHW).flatten(1).all(1)
    assert softened_B.tolist() != [True] * 6
    assert softened_B.any()
    assert torch.equal(mixed_BCHW, torch.where(softened_B[:, None, None, None], soft_BCHW, sharp_BCHW))


STILL = AugmentConfig(rotation=0, scale=1, aspect=1, shift=0, elastic=0, brightness=0, contrast=0, gamma=0, colour=0)


def test_turned_hues_keep_the_brightness_and_go_all_around() -> None:
    image = torch.zeros(256, 3, 4, 4)
    image[:, 0] = 0.3  # reddish
    config = replace(STILL, noise=0, blur=0, turned=0.7)
    turned, _ = augment(image, torch.ones(256, 1, 4, 4), config, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned.mean(dim=1), image.mean(dim=1))
    strongest = turned[:, :, 0, 0].argmax(dim=1).bincount(minlength=3)
    assert (strongest > 20).all(), "red, green and blue ones"
    assert torch.isclose(turned, image, atol=1e-5).all(dim=(1, 2, 3)).float().mean() > 0.2, "some stay as they are"


def test_grey_images_have_no_hue_to_turn() -> None:
    image = (torch.rand(4, 1, 8, 8) - 0.5).expand(-1, 3, -1, -1)
    config = replace(STILL, noise=0, blur=0, turned=0.7)
    turned, _ = augment(image, torch.ones(4, 1, 8, 8), config, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned, image)


def test_the_tint_that_gains_give_a_grey_image_is_not_turned() -> None:
    image, target = (torch.rand(64, 1, 8, 8) - 0.5).expand(-1, 3, -1, -1), torch.ones(64, 1, 8, 8)
    tinted = replace(STILL, colour=0.1)
    seen = [
        augment(image, target, replace(tinted, turned=share), generator=torch.Generator().manual_seed(0))[0]
        for share in (0.0, 0.7)
    ]
    assert (seen[0].amax(dim=1) - seen[0].amin(dim=1)).amax() > 0.01
    torch.testing.assert_close(seen[0], seen[1])
