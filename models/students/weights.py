"""A student's backbone from weights that are there already: a local transformers directory, safetensors only.

The directory holds a backbone of the student's kind, alone or inside a larger network: a classifier, a SegFormer, an
UperNet, another student. Only the backbone is taken. Axes: B batch, C channel, H height, W width.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    PreTrainedConfig,
    RTDetrConfig,
    RTDetrForObjectDetection,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from models.generators.directory import check_files
from models.registry import StudentArchitecture

CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
WHOLE = {"upernet": "backbone.", "rt_detr": "model.backbone.model."}
"""Kinds of networks that hold a backbone of another kind -> where."""
OUTPUT_NORMS = "hidden_states_norms."
"""Norms between backbone and decoder: a network without that decoder has none, so they start afresh."""

GEOMETRY = {
    "segformer": (
        [
            "num_channels",
            "hidden_sizes",
            "depths",
            "patch_sizes",
            "strides",
            "num_attention_heads",
            "sr_ratios",
            "mlp_ratios",
        ]
    ),
    "convnext": ["num_channels", "hidden_sizes", "depths", "patch_size"],
    "swin": ["num_channels", "embed_dim", "depths", "num_heads", "window_size", "patch_size", "mlp_ratio", "qkv_bias"],
    "rt_detr_resnet": ["num_channels", "embedding_size", "hidden_sizes", "depths", "layer_type"],
    "resnet": (
        [
            "num_channels",
            "embedding_size",
            "hidden_sizes",
            "depths",
            "layer_type",
            "downsample_in_first_stage",
            "downsample_in_bottleneck",
        ]
    ),
    "pp_lcnet": ["scale", "divisor", "stem_channels", "stem_stride", "block_configs", "hidden_act"],
    "textnet": (
        [
            "stem_kernel_size",
            "stem_stride",
            "stem_out_channels",
            "hidden_sizes",
            "conv_layer_kernel_sizes",
            "conv_layer_strides",
        ]
    ),
}
"""Kind of backbone -> what of its configuration must agree for its weights to mean the same."""


class UnfitWeights(ValueError):  # noqa: N818 - named for what was found
    """The directory's weights do not belong to the student's backbone."""


def fitting_stride(known: StudentArchitecture, directory: Path) -> int:
    """The first stride at which the architecture is the one these weights were trained in.

    Raises UnfitWeights, saying what differs, when there is none.
    """
    found = _read(directory)
    for stride in known.strides:
        wanted = _backbone_config(known, stride)
        differences = _differences(wanted, found)
        if not differences:
            return stride
    raise UnfitWeights(f"{directory.name} has another backbone than {known.description}: {'; '.join(differences)}.")


def load_backbone(backbone: Any, directory: Path) -> None:
    """Give a student's backbone the directory's weights, in float32, for images in [-1, 1].

    The units that `preprocessor_config.json` names, where there is one, move into the first convolution. Raises
    UnfitWeights for tensors that are missing, left over, of another shape or not finite; UnsafeDirectory for code,
    pickles and links that leave the directory; OSError for missing files.
    """
    root = check_files(directory)
    kind = json.loads((root / CONFIG).read_text()).get("model_type")
    prefix = WHOLE.get(kind, "")
    source, info = _loaded(_around(backbone, kind), root)
    _check_keys(directory.name, backbone, info, prefix)
    state = source.get_submodule(prefix.removesuffix(".")).state_dict()
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise UnfitWeights(f"{directory.name}: {broken[0]} holds numbers that are not finite.")
    backbone.load_state_dict(state)
    _take_units(backbone, root)


def _read(directory: Path) -> dict[str, Any]:
    """The backbone's configuration as written; what is left out is transformers' default."""
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory.name} has no {name}")
    try:
        document = json.loads((directory / CONFIG).read_text())
        found = document["backbone_config"] if document["model_type"] in WHOLE else document
        return {**found, "model_type": found["model_type"]}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UnfitWeights(f"{directory.name}: {CONFIG} is not the configuration of a backbone.") from None


def _backbone_config(known: StudentArchitecture, stride: int) -> PreTrainedConfig:
    config = known.configure({0: "any"}, stride)
    return getattr(config, "backbone_config", config)


def _differences(wanted: PreTrainedConfig, found: dict[str, Any]) -> list[str]:
    if found["model_type"] != wanted.model_type:
        return [f"it is a {found['model_type']}, not a {wanted.model_type}"]
    defaults = type(wanted)()
    pairs = [(key, found.get(key, getattr(defaults, key)), getattr(wanted, key)) for key in GEOMETRY[wanted.model_type]]
    return [f"{key} is {theirs}, not {ours}" for key, theirs, ours in pairs if json.dumps(theirs) != json.dumps(ours)]


def _around(backbone: Any, kind: str) -> Any:
    """A network of that kind around a backbone like this one, or the backbone itself."""
    if kind == "upernet":
        return UperNetForSemanticSegmentation(UperNetConfig(backbone_config=backbone.config, use_auxiliary_head=False))
    if kind == "rt_detr":
        return RTDetrForObjectDetection(
            RTDetrConfig(
                backbone_config=backbone.config,
                freeze_backbone_batch_norms=False,
                encoder_in_channels=list(backbone.channels),
            )
        )
    return backbone


def _loaded(target: Any, root: Path) -> tuple[Any, dict[str, Any]]:
    """The directory's weights in the target's class and configuration, and what did not fit."""
    try:
        with torch.random.fork_rng(devices=[]):
            found: tuple[Any, dict[str, Any]] = type(target).from_pretrained(
                root,
                config=target.config,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except SafetensorError as error:
        raise UnfitWeights(f"{root.name}: {WEIGHTS} is not a safetensors file ({error}).") from None
    return found


def _check_keys(name: str, backbone: nn.Module, info: dict[str, Any], prefix: str) -> None:
    missing = [key for key in info["missing_keys"] if key.startswith(prefix)]
    missing = [key for key in missing if not key.removeprefix(prefix).startswith(OUTPUT_NORMS)]
    # A frozen normalisation counts no batches.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing:
        raise UnfitWeights(f"{name} lacks {len(missing)} tensors of the backbone, {min(missing)} for one.")
    mismatched = [key for key, *_ in info["mismatched_keys"] if key.startswith(prefix)]
    if mismatched:
        raise UnfitWeights(f"{name}: {min(mismatched)} has another shape than the backbone's.")
    own = tuple(f"{prefix}{child}." for child, _ in backbone.named_children())
    inside = prefix or f"{getattr(backbone, 'base_model_prefix', '')}."
    left_over = [key for key in info["unexpected_keys"] if f"{prefix}{key.removeprefix(inside)}".startswith(own)]
    if left_over:
        raise UnfitWeights(f"{name} has {len(left_over)} tensors that the backbone lacks, {min(left_over)} for one.")


@torch.no_grad()
def _take_units(backbone: nn.Module, root: Path) -> None:
    """Fold (image - mean) / std of images in [0, 1] into the first convolution, which then takes images in [-1, 1].

    Exact but for the border, where zero padding now stands for grey.
    """
    path = root / PREPROCESSOR
    units = json.loads(path.read_text()) if path.is_file() else {}
    if not units.get("image_mean") or not units.get("image_std"):
        return
    mean_C, std_C = torch.tensor(units["image_mean"]), torch.tensor(units["image_std"])
    if units.get("do_normalize") is False:
        mean_C, std_C = torch.zeros_like(mean_C), torch.ones_like(std_C)
    layers = list(backbone.modules())
    index, first = next((index, layer) for index, layer in enumerate(layers) if isinstance(layer, nn.Conv2d))
    constant_O = (first.weight * ((0.5 - mean_C) / std_C)[None, :, None, None]).sum((1, 2, 3))
    first.weight.mul_((0.5 / std_C)[None, :, None, None])
    if first.bias is not None:
        first.bias.add_(constant_O)
    else:
        norm = next(layer for layer in layers[index:] if isinstance(layer, nn.BatchNorm2d))
        norm.running_mean.sub_(constant_O)
