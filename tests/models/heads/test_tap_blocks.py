"""Which taps feed a head, of one source and of two."""

import pytest
import torch

from models.heads.ensemble import Ensemble, fit_labeller
from models.heads.fusion_training import FusionTrainConfig
from models.heads.kinds import HEAD_KINDS
from models.heads.tap_blocks import UnknownTapBlocks, chosen_blocks, own_blocks
from tests.models.tiny import STUFF, disc_examples, tiny_encoder, tiny_generator

GENERATOR, ENCODER = tiny_generator(), tiny_encoder()
FIRST, SECOND = GENERATOR.tap_channels
ENCODED = next(iter(ENCODER.tap_channels))


def test_blocks_come_in_the_order_of_the_source() -> None:
    assert list(chosen_blocks(GENERATOR, (SECOND, FIRST))) == [FIRST, SECOND]
    assert chosen_blocks(GENERATOR, (SECOND,)) == {SECOND: GENERATOR.tap_channels[SECOND]}
    assert chosen_blocks(GENERATOR, None) == GENERATOR.tap_channels


def test_each_source_has_its_own_and_one_of_which_none_is_named_is_read_whole() -> None:
    assert own_blocks([GENERATOR, ENCODER], (ENCODED, SECOND)) == [(SECOND,), (ENCODED,)]
    assert own_blocks([GENERATOR, ENCODER], (SECOND,)) == [(SECOND,), None]
    assert own_blocks([GENERATOR, ENCODER], None) == [None, None]


def test_a_name_that_no_source_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownTapBlocks, match=rf"no taps nope; there are {FIRST}, {SECOND}, {ENCODED}"):
        own_blocks([GENERATOR, ENCODER], (FIRST, "nope"))


def test_heads_that_label_together_read_their_own() -> None:
    config = FusionTrainConfig(members=1, width=16, steps=1, batch_size=2, tap_blocks=(SECOND, ENCODED))
    fitted = fit_labeller(
        HEAD_KINDS["fusion"], [GENERATOR, ENCODER], disc_examples(2), STUFF, config, device=torch.device("cpu")
    )
    assert isinstance(fitted.labeller, Ensemble)
    assert fitted.card["tap_blocks"] == [SECOND]
    assert [card["tap_blocks"] for card in fitted.card["beside"]] == [[ENCODED]]
