"""Training that begins with a generator: every family of diffusion learns on, and stays what it was otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.contracts import Stopped
from models.generators import adapters
from models.generators.adapters import ATTENTION, AdaptersMissing, adapted
from models.generators.denoising import DenoisingObjective, noisy_batch
from models.generators.diffusion import DiffusionGenerator
from models.generators.families import load_source
from models.generators.latents import LatentGenerator
from models.generators.network import NetworkConfig
from models.generators.symmetry import Symmetry
from models.generators.training import FROM_SCRATCH, GeneratorTrainConfig, train_generator
from models.generators.watch import WatchConfig
from tests.models.generators.tiny_families import TINY, latent_diffusion, unet_diffusion

CONFIG = GeneratorTrainConfig(
    steps=3,
    batch_size=2,
    symmetry=Symmetry(),
    holdout_share=0.4,
    report_every=1,
    watch=WatchConfig(every=3, samples=2, sampling_steps=1, shown=2),
    sample_steps=1,
    quality_samples=2,
    ema_decay=0.0,
    learning_rate=1e-2,
)
TRAINABLE = [name for name in TINY if name != "stylegan2"]


def base(directory: Path) -> DiffusionGenerator:
    loaded = load_source(directory)
    assert isinstance(loaded, DiffusionGenerator)
    return loaded


def pool(generator: DiffusionGenerator, count: int = 20) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *generator.image_size), generator=random).to(torch.uint8)


@pytest.mark.parametrize("layout", TRAINABLE)
def test_every_family_of_diffusion_learns_on_from_its_weights(layout: str, tmp_path: Path) -> None:
    directory = TINY[layout][1](tmp_path / "base")
    began, learned = base(directory), base(directory)
    result = train_generator(pool(began), CONFIG, base=learned)
    assert result.generator is learned
    before, after = began.denoiser.state_dict(), learned.denoiser.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert result.curves["look_step"] == [1, 3]
    assert not any(parameter.requires_grad for parameter in learned.denoiser.parameters())
    if isinstance(began, LatentGenerator) and isinstance(learned, LatentGenerator):
        codecs = [generator._codec.vae.state_dict() for generator in (began, learned)]
        assert all(torch.equal(codecs[0][name], codecs[1][name]) for name in codecs[0])
    learned.save(tmp_path / "learned")
    again = base(tmp_path / "learned")
    assert again.family == began.family
    assert again.facts.training["train_images"] == 12
    assert again.facts.tap_names == began.facts.tap_names
    drawn_BCHW, _ = again.sample([1], num_steps=2)
    assert drawn_BCHW.shape == (1, *began.image_size)


def test_it_begins_where_the_base_ended_and_not_anew(tmp_path: Path) -> None:
    learned = base(unet_diffusion(tmp_path))
    before = {name: value.clone() for name, value in learned.denoiser.state_dict().items()}
    result = train_generator(pool(learned), replace(CONFIG, steps=1, learning_rate=None), base=learned)
    rate = learned.fine_tuning_rate
    assert rate < FROM_SCRATCH
    assert result.generator.facts.training["learning_rate"] == rate
    moved = max(float((value - before[name]).abs().max()) for name, value in learned.denoiser.state_dict().items())
    assert 0 < moved <= 1.1 * rate


def test_an_interrupted_fine_tuning_ends_with_the_same_bits(tmp_path: Path) -> None:
    directory = latent_diffusion(tmp_path / "base")
    checkpoint = tmp_path / "run.safetensors"
    whole = train_generator(pool(base(directory)), CONFIG, base=base(directory))
    asked = iter([False])
    with pytest.raises(Stopped):
        train_generator(
            pool(base(directory)),
            CONFIG,
            base=base(directory),
            stop=lambda: next(asked, True),
            checkpoint_path=checkpoint,
        )
    resumed = train_generator(pool(base(directory)), CONFIG, base=base(directory), checkpoint_path=checkpoint)
    weights, others = whole.generator.denoiser.state_dict(), resumed.generator.denoiser.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_target_is_what_the_scheduler_says_the_network_predicts(prediction: str, tmp_path: Path) -> None:
    generator = base(latent_diffusion(tmp_path, prediction=prediction))
    images_BCHW, device = pool(generator, 4), torch.device("cpu")
    batch = noisy_batch(generator, images_BCHW, torch.Generator().manual_seed(1), device)
    clean_BCHW = torch.empty_like(batch.noised_BCHW)
    # A perfect answer, handed to the scheduler, gives the clean latents back.
    for index, timestep in enumerate(batch.times_B.tolist()):
        one = slice(index, index + 1)
        generator.scheduler.set_timesteps(generator.num_train_timesteps)
        step = generator.scheduler.step(batch.target_BCHW[one], timestep, batch.noised_BCHW[one])
        clean_BCHW[one] = step.pred_original_sample
    wanted_BCHW = generator.to_latent(images_BCHW.float() / 127.5 - 1)
    torch.testing.assert_close(clean_BCHW, wanted_BCHW, atol=0.02, rtol=0.02)


def test_guidance_keeps_its_unconditioned_half(tmp_path: Path) -> None:
    generator = base(latent_diffusion(tmp_path))
    assert isinstance(generator, LatentGenerator)
    told_B = generator.training_conditions(400, torch.Generator().manual_seed(0))
    assert 0.05 < float((told_B == generator.untold).float().mean()) < 0.15
    assert set(told_B.tolist()) == {generator.told, generator.untold}


def test_only_the_denoiser_is_trained(tmp_path: Path) -> None:
    generator = base(latent_diffusion(tmp_path))
    objective = DenoisingObjective(generator)
    assert {id(value) for value in objective.parameters()} == {id(value) for value in generator.denoiser.parameters()}


@pytest.mark.parametrize("layout", ["latent_diffusion", "dit"])
def test_adapters_learn_alone_and_are_merged(layout: str, tmp_path: Path) -> None:
    directory = TINY[layout][1](tmp_path / "base")
    began, learned = base(directory), base(directory)
    train_generator(pool(began), replace(CONFIG, lora_rank=2, learning_rate=None), base=learned)
    before, after = began.denoiser.state_dict(), learned.denoiser.state_dict()
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.removesuffix(".weight").endswith(ATTENTION) for name in moved)
    for name in moved:
        difference_RC = (after[name] - before[name]).double()
        assert int(torch.linalg.matrix_rank(difference_RC, rtol=1e-3)) <= 2
    learned.save(tmp_path / "learned")
    again = base(tmp_path / "learned")
    assert again.facts.training["lora_rank"] == 2
    drawn_BCHW, kept_BCHW = (generator.sample([1], num_steps=2)[0] for generator in (learned, again))
    assert float((drawn_BCHW - kept_BCHW).abs().mean()) < 0.02


def test_interrupted_adapters_end_with_the_same_bits(tmp_path: Path) -> None:
    directory, config = TINY["dit"][1](tmp_path / "base"), replace(CONFIG, lora_rank=2)
    checkpoint = tmp_path / "run.safetensors"
    whole = train_generator(pool(base(directory)), config, base=base(directory))
    asked = iter([False, False])
    with pytest.raises(Stopped):
        train_generator(
            pool(base(directory)),
            config,
            base=base(directory),
            stop=lambda: next(asked, True),
            checkpoint_path=checkpoint,
        )
    resumed = train_generator(pool(base(directory)), config, base=base(directory), checkpoint_path=checkpoint)
    weights, others = whole.generator.denoiser.state_dict(), resumed.generator.denoiser.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_adapters_need_peft_attention_and_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no attention"), adapted(nn.Linear(2, 2), 4):
        pass
    with pytest.raises(ValueError, match="for a base generator"):
        train_generator(torch.zeros(16, 3, 16, 16, dtype=torch.uint8), replace(CONFIG, lora_rank=2))
    monkeypatch.setattr(adapters, "find_spec", lambda _name: None)
    generator = base(TINY["dit"][1](tmp_path))
    with pytest.raises(AdaptersMissing, match="pip install"):
        train_generator(pool(generator), replace(CONFIG, lora_rank=2), base=generator)


def test_a_base_of_another_size_or_beside_a_network_is_refused(tmp_path: Path) -> None:
    generator = base(unet_diffusion(tmp_path))
    with pytest.raises(ValueError, match="images of"):
        train_generator(pool(generator)[:, :, :8], CONFIG, base=generator)
    with pytest.raises(ValueError, match="its own network"):
        train_generator(pool(generator), replace(CONFIG, network=NetworkConfig((8,))), base=generator)
