"""Name -> builder. The only place with sizes of networks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers import (
    ConvNextConfig,
    Mask2FormerConfig,
    PPLCNetConfig,
    ResNetConfig,
    RTDetrConfig,
    RTDetrResNetConfig,
    SegformerConfig,
    SwinConfig,
    TextNetConfig,
    UperNetConfig,
)

LabelNames = dict[int, str]
Task = Literal["semantic", "instance", "detection"]
"""What a student answers: a class per pixel, masks with a class each, or boxes with a class each."""
FINE_DETAIL_SIDE = 128
"""Images up to this many pixels on their shorter side get a first stage at half resolution instead of a quarter."""


@dataclass(frozen=True)
class StudentArchitecture:
    """A student that can be asked for by name."""

    description: str
    strides: tuple[int, ...]
    """Strides that the first stage can have, finest first."""
    configure: Callable[[LabelNames, int], Any]
    """Label names and first stride -> transformers configuration."""
    task: Task = "semantic"
    """What it answers."""

    def stride_for(self, image_size: tuple[int, int], wanted: int | None = None) -> int:
        """The first stage's stride for (height, width): what is wanted, or 2 for small images and 4 for others.

        Raises ValueError for a stride the architecture cannot have.
        """
        if wanted is None:
            wanted = 2 if min(image_size) <= FINE_DETAIL_SIDE else 4
            return wanted if wanted in self.strides else self.strides[0]
        if wanted not in self.strides:
            raise ValueError(f"The first stage cannot have stride {wanted}; it can have {self.strides}.")
        return wanted


def _segformer(hidden_sizes: list[int], depths: list[int], decoder: int, description: str) -> StudentArchitecture:
    def configure(names: LabelNames, stride: int) -> SegformerConfig:
        return SegformerConfig(
            **_labels(names),
            strides=[stride, 2, 2, 2],
            patch_sizes=[7 if stride == 4 else 3, 3, 3, 3],
            hidden_sizes=hidden_sizes,
            depths=depths,
            decoder_hidden_size=decoder,
            drop_path_rate=0.0,
        )

    return StudentArchitecture(description, (1, 2, 4), configure)


def _upernet_convnext(
    hidden_sizes: list[int], depths: list[int], channels: int, description: str
) -> StudentArchitecture:
    def configure(names: LabelNames, stride: int) -> UperNetConfig:
        backbone = ConvNextConfig(
            patch_size=stride,
            hidden_sizes=hidden_sizes,
            depths=depths,
            drop_path_rate=0.0,
            out_features=_stages(depths),
        )
        return _upernet(names, backbone, channels)

    return StudentArchitecture(description, (1, 2, 4), configure)


def _upernet_textnet(
    hidden_sizes: list[int], depths: list[int], channels: int, description: str
) -> StudentArchitecture:
    """TextNet: plain 3x3 convolutions with parallel branches and batch normalisation, every stride configurable."""

    def configure(names: LabelNames, stride: int) -> UperNetConfig:
        return _upernet(names, _textnet(hidden_sizes, depths, stride, _stages(depths)), channels)

    return StudentArchitecture(description, (1, 2, 4), configure)


def _upernet_swin(
    embed_dim: int, depths: list[int], num_heads: list[int], channels: int, description: str
) -> StudentArchitecture:
    def configure(names: LabelNames, stride: int) -> UperNetConfig:
        return _upernet(names, _swin(embed_dim, depths, num_heads, stride), channels)

    return StudentArchitecture(description, (1, 2, 4), configure)


def _upernet_resnet(
    hidden_sizes: list[int], depths: list[int], layer_type: str, channels: int, description: str
) -> StudentArchitecture:
    def configure(names: LabelNames, _stride: int) -> UperNetConfig:
        backbone = ResNetConfig(
            hidden_sizes=hidden_sizes, depths=depths, layer_type=layer_type, out_features=_stages(depths)
        )
        return _upernet(names, backbone, channels)

    return StudentArchitecture(description, (4,), configure)


def _upernet_efficientnet(
    blocks: list[list[tuple[int, int, int, int]]], channels: int, description: str
) -> StudentArchitecture:
    """EfficientNet-Lite as the PP-LCNet that computes the same (students/efficientnet_backbone.py)."""

    def configure(names: LabelNames, _stride: int) -> UperNetConfig:
        backbone = PPLCNetConfig(
            stem_channels=blocks[0][0][1],
            block_configs=[[[*block, False] for block in stage] for stage in blocks],
            hidden_act="relu6",
            out_features=_stages(blocks),
        )
        return _upernet(names, backbone, channels)

    return StudentArchitecture(description, (2,), configure)


def _mask2former(
    embed_dim: int, depths: list[int], num_heads: list[int], sizes: dict[str, int], description: str
) -> StudentArchitecture:
    def configure(names: LabelNames, stride: int) -> Mask2FormerConfig:
        return Mask2FormerConfig(
            **_labels(names),
            **sizes,
            backbone_config=_swin(embed_dim, depths, num_heads, stride),
            common_stride=stride,
            feature_strides=[stride, stride * 2, stride * 4, stride * 8],
        )

    return StudentArchitecture(description, (1, 2, 4), configure, "instance")


def _rtdetr_textnet(
    hidden_sizes: list[int], depths: list[int], channels: int, sizes: dict[str, int], description: str
) -> StudentArchitecture:
    def configure(names: LabelNames, stride: int) -> RTDetrConfig:
        backbone = _textnet(hidden_sizes, depths, stride, _stages(depths)[1:])
        return _rtdetr(names, backbone, hidden_sizes[2:], 2 * stride, channels, sizes)

    return StudentArchitecture(description, (1, 2, 4), configure, "detection")


def _rtdetr_resnet(
    hidden_sizes: list[int], depths: list[int], layer_type: str, sizes: dict[str, Any], description: str
) -> StudentArchitecture:
    def configure(names: LabelNames, _stride: int) -> RTDetrConfig:
        backbone = RTDetrResNetConfig(
            hidden_sizes=hidden_sizes, depths=depths, layer_type=layer_type, out_features=_stages(depths)[1:]
        )
        return _rtdetr(names, backbone, hidden_sizes[1:], 8, 256, sizes)

    return StudentArchitecture(description, (4,), configure, "detection")


def _rtdetr(
    names: LabelNames, backbone: Any, widths: list[int], finest: int, channels: int, sizes: dict[str, Any]
) -> RTDetrConfig:
    """On a backbone's three last stages, of these widths, from the finest stride on."""
    return RTDetrConfig(
        **_labels(names),
        **sizes,
        backbone_config=backbone,
        freeze_backbone_batch_norms=False,
        encoder_in_channels=widths,
        feat_strides=[finest, finest * 2, finest * 4],
        encoder_hidden_dim=channels,
        d_model=channels,
        decoder_in_channels=[channels] * 3,
    )


