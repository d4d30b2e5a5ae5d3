"""Step `train_generator`: a pool of unlabelled images -> a generator, with sample sheets on the way."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.examples import to_uint8_images
from models.generators.adapters import AdaptersMissing
from models.generators.card import render_card
from models.generators.group_training import train_in_group
from models.generators.network import NetworkConfig, network_for
from models.generators.training import GeneratorTrainConfig, GeneratorTrainResult, load_base, train_generator
from service import generators, image_pools, object_keys
from service.formats.shard import ShardSample
from service.job_spec import TrainGeneratorSpec
from service.spec_parts import NetworkSpec
from service.tables import Generator, ImagePool
from service.unit_of_work import Work
from workers.artifacts import fetch_directory, store_directory, stream_shard, zip_directory
from workers.context import Outcome, StepContext
from workers.device import halving
from workers.lineage import known_generator, versions
from workers.problems import StepError
from workers.sample_sheets import image_sheet

BATCH = {"cpu": 8, "cuda": 32}
"""Images per step unless the user says so (docs/decisions/0030)."""


def run(context: StepContext) -> Outcome:
    """Train (or train on from the checkpoint), store the directory, make the generator ready."""
    pool = _pool(context)
    images_BCHW = load_pool(context, pool)
    config = train_config(context.train_generator_spec, tuple(images_BCHW.shape[1:]), context.device)
    try:
        result = halving(config.batch_size, lambda size: _train(context, images_BCHW, replace(config, batch_size=size)))
    except AdaptersMissing as error:
        raise StepError(
            "adapters-missing", str(error), "Install the extra, or submit the job without lora_rank."
        ) from None
    context.say("storing the generator")
    return _stored(context, pool, result)


def _pool(context: StepContext) -> ImagePool:
    with context.read() as work:
        return image_pools.get(work, context.train_generator_spec.image_pool_id)


def _train(context: StepContext, images_BCHW: torch.Tensor, config: GeneratorTrainConfig) -> GeneratorTrainResult:
    def show(step: int, samples_BCHW: torch.Tensor) -> None:
        sheet = image_sheet(to_uint8_images(samples_BCHW))
        context.show_sample(f"samples-{step:07}.png", sheet, f"samples after {step} steps, always from the same seeds")

    hooks: dict[str, Any] = {
        "progress": context.reporter("training the generator"),
        "stop": context.stop,
        "checkpoint_path": context.checkpoint.folder / "generator.safetensors",
        "on_samples": show,
        "on_warning": lambda words: context.log(words, level="warning"),
    }
    base_folder = _base_folder(context)
    if shared := context.sharing(config.batch_size):
        return train_in_group(images_BCHW, config, base_folder=base_folder, **hooks, **shared)
    base = None if base_folder is None else load_base(base_folder, context.device)
    return train_generator(images_BCHW, config, base=base, device=context.device, **hooks)


def _base_row(context: StepContext) -> Generator | None:
    name = context.train_generator_spec.base_generator
    if name is None:
        return None
    with context.read() as work:
        return generators.get(work, name)


def _base_folder(context: StepContext) -> Path | None:
    """The directory of the generator to begin with; what is loaded from it is of this attempt alone, training changes it."""
    row = _base_row(context)
    if row is None:
        return None
    return fetch_directory(context, generators.file_key(row, ""), context.scratch / "base")


def load_pool(context: StepContext, pool: ImagePool) -> torch.Tensor:
    """All images of the pool as uint8 BCHW; refuses what does not fit into the allowed memory."""
    height, width, count = pool.image_height or 0, pool.image_width or 0, pool.num_images
    limit = context.factory.settings.max_pool_memory_bytes
    if count * height * width * 3 > limit:
        message = (
            f"The pool's {count} images of {height}x{width} take {count * height * width * 3 >> 20} MiB in memory."
        )
        hint = (
            f"At most {limit >> 20} MiB are allowed: use a smaller pool or raise LABEL_FACTORY_MAX_POOL_MEMORY_BYTES."
        )
        raise StepError("pool-too-large", message, hint)
    images_BCHW = np.empty((count, 3, height, width), dtype=np.uint8)
    done = 0
    for sample in _samples(context, pool.id):
        context.check()
        images_BCHW[done] = sample.image_HWC.transpose(2, 0, 1)
        done += 1
        context.progress(done, count, unit="images", message="reading the pool")
    return torch.from_numpy(images_BCHW[:done])


def _samples(context: StepContext, pool_id: str) -> Iterator[ShardSample]:
    with context.read() as work:
        parts = image_pools.parts(work, pool_id)
    for part in parts:
        yield from stream_shard(context, part.key)


def train_config(spec: TrainGeneratorSpec, image_size: tuple[int, ...], device: torch.device) -> GeneratorTrainConfig:
    """What the user pinned; the rest is the models' own, and a batch that fills the device."""
    elsewhere = {"kind", "name", "image_pool_id", "base_generator", "network"}
    pinned = {"batch_size": BATCH[device.type], **spec.model_dump(exclude=elsewhere, exclude_none=True)}
    channels, height, width = image_size
    return GeneratorTrainConfig(**pinned, network=_network(spec.network, (channels, height, width)))


def _network(spec: NetworkSpec, image_size: tuple[int, int, int]) -> NetworkConfig | None:
    pinned: dict[str, Any] = spec.model_dump(exclude_none=True)
    if "block_out_channels" in pinned:
        pinned["block_out_channels"] = tuple(pinned["block_out_channels"])
    return replace(network_for(image_size), **pinned) if pinned else None


def _stored(context: StepContext, pool: ImagePool, result: GeneratorTrainResult) -> Outcome:
    generator_id = context.step.job_result["generator_id"]
    folder = context.scratch / "generator"
    base = _base_row(context)
    if base is not None:
        result.generator.facts.training["base"] = known_generator(base)
    result.generator.save(folder)
    sheet = image_sheet(to_uint8_images(result.samples_BCHW))
    (folder / generators.SAMPLES_FILE).write_bytes(sheet)
    context.show_sample("samples.png", sheet, "samples of the finished generator")
    prefix = object_keys.generator_prefix(generator_id, context.step.token)
    facts = json.loads((folder / generators.CARD_FILE).read_text())
    (folder / "README.md").write_text(render_card(context.train_generator_spec.name, facts), encoding="utf-8")
    num_bytes = store_directory(context, folder, prefix)
    packed = zip_directory(folder, context.scratch / "generator.zip")
    archive = context.put_file(object_keys.generator_archive(prefix), packed)
    trained = generators.TrainedGenerator(
        key_prefix=prefix,
        digest=generators.directory_digest(folder),
        num_bytes=num_bytes + archive.num_bytes,
        num_parameters=result.generator.num_parameters,
        image_size=result.generator.image_size,
        card=_card(context, pool, result, facts),
    )

    def record(work: Work) -> None:
        generators.record_trained(work, generator_id, trained)

    output = {
        "generator_id": generator_id,
        "digest": trained.digest,
        "warnings": result.warnings,
        "curves": result.curves,
    }
    return Outcome(output, record)


def _card(context: StepContext, pool: ImagePool, result: GeneratorTrainResult, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        **facts,
        "job_id": context.step.job_id,
        "pool": {"id": pool.id, "name": pool.name, "num_images": pool.num_images},
        "warnings": result.warnings,
        "curves": result.curves,
        "versions": versions(),
    }
