"""Forward hooks that record feature maps of a network during a pass that happens anyway.

Axes: B batch, C channel, H height, W width, T tokens. Three kinds of network are tapped:
`up{i}.{j}` of a UNet is the output of layer j of decoder block i (its attention, if it has one, else its ResNet), before
the block's upsampling (method.md 1.2: the index ambiguity), so taps of one block share its resolution. Blocks run from
coarse to fine.
`block{i}` of a transformer is the output of block i, its tokens laid out again as the image's patches.
`b{resolution}` of a StyleGAN2 is the output of the last convolution of that resolution's block.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from models.contracts import Features


def _as_it_is(output: Any) -> Tensor:
    """Some blocks answer with a tuple of one."""
    map_BCHW: Tensor = output[0] if isinstance(output, tuple) else output
    return map_BCHW


@dataclass(frozen=True)
class Tap:
    """One place where a network is read."""

    module: nn.Module
    """Its output is recorded."""
    channels: int
    stride: int
    """Pixels of what the network sees or draws per feature pixel."""
    read: Callable[[Any], Tensor] = _as_it_is
    """The module's output -> map BCHW."""


class _PassEndedError(Exception):
    """The last map that is wanted has been computed."""


class Taps:
    """Records the selected maps while `recording` is open."""

    def __init__(self, taps: Mapping[str, Tap]) -> None:
        self.channels = {name: tap.channels for name, tap in taps.items()}
        """Every tap -> channels, coarse to fine, which is the order in which a pass computes them."""
        self.strides = {name: tap.stride for name, tap in taps.items()}
        """Every tap -> pixels of the network per feature pixel."""
        self._selected: frozenset[str] = frozenset()
        self._sink: Features | None = None
        self._end: str | None = None
        for name, tap in taps.items():
            self._hook(name, tap)

    def select(self, names: Sequence[str]) -> None:
        """Only these taps are recorded from now on."""
        self._selected = frozenset(names)

    @contextmanager
    def recording(self, active: bool = True) -> Iterator[Features]:
        """Yields a dict that fills with the selected maps (tap name -> BCHW) of passes made inside."""
        sink: Features = {}
        self._sink = sink if active else None
        try:
            yield sink
        finally:
            self._sink = None

    @contextmanager
    def recording_only(self) -> Iterator[Features]:
        """The same, and a pass made inside ends, with the context, at the last selected map: nobody needs its answer."""
        self._end = [name for name in self.channels if name in self._selected][-1]
        try:
            with suppress(_PassEndedError), self.recording() as sink:
                yield sink
        finally:
            self._end = None

    def _hook(self, name: str, tap: Tap) -> None:
        def record(_module: nn.Module, _inputs: tuple[object, ...], output: Any) -> None:
            if self._sink is not None and name in self._selected:
                self._sink[name] = tap.read(output)
                if name == self._end:
                    raise _PassEndedError

        tap.module.register_forward_hook(record)


def decoder_taps(unet: nn.Module) -> dict[str, Tap]:
    """Every layer of every decoder block of a diffusers UNet (`UNet2DModel`, `UNet2DConditionModel`), coarse to fine."""
    taps = {}
    blocks: Any = unet.up_blocks
    last = len(blocks) - 1
    for i, block in enumerate(blocks):
        attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
        for j, (resnet, attention) in enumerate(zip(block.resnets, attentions, strict=True)):
            taps[f"up{i}.{j}"] = Tap(attention or resnet, resnet.out_channels, 2 ** (last - i))
    return taps


def default_decoder_taps(unet: nn.Module) -> list[str]:
    """The last map of every decoder block before its upsampling, and the first of the finest block.

    What follows in the finest block turns into the noise that the network predicts and says little of the image's
    contents (docs/decisions/0005).
    """
    blocks: Any = unet.up_blocks
    last = len(blocks) - 1
    return [*(f"up{i}.{len(block.resnets) - 1}" for i, block in enumerate(blocks) if i < last), f"up{last}.0"]


def block_taps(blocks: Sequence[nn.Module], channels: int, stride: int, grid: tuple[int, int]) -> dict[str, Tap]:
    """Every block of a transformer over a grid (rows, columns) of patches of `stride` pixels; its maps are BTC."""

    def laid_out(output: Any) -> Tensor:
        return _as_it_is(output).transpose(1, 2).unflatten(2, grid)

    return {f"block{i}": Tap(block, channels, stride, laid_out) for i, block in enumerate(blocks)}
