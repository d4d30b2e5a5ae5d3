"""The model card of a trained generator: what it is, how it was made, how near it comes, whether it replays."""

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

PIXEL_USAGE = """```python
from diffusers import DDIMScheduler, UNet2DModel

unet = UNet2DModel.from_pretrained("DIRECTORY/unet", use_safetensors=True)
scheduler = DDIMScheduler.from_pretrained("DIRECTORY/scheduler")
```

The network sees images folded by `patch_size` (torch's `pixel_unshuffle`) in [-1, 1]; `generator.json` has the factor.
Sides that it cannot halve often enough are padded first."""
PIPELINE_USAGE = """```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("DIRECTORY", use_safetensors=True)
```"""
"""Of the families whose directories are whole pipelines."""

PIXEL_FAMILY = "unet_diffusion"
RECIPE = (
    "steps",
    "batch_size",
    "learning_rate",
    "lora_rank",
    "ema_decay",
    "seed",
    "train_images",
    "holdout_images",
    "symmetry",
    "network",
)
"""What of the training facts another run needs."""

LOOKED = {
    "look_step": "step",
    "train_loss": "loss on training images",
    "holdout_loss": "on held-out images",
    "kernel_distance": "kernel distance to held-out images",
    "nearest_ratio": "distance to the nearest training image, samples over held-out images",
    "copied_share": "copies",
}
"""Columns of the table of looks."""
STILL_FALLING = 0.9
"""Distance at the end over distance at half time below which longer training may help."""


def render_card(name: str, facts: dict[str, Any]) -> str:
    """README.md of a generator directory from `generator.json`."""
    training: dict[str, Any] = facts.get("training") or {}
    channels, height, width = facts["image_size"]
    lines = ["---", "library_name: diffusers", "pipeline_tag: unconditional-image-generation", "---", ""]
    family = facts.get("family")
    lines += [
        f"# {name}",
        "",
        f"A diffusion generator of {height}x{width} images with {channels} channels, trained by Label Factory",
        f"(`train_generator`, family {family}).{_base(training)}",
        "",
        "![Samples](samples.png)",
        "",
    ]
    lines += ["## Use", "", PIXEL_USAGE if family == PIXEL_FAMILY else PIPELINE_USAGE, "", "## Recipe", "", "```json"]
    lines += [json.dumps({key: training.get(key) for key in RECIPE}, indent=2), "```", ""]
    lines += ["## Measured", "", *_measured(training)]
    lines += [f"- {words}" for words in [training.get("outlook")] if words]
    lines += [f"- Warning: {warning}" for warning in training.get("warnings") or []]
    lines += _while_it_trained(training.get("looks") or {})
    lines += [
        "",
        "Weights carry the licence of the images they were trained on, and of the weights they began with.",
        "",
    ]
    return "\n".join(lines)


def _base(training: Mapping[str, Any]) -> str:
    """What it began with."""
    base = training.get("base")
    if not base:
        return ""
    rank = training.get("lora_rank")
    how = f", of which low-rank adapters learned (rank {rank}, merged)" if rank else ""
    licence = f", licence {base['licence']}" if base.get("licence") else ""
    return f" It began with the weights of {base['name']} (digest {base['digest']}{licence}){how}."


def _measured(training: dict[str, Any]) -> list[str]:
    lines = [
        f"- {label}: {training[key]:.4f}"
        for key, label in (("train_loss", "loss on training images"), ("holdout_loss", "loss on held-out images"))
        if training.get(key) is not None
    ]
    if training.get("seconds"):
        lines.append(f"- Training time: {training['seconds'] / 60:.1f} minutes")
    quality = training.get("quality")
    if not quality:
        return [*lines, "- No images were held out, so its distance to real images is not known."]
    return [
        *lines,
        f"- Kernel distance of {quality['samples']} samples to {quality['holdout']} held-out images: "
        f"{quality['kernel_distance']} (training images: {quality['kernel_distance_of_real']}); features: {quality['features']}",
        f"- Distance to the nearest training image, median and 1st percentile: {quality['nearest_median']}, "
        f"{quality['nearest_low']} (held-out images: {quality['nearest_median_of_real']}, {quality['nearest_low_of_real']}); "
        "a replayed image would be near 0",
        f"- Samples at least three times nearer to one training image than to any other: {quality['copied_share']:.0%} "
        f"(held-out images: {quality['copied_share_of_real']:.0%})",
    ]


def trend(looks: Mapping[str, Sequence[float]]) -> str:
    """Whether longer training would help, as far as the looks tell; empty where they are too few.

    Looks have few samples, so all in the middle third of the training are held against all in its last quarter.
    """
    placed = list(zip(looks.get("look_step", []), looks.get("kernel_distance", []), strict=False))
    end = placed[-1][0] if placed else 0.0
    middle = [distance for step, distance in placed if end / 3 <= step <= end * 2 / 3]
    last = [distance for step, distance in placed if step >= end * 3 / 4]
    if not middle or not last:
        return ""
    then, now = fmean(middle), fmean(last)
    words = f"kernel distance {then:.2f} around half of the training, {now:.2f} at its end"
    if now < STILL_FALLING * then:
        return f"It was still coming nearer to the held-out images ({words}): longer training may help."
    return f"It had stopped coming nearer to the held-out images ({words}): longer training is not likely to help."


def _while_it_trained(looks: Mapping[str, Sequence[float]]) -> list[str]:
    """A table of the looks."""
    names = [name for name in LOOKED if name in looks]
    if len(names) < len(LOOKED):
        return []
    head = [
        "",
        "## While it trained",
        "",
        "Few samples and few sampling steps: for comparing rows with each other.",
        "",
    ]
    rows = zip(*(looks[name] for name in names), strict=True)
    return [
        *head,
        f"| {' | '.join(LOOKED[name] for name in names)} |",
        f"|{'---|' * len(names)}",
        *(f"| {' | '.join(f'{value:.4g}' for value in row)} |" for row in rows),
    ]
