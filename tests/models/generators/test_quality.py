"""Distances between sets of images, copies, and symmetries of a pool."""

from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models.generators import fixed_features as fixed_features_file
from models.generators import quality
from models.generators.fixed_features import fixed_features, kernel_distance
from models.generators.quality import assess, copied_share, nearest_distances, nearest_two
from models.generators.symmetry import Symmetry, find_symmetry, mirror_images, mirrored


def smooth_noise(count: int, seed: int, size: int = 16) -> Tensor:
    """Blurred noise in [-1, 1], BCHW: the same in every direction."""
    random = torch.Generator().manual_seed(seed)
    noise_BCHW = torch.randn(count, 3, size + 2, size + 2, generator=random)
    return torch.nn.functional.avg_pool2d(noise_BCHW, 3, stride=1).clamp(-1, 1)


def lit_from_above(count: int, seed: int) -> Tensor:
    """The same, brighter towards the top: left and right alike, up and down not. uint8 BCHW."""
    ramp_H = torch.linspace(0.4, -0.4, 16)[None, None, :, None]
    return ((smooth_noise(count, seed) * 0.5 + ramp_H + 1) * 127.5).to(torch.uint8)


def test_kernel_distance_is_small_within_a_law_and_large_across() -> None:
    one, two = fixed_features(smooth_noise(100, 1)), fixed_features(smooth_noise(100, 2))
    brighter = fixed_features(smooth_noise(100, 3) * 0.5 + 0.3)
    assert abs(kernel_distance(one, two)) < 0.1
    assert kernel_distance(one, brighter) > 1


def test_the_kernel_distance_by_squares_is_that_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    real_BD, fake_BD = fixed_features(smooth_noise(50, 1)), fixed_features(smooth_noise(30, 2) * 0.7)
    scaled = [(part_BD - real_BD.mean(0)) / real_BD.std(0) for part_BD in (real_BD, fake_BD)]
    assert (real_BD.std(0) > 0.1 * real_BD.std(0).median()).all()  # no spread is held up
    among_BB, across_BB, between_BB = (
        (a_BD.double() @ b_BD.double().T / a_BD.shape[1] + 1) ** 3
        for a_BD, b_BD in ((scaled[0], scaled[0]), (scaled[1], scaled[1]), (scaled[0], scaled[1]))
    )
    expected = -2 * between_BB.mean()
    for own_BB in (among_BB, across_BB):
        expected += own_BB[~torch.eye(len(own_BB), dtype=torch.bool)].mean()
    with MostElements() as whole:
        assert kernel_distance(real_BD, fake_BD) == pytest.approx(float(expected), rel=1e-9)
    monkeypatch.setattr(fixed_features_file, "KERNEL_SIDE", 7)
    with MostElements() as squares:
        assert kernel_distance(real_BD, fake_BD) == pytest.approx(float(expected), rel=1e-9)
    assert whole.seen == 50 * 50
    assert squares.seen == 7 * 7


class MostElements(TorchDispatchMode):
    """Remembers the largest product of two matrices."""

    seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.mm.default:
            self.seen = max(self.seen, made.numel())
        return made


def test_fixed_features_are_fixed() -> None:
    images_BCHW = smooth_noise(3, 0)
    assert torch.equal(fixed_features(images_BCHW), fixed_features(images_BCHW))
    torch.testing.assert_close(fixed_features(images_BCHW)[:1], fixed_features(images_BCHW[:1]))


def test_a_copy_is_found_even_mirrored() -> None:
    train_BCHW = smooth_noise(20, 1)
    copies_BCHW = train_BCHW[:4].flip(3)
    assert nearest_distances(copies_BCHW, train_BCHW, Symmetry(horizontal=True)).max() < 1e-3
    assert nearest_distances(copies_BCHW, train_BCHW, Symmetry(horizontal=False)).min() > 0.1


