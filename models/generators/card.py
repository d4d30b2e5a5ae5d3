"""The model card of a trained generator: what it is, how it was made, how near it comes, whether it replays."""

import json
from typing import Any

USAGE = """```python
from diffusers import DDIMScheduler, UNet2DModel

unet = UNet2DModel.from_pretrained("DIRECTORY/unet", use_safetensors=True)
scheduler = DDIMScheduler.from_pretrained("DIRECTORY/scheduler")
```

The network sees images folded by `patch_size` (torch's `pixel_unshuffle`) in [-1, 1]; `generator.json` has the factor."""

RECIPE = (
    "steps",
    "batch_size",
    "learning_rate",
    "ema_decay",
    "seed",
    "train_images",
    "holdout_images",
    "symmetry",
    "network",
)
"""What of the training facts another run needs."""


def render_card(name: str, facts: dict[str, Any]) -> str:
    """README.md of a generator directory from `generator.json`."""
    training: dict[str, Any] = facts.get("training") or {}
    channels, height, width = facts["image_size"]
    lines = ["---", "library_name: diffusers", "pipeline_tag: unconditional-image-generation", "---", ""]
    lines += [
        f"# {name}",
        "",
        f"A pixel diffusion generator of {height}x{width} images with {channels} channels, trained by",
    ]
    lines += [
        f"Label Factory (`train_generator`, v-prediction, family {facts.get('family')}).",
        "",
        "![Samples](samples.png)",
        "",
    ]
    lines += ["## Use", "", USAGE, "", "## Recipe", "", "```json"]
    lines += [json.dumps({key: training.get(key) for key in RECIPE}, indent=2), "```", ""]
    lines += ["## Measured", "", *_measured(training)]
    lines += [f"- Warning: {warning}" for warning in training.get("warnings") or []]
    lines += ["", "Weights carry the licence of the images they were trained on.", ""]
    return "\n".join(lines)


def _measured(training: dict[str, Any]) -> list[str]:
    lines = [
        f"- {label}: {training[key]:.4f}"
        for key, label in (("train_loss", "v-loss on training images"), ("holdout_loss", "v-loss on held-out images"))
        if training.get(key) is not None
    ]
    if training.get("seconds"):
        lines.append(f"- Training time: {training['seconds'] / 60:.0f} minutes")
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
    ]
