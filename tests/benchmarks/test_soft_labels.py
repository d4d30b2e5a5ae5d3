"""Ways to store soft labels, on distributions that are made up."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from benchmarks.soft_labels import FORMATS, PRODUCT, TELLING, Format, Pair, main, rows, stored


@pytest.fixture(scope="module")
def full() -> list[np.ndarray]:
    """Two soft labels of six classes, soft at the borders."""
    random = np.random.default_rng(0)
    labels = []
    for _ in range(2):
        logits = np.stack([gaussian_filter(random.normal(size=(32, 32)), 3) for _ in range(6)])
        shares = np.exp(logits * 6 / logits.std())
        labels.append((shares / shares.sum(axis=0)).astype(np.float32))
    return labels


def test_less_is_kept_in_fewer_bytes(full: list[np.ndarray]) -> None:
    results = {name: stored(form, full) for name, form in FORMATS.items()}
    for finer, coarser in (
        ("float16", "fourth root, 8 bits"),
        ("fourth root, 8 bits", PRODUCT),
        (PRODUCT, "fourth root, 5 bits"),
        ("fourth root, 5 bits", "fourth root, 4 bits"),
        ("top 4, 8 bits", "top 2, 8 bits"),
        (PRODUCT, "the product's, stride 2"),
        ("the product's, stride 2", "the product's, stride 4"),
        ("fourth root, 4 bits", "hard labels"),
    ):
        assert results[finer].bytes_per_pixel > results[coarser].bytes_per_pixel, (finer, coarser)
        assert 0 <= results[finer].divergence < results[coarser].divergence, (finer, coarser)
        assert results[finer].softened_divergence < results[coarser].softened_divergence, (finer, coarser)
    assert results[PRODUCT].divergence < 2e-4
    assert results["hard labels"].agreement == 1.0
    assert 0.8 < results["the product's, stride 4"].agreement < results["the product's, stride 2"].agreement < 1.0


def test_labels_that_are_certain_survive_every_format_of_full_size() -> None:
    hard = (np.arange(6)[:, None, None] == (np.indices((32, 32))[0] // 6)[None]).astype(np.float32)
    for name, form in FORMATS.items():
        if "stride" not in name:
            assert np.array_equal(stored(form, [hard]).labels[0], hard), name


def test_the_divergence_by_hand() -> None:
    full = np.array([0.8, 0.2], np.float32).reshape(2, 1, 1)
    uniform = Format(lambda _: b"", lambda _, shape: np.full(shape, 0.5))
    result = stored(uniform, [full])
    assert result.divergence == pytest.approx(0.8 * np.log(1.6) + 0.2 * np.log(0.4), abs=1e-6)
    assert result.softened_divergence < result.divergence / 10


def test_a_student_learns_what_was_stored(full: list[np.ndarray]) -> None:
    def certain(pairs: Sequence[Pair]) -> float:
        return min(float(label_CHW.max(axis=0).min()) for _, label_CHW in pairs)

    pairs = [(np.zeros((32, 32, 3), np.uint8), label_CHW) for label_CHW in full]
    cells = {row.split(" | ")[0].removeprefix("| "): row.split(" | ")[-1] for row in rows(pairs, TELLING, certain)}
    assert list(cells) == list(FORMATS)
    assert cells["hard labels"] == "1.000 |"
    assert 0.1 < float(cells[PRODUCT].removesuffix(" |")) < 0.9
    assert [name for name in cells if cells[name] != " |"] == list(TELLING)


def test_students_need_labels_beyond_the_five(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--students"])
    assert "--validation" in capsys.readouterr().err
