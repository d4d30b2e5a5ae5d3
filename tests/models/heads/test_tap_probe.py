"""The table of taps, on a source whose taps are known to know something or nothing."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.contracts import IGNORE, Features, Stopped
from models.examples import Example, to_float_images
from models.heads.tap_probe import MAX_EXAMPLES, RIDGE, probe_taps
from models.metrics.segmentation import ConfusionMatrix
from tests.models.tiny import STUFF, THINGS, disc_examples, tiny_encoder, tiny_generator


class Staged:
    """A source of which one tap sees the image, less the more noise there is, and the other nothing but noise."""

    num_train_timesteps = 1000
    device = torch.device("cpu")
    tap_channels = {"blind": 3, "seeing": 3}
    tap_strides = {"blind": 2, "seeing": 1}

    def __init__(self) -> None:
        self.num_encoded = 0

    def encode(self, images_BCHW: Tensor, *, tap_timestep: int, seeds: Sequence[int]) -> Features:
        self.num_encoded += len(images_BCHW)
        noise = [torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        noise_BCHW = torch.stack(noise)
        share = tap_timestep / 1000
        return {
            "blind": functional.avg_pool2d(noise_BCHW, 2),
            "seeing": (1 - share) * images_BCHW + 3 * share * noise_BCHW,
        }


def test_what_a_tap_knows_shows_and_fades_with_the_noise() -> None:
    table = probe_taps(Staged(), disc_examples(4), STUFF, (0, 900))  # type: ignore[arg-type]
    assert table is not None
    assert table["timesteps"] == [0, 900]
    assert [(block["name"], block["stride"]) for block in table["blocks"]] == [("blind", 2), ("seeing", 1)]
    (blind, clear), (_, noisy) = table["miou"]
    assert clear > 0.95
    assert blind < 0.6
    assert noisy < clear - 0.2
    assert (table["num_folds"], table["num_images"]) == (4, 4)


def test_a_cell_is_ridge_regression_on_the_other_examples() -> None:
    """Against least squares on all rows at once, standardised, with the penalty as further rows."""
    examples = disc_examples(3)
    table = probe_taps(Staged(), examples, STUFF, (300,))  # type: ignore[arg-type]
    assert table is not None
    images_BCHW = to_float_images([example.image_HWC for example in examples])
    maps_BCHW = Staged().encode(images_BCHW, tap_timestep=300, seeds=[0, 1, 2])["seeing"]
    rows = maps_BCHW.flatten(2).transpose(1, 2).double()
    labels = torch.from_numpy(np.stack([example.label_HW for example in examples])).long().flatten(1)
    weight_C = (torch.bincount(labels.flatten()) / labels.numel()).rsqrt().double()
    matrix = ConfusionMatrix(2)
    for held in range(3):
        others = [place for place in range(3) if place != held]
        label_R = labels[others].flatten()
        row_RD, root_R1 = rows[others].flatten(0, 1), weight_C[label_R].sqrt()[:, None]
        mass = root_R1.square().sum()
        mean_D = (row_RD * root_R1.square()).sum(0) / mass
        spread_D = ((row_RD - mean_D).square() * root_R1.square()).sum(0).div(mass).sqrt()
        known_RD = torch.cat([(row_RD - mean_D) / spread_D, torch.ones(len(row_RD), 1)], dim=1) * root_R1
        penalty_DD = torch.tensor([RIDGE, RIDGE, RIDGE, 0.0]).double().mul(mass).sqrt().diag()
        wanted_RC = functional.one_hot(label_R, 2) * root_R1
        both, nothing = torch.cat([known_RD, penalty_DD]), torch.zeros(4, 2, dtype=torch.float64)
        weight_DC = torch.linalg.lstsq(both, torch.cat([wanted_RC, nothing])).solution
        answer_RC = ((rows[held] - mean_D) / spread_D) @ weight_DC[:3] + weight_DC[3]
        matrix.update(answer_RC.argmax(dim=1), labels[held])
    assert table["miou"][0][1] == pytest.approx(matrix.miou(), abs=1e-3)


def test_a_real_generator_and_an_encoder_have_a_cell_for_every_tap() -> None:
    generator = tiny_generator()
    table = probe_taps(generator, disc_examples(3), THINGS, (10, 90))
    assert table is not None
    assert [block["name"] for block in table["blocks"]] == list(generator.tap_channels)
    assert all(0 <= miou <= 1 for row in table["miou"] for miou in row)
    assert len({len(row) for row in table["miou"]}) == 1
    assert probe_taps(generator, disc_examples(3), THINGS, (10, 90)) == table
    encoded = probe_taps(tiny_encoder(), disc_examples(3), STUFF)
    assert encoded is not None
    assert encoded["timesteps"] == [0]


def test_one_example_and_unlabelled_ones_say_nothing() -> None:
    assert probe_taps(tiny_generator(), disc_examples(1), STUFF) is None
    blank = [Example(e.image_HWC, np.full_like(e.label_HW, IGNORE)) for e in disc_examples(2)]
    table = probe_taps(tiny_generator(), blank, STUFF, (10,))
    assert table is not None
    assert set(table["miou"][0]) == {None}


def test_its_cost_is_bounded_and_it_stops() -> None:
    source = Staged()
    table = probe_taps(source, disc_examples(MAX_EXAMPLES + 3), STUFF, (10, 20))  # type: ignore[arg-type]
    assert table is not None
    assert table["num_images"] == MAX_EXAMPLES
    assert source.num_encoded == 2 * 2 * MAX_EXAMPLES
    with pytest.raises(Stopped):
        probe_taps(tiny_generator(), disc_examples(2), STUFF, stop=lambda: True)
