"""Forward hooks that record decoder maps of a `UNet2DModel` during a pass that happens anyway.

Axes: B batch, C channel, H height, W width. Tap `up{i}.{j}` is the output of layer j of decoder block i (its attention,
if it has one, else its ResNet), before the block's upsampling (method.md 1.2: the index ambiguity), so taps of one
block share its resolution. Blocks run from coarse to fine.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from diffusers import UNet2DModel
from torch import Tensor, nn

from models.contracts import Features


class DecoderTaps:
    """Records the selected decoder maps while `recording` is open."""

    def __init__(self, unet: UNet2DModel) -> None:
        self.channels: dict[str, int] = {}
        """Every tap -> channels, coarse to fine."""
        self.strides: dict[str, int] = {}
        """Every tap -> latent pixels per feature pixel."""
        self._selected: frozenset[str] = frozenset()
        self._sink: Features | None = None
        last = len(unet.up_blocks) - 1
        for i, block in enumerate(unet.up_blocks):
            attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
            for j, (resnet, attention) in enumerate(zip(block.resnets, attentions, strict=True)):
                name = f"up{i}.{j}"
                self.channels[name] = resnet.out_channels
                self.strides[name] = 2 ** (last - i)
                self._hook(attention or resnet, name)

    def select(self, names: Sequence[str]) -> None:
        """Only these taps are recorded from now on."""
        self._selected = frozenset(names)

    @contextmanager
    def recording(self, active: bool) -> Iterator[Features]:
        """Yields a dict that fills with the selected maps (tap name -> BCHW) of passes made inside."""
        sink: Features = {}
        self._sink = sink if active else None
        try:
            yield sink
        finally:
            self._sink = None

    def _hook(self, module: nn.Module, name: str) -> None:
        def record(_module: nn.Module, _inputs: tuple[object, ...], output_BCHW: Tensor) -> None:
            if self._sink is not None and name in self._selected:
                self._sink[name] = output_BCHW

        module.register_forward_hook(record)