def _textnet(hidden_sizes: list[int], depths: list[int], stride: int, stages: list[str]) -> TextNetConfig:
    strides = [[1] * depths[0]] + [[2] + [1] * (depth - 1) for depth in depths[1:]]
    strides[0][0] = 2 if stride == 4 else 1
    return TextNetConfig(
        stem_stride=min(stride, 2),
        stem_out_channels=hidden_sizes[0],
        hidden_sizes=hidden_sizes,
        conv_layer_kernel_sizes=[[[3, 3]] * depth for depth in depths],
        conv_layer_strides=strides,
        out_features=stages,
    )


def _swin(embed_dim: int, depths: list[int], num_heads: list[int], stride: int) -> SwinConfig:
    return SwinConfig(
        patch_size=stride,
        embed_dim=embed_dim,
        depths=depths,
        num_heads=num_heads,
        drop_path_rate=0.0,
        out_features=_stages(depths),
    )


def _upernet(names: LabelNames, backbone: Any, channels: int) -> UperNetConfig:
    return UperNetConfig(
        **_labels(names),
        backbone_config=backbone,
        hidden_size=channels,
        pool_scales=[1, 2, 3, 6],
        use_auxiliary_head=False,
    )


def _labels(names: LabelNames) -> dict[str, Any]:
    return {"id2label": names, "label2id": {name: index for index, name in names.items()}}


def _stages(depths: Sequence[Any]) -> list[str]:
    return [f"stage{index + 1}" for index in range(len(depths))]


_EFFICIENTNET_LITE0 = [
    [(3, 32, 96, 1)],
    [(3, 96, 168, 2), (3, 168, 144, 1)],
    [(5, 144, 280, 2), (5, 280, 240, 1)],
    [(3, 240, 560, 2), (3, 560, 560, 1), (3, 560, 480, 1), (5, 480, 784, 1), (5, 784, 784, 1), (5, 784, 672, 1)],
    [(5, 672, 1344, 2), (5, 1344, 1344, 1), (5, 1344, 1344, 1), (5, 1344, 1152, 1), (3, 1152, 320, 1)],
]
"""(kernel, channels in, channels out, stride) of every block by resolution; with a skip connection's channels beside."""