def test_copies_are_told_from_images_that_are_only_near() -> None:
    train_BCHW = smooth_noise(40, 1)
    copies_BCHW = train_BCHW[:5].flip(3) + 0.02 * smooth_noise(5, 9)
    blurred_BCHW = train_BCHW.mean(0, keepdim=True).expand(5, -1, -1, -1)
    new_BCHW = smooth_noise(10, 2)
    nearest_B2 = nearest_two(torch.cat([copies_BCHW, blurred_BCHW, new_BCHW]), train_BCHW, Symmetry())
    assert nearest_B2[5:10, 0].max() < nearest_B2[10:, 0].min()
    assert copied_share(nearest_B2[:5]) == 1
    assert copied_share(nearest_B2[5:]) == 0


def test_the_second_nearest_is_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    train_BCHW = smooth_noise(20, 1)
    whole_B2 = nearest_two(train_BCHW[:3], train_BCHW, Symmetry(vertical=True))
    assert whole_B2[:, 0].max() < 1e-3 < whole_B2[:, 1].min()
    monkeypatch.setattr(quality, "CHUNK_IMAGES", 7)
    torch.testing.assert_close(nearest_two(train_BCHW[:3], train_BCHW, Symmetry(vertical=True)), whole_B2)
    assert nearest_two(train_BCHW[:1], train_BCHW[:1], Symmetry())[0, 1] == torch.inf


def test_the_report_puts_samples_beside_real_images() -> None:
    report = assess(smooth_noise(40, 1)[:20], smooth_noise(40, 1), smooth_noise(20, 2), Symmetry())
    assert report.nearest_median < 1e-3 < report.nearest_median_of_real
    assert report.as_json()["samples"] == 20
    assert (report.copied_share, report.copied_share_of_real) == (1.0, 0.0)


def test_a_pool_of_bytes_is_measured_like_its_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    train_BCHW, holdout_BCHW, samples_BCHW = lit_from_above(50, 1), lit_from_above(20, 2), smooth_noise(30, 3)
    symmetry = Symmetry(vertical=True, diagonal=True)
    floats = assess(samples_BCHW, train_BCHW.float() / 127.5 - 1, holdout_BCHW.float() / 127.5 - 1, symmetry)
    monkeypatch.setattr(quality, "CHUNK_IMAGES", 7)
    report = assess(samples_BCHW, train_BCHW, holdout_BCHW, symmetry)
    assert numbers(report) == pytest.approx(numbers(floats), rel=1e-4, abs=1e-5)


def numbers(report: quality.QualityReport) -> dict[str, float]:
    return {name: value for name, value in asdict(report).items() if name != "features"}


class MostImages(TorchDispatchMode):
    """Remembers the most images that were ever floats at once."""

    seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.is_floating_point() and made.shape[1:] == (3, 16, 16):
            self.seen = max(self.seen, len(made))
        return made


def test_a_pool_is_never_floats_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "CHUNK_IMAGES", 7)
    samples_BCHW, train_BCHW, holdout_BCHW = smooth_noise(3, 3), lit_from_above(50, 1), lit_from_above(20, 2)
    with MostImages() as floats:
        assess(samples_BCHW, train_BCHW, holdout_BCHW, Symmetry())
    assert floats.seen == 7


def test_symmetries_are_found_from_the_pool() -> None:
    assert find_symmetry(lit_from_above(80, 0)) == Symmetry(horizontal=True, vertical=False, diagonal=False)
    texture_BCHW = ((smooth_noise(80, 5) + 1) * 127.5).to(torch.uint8)
    assert find_symmetry(texture_BCHW) == Symmetry(horizontal=True, vertical=True, diagonal=True)
    assert not find_symmetry(texture_BCHW[:5]).horizontal


def test_mirrors_are_only_those_allowed() -> None:
    images_BCHW = smooth_noise(30, 0, size=4)
    allowed = Symmetry(horizontal=True, vertical=True)
    choices = torch.stack(mirror_images(images_BCHW, allowed))
    drawn_BCHW = mirrored(images_BCHW, allowed, torch.Generator().manual_seed(0))
    matches = (choices == drawn_BCHW).flatten(2).all(2)
    assert matches.any(0).all()
    assert matches.any(1).all()
    assert len(mirror_images(images_BCHW, Symmetry(True, True, True))) == 8
