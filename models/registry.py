"""Name -> builder. The only place with sizes of networks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import ConvNextConfig, ResNetConfig, SegformerConfig, UperNetConfig

LabelNames = dict[int, str]


@dataclass(frozen=True)
class StudentArchitecture:
    """A student that can be asked for by name."""

    name: str
    description: str
    configure: Callable[[LabelNames], Any]
    """Label names -> transformers configuration."""


def _segformer(label_names: LabelNames, *, first_stride: int, hidden_sizes: list[int], decoder: int) -> SegformerConfig:
    return SegformerConfig(
        id2label=label_names,
        label2id={name: index for index, name in label_names.items()},
        strides=[first_stride, 2, 2, 2],
        patch_sizes=[7 if first_stride == 4 else 3, 3, 3, 3],
        sr_ratios=[8, 4, 2, 1],
        hidden_sizes=hidden_sizes,
        depths=[2, 2, 2, 2],
        decoder_hidden_size=decoder,
        drop_path_rate=0.0,
        classifier_dropout_prob=0.1,
    )


def _upernet(label_names: LabelNames, backbone: Any, *, channels: int) -> UperNetConfig:
    return UperNetConfig(
        backbone_config=backbone,
        id2label=label_names,
        label2id={name: index for index, name in label_names.items()},
        hidden_size=channels,
        pool_scales=[1, 2, 3, 6],
        use_auxiliary_head=False,
    )


def _convnext(*, patch: int, hidden_sizes: list[int], depths: list[int]) -> ConvNextConfig:
    stages = [f"stage{index + 1}" for index in range(len(depths))]
    return ConvNextConfig(
        patch_size=patch, hidden_sizes=hidden_sizes, depths=depths, drop_path_rate=0.0, out_features=stages
    )


def _resnet(*, hidden_sizes: list[int], depths: list[int]) -> ResNetConfig:
    stages = [f"stage{index + 1}" for index in range(len(depths))]
    return ResNetConfig(
        embedding_size=hidden_sizes[0],
        hidden_sizes=hidden_sizes,
        depths=depths,
        layer_type="basic",
        out_features=stages,
    )


_B0 = [32, 64, 160, 256]

STUDENTS: dict[str, StudentArchitecture] = {
    architecture.name: architecture
    for architecture in (
        StudentArchitecture(
            "segformer_b0",
            "SegFormer B0, first stage at half resolution: for details of two pixels",
            lambda names: _segformer(names, first_stride=2, hidden_sizes=_B0, decoder=128),
        ),
        StudentArchitecture(
            "segformer_b0_stride4",
            "SegFormer B0 as published, first stage at quarter resolution: for large images",
            lambda names: _segformer(names, first_stride=4, hidden_sizes=_B0, decoder=256),
        ),
        StudentArchitecture(
            "segformer_b0_stride1",
            "SegFormer B0, first stage at full resolution: slow, for details of one pixel",
            lambda names: _segformer(names, first_stride=1, hidden_sizes=_B0, decoder=128),
        ),
        StudentArchitecture(
            "upernet_convnext_pico",
            "UperNet on a narrow ConvNeXt, first stage at half resolution",
            lambda names: _upernet(
                names, _convnext(patch=2, hidden_sizes=[32, 64, 128, 256], depths=[2, 2, 4, 2]), channels=64
            ),
        ),
        StudentArchitecture(
            "upernet_convnext_pico_stride1",
            "UperNet on a narrow ConvNeXt, first stage at full resolution: slow",
            lambda names: _upernet(
                names, _convnext(patch=1, hidden_sizes=[24, 48, 96, 192], depths=[2, 2, 4, 2]), channels=48
            ),
        ),
        StudentArchitecture(
            "upernet_convnext_pico_stride4",
            "UperNet on a narrow ConvNeXt, first stage at quarter resolution: for large images",
            lambda names: _upernet(
                names, _convnext(patch=4, hidden_sizes=[48, 96, 192, 384], depths=[2, 2, 6, 2]), channels=96
            ),
        ),
        StudentArchitecture(
            "upernet_resnet18",
            "UperNet on ResNet-18, first stage at quarter resolution: for large images",
            lambda names: _upernet(names, _resnet(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2]), channels=96),
        ),
    )
}