_NARROW_MASK2FORMER = {
    "feature_size": 64,
    "mask_feature_size": 64,
    "hidden_dim": 64,
    "encoder_feedforward_dim": 128,
    "encoder_layers": 2,
    "decoder_layers": 4,
    "num_attention_heads": 4,
    "dim_feedforward": 128,
    "train_num_points": 1024,
}

_NARROW_RTDETR = {
    "encoder_ffn_dim": 128,
    "encoder_attention_heads": 4,
    "decoder_layers": 3,
    "decoder_ffn_dim": 128,
    "decoder_attention_heads": 4,
    "num_queries": 100,
}

STUDENTS: dict[str, StudentArchitecture] = {
    "upernet_textnet": _upernet_textnet(
        [32, 48, 64, 96, 128], [2, 2, 2, 2], 48, "UperNet on a small TextNet: learns fastest from few images"
    ),
    "upernet_convnext": _upernet_convnext([32, 64, 128, 256], [2, 2, 4, 2], 64, "UperNet on a narrow ConvNeXt"),
    "upernet_convnext_tiny": _upernet_convnext([96, 192, 384, 768], [3, 3, 9, 3], 512, "UperNet on ConvNeXt-T"),
    "upernet_convnext_small": _upernet_convnext([96, 192, 384, 768], [3, 3, 27, 3], 512, "UperNet on ConvNeXt-S"),
    "upernet_convnext_base": _upernet_convnext([128, 256, 512, 1024], [3, 3, 27, 3], 512, "UperNet on ConvNeXt-B"),
    "upernet_swin_tiny": _upernet_swin(96, [2, 2, 6, 2], [3, 6, 12, 24], 512, "UperNet on Swin-T"),
    "upernet_swin_small": _upernet_swin(96, [2, 2, 18, 2], [3, 6, 12, 24], 512, "UperNet on Swin-S"),
    "upernet_swin_base": _upernet_swin(128, [2, 2, 18, 2], [4, 8, 16, 32], 512, "UperNet on Swin-B"),
    "upernet_resnet": _upernet_resnet(
        [64, 128, 256, 512], [2, 2, 2, 2], "basic", 96, "UperNet on ResNet-18, quarter resolution"
    ),
    "upernet_resnet_50": _upernet_resnet(
        [256, 512, 1024, 2048], [3, 4, 6, 3], "bottleneck", 512, "UperNet on ResNet-50, quarter resolution"
    ),
    "upernet_resnet_101": _upernet_resnet(
        [256, 512, 1024, 2048], [3, 4, 23, 3], "bottleneck", 512, "UperNet on ResNet-101, quarter resolution"
    ),
    "upernet_efficientnet_lite0": _upernet_efficientnet(
        _EFFICIENTNET_LITE0, 96, "UperNet on EfficientNet-Lite0, whose ImageNet weights a package ships"
    ),
    "segformer_nano": _segformer([16, 32, 64, 96], [1, 1, 1, 1], 64, "SegFormer of a third of a million weights"),
    "segformer_b0": _segformer([32, 64, 160, 256], [2, 2, 2, 2], 128, "SegFormer B0"),
    "segformer_b1": _segformer([64, 128, 320, 512], [2, 2, 2, 2], 256, "SegFormer B1"),
    "segformer_b2": _segformer([64, 128, 320, 512], [3, 4, 6, 3], 768, "SegFormer B2"),
    "segformer_b3": _segformer([64, 128, 320, 512], [3, 4, 18, 3], 768, "SegFormer B3"),
    "segformer_b4": _segformer([64, 128, 320, 512], [3, 8, 27, 3], 768, "SegFormer B4"),
    "segformer_b5": _segformer([64, 128, 320, 512], [3, 6, 40, 3], 768, "SegFormer B5"),
    "mask2former_nano": _mask2former(
        24, [1, 1, 2, 1], [1, 2, 4, 8], _NARROW_MASK2FORMER, "Mask2Former on a narrow Swin: instances by queries"
    ),
    "mask2former_swin_tiny": _mask2former(96, [2, 2, 6, 2], [3, 6, 12, 24], {}, "Mask2Former on Swin-T"),
    "rtdetr_nano": _rtdetr_textnet(
        [32, 48, 64, 96, 128], [2, 2, 2, 2], 64, _NARROW_RTDETR, "RT-DETR on a small TextNet: boxes by queries"
    ),
    "rtdetr_resnet_18": _rtdetr_resnet(
        [64, 128, 256, 512],
        [2, 2, 2, 2],
        "basic",
        {"decoder_layers": 3, "hidden_expansion": 0.5},
        "RT-DETR on ResNet-18",
    ),
}
"""Students: small transformers networks that learn from the dataset. Family by family, each from small to large."""
