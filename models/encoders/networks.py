"""The networks that a frozen encoder can be, by the name in its `generator.json`."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol, Self

from torch import Tensor

from models.contracts import Features
from models.encoders.efficientnet_lite import EfficientNetLite
from models.encoders.vision_transformer import VisionTransformer


class EncoderNetwork(Protocol):
    """A frozen `nn.Module` that shows its maps."""

    mean: tuple[float, ...]
    """Per colour, of images in [0, 1]: what is subtracted."""
    std: tuple[float, ...]
    """Per colour, of images in [0, 1]: what the rest is divided by."""
    channels: dict[str, int]
    """Every tap -> channels, coarse to fine."""
    strides: dict[str, int]
    """Every tap -> pixels of the network's input per feature pixel, in the same order."""

    @property
    def default_taps(self) -> tuple[str, ...]:
        """Taps that are worth reading, coarse to fine."""

    def input_scale(self, height: int, width: int) -> float:
        """How much images of this size are best enlarged."""

    def __call__(self, input_BCHW: Tensor, taps: Collection[str]) -> Features:
        """Normalised images -> those taps."""

    def for_inference(self) -> Self:
        """The same maps, computed as fast as they can be; itself where nothing can be gained."""

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """As `nn.Module.to`."""

    def parameters(self) -> Any:
        """As `nn.Module.parameters`."""

    def save(self, directory: Path) -> None:
        """Writes safetensors and JSON."""

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Reads what `save` wrote."""


NETWORKS: dict[str, type[EncoderNetwork]] = {
    "efficientnet_lite0": EfficientNetLite,
    "vision_transformer": VisionTransformer,
}
