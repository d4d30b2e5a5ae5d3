"""The network of StyleGAN2 (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN").

Axes: B batch, C channel, H height, W width, Z and D dimensions of z and w. Images are about [-1, 1], BCHW.
Skip architecture with demodulated convolutions (section 2.2 and figure 7), written anew in plain torch. Weights have the
names and scales of the authors' PyTorch code (`G_ema` of stylegan2-ada), so that its state dict, saved as safetensors,
is read as it is. Equalised learning rate: stored weights are of variance one and scaled when used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

FIRST_SIDE = 4
LEAKY_SLOPE = 0.2
LEAKY_GAIN = 2**0.5
MAPPING_RATE = 0.01
"""Learning rate of the mapping network against the rest: how much its weights are scaled down."""
EPSILON = 1e-8


@dataclass(frozen=True)
class StyleGAN2Shape:
    """Sizes of the network; all can be read from its weights."""

    z_dim: int
    w_dim: int
    mapping_layers: int
    image_channels: int
    channels: tuple[int, ...]
    """Channels of the maps of side 4, 8, 16, ..."""

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the maps, coarse to fine; the last is the image's."""
        return tuple(FIRST_SIDE * 2**i for i in range(len(self.channels)))

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> "StyleGAN2Shape":
        """The shape that a state dict was made for. Raises ValueError when it is not one of an unconditional StyleGAN2."""
        if "mapping.embed.weight" in weights:
            raise ValueError("the weights are of a StyleGAN2 that is told a class; only unconditional ones are read")
        try:
            channels: list[int] = []
            while (name := f"synthesis.b{FIRST_SIDE * 2 ** len(channels)}.conv1.weight") in weights:
                channels.append(len(weights[name]))
            layers = sum(name.startswith("mapping.fc") and name.endswith(".weight") for name in weights)
            w_dim, z_dim = len(weights[f"mapping.fc{layers - 1}.weight"]), weights["mapping.fc0.weight"].shape[1]
            image_channels = len(weights[f"synthesis.b{FIRST_SIDE}.torgb.weight"])
        except KeyError as error:
            raise ValueError(f"the weights are not those of a StyleGAN2 with skips: {error} is missing") from None
        return cls(int(z_dim), w_dim, layers, image_channels, tuple(channels))


class Linear(nn.Module):
    """A linear layer with equalised learning rate, perhaps followed by a leaky ReLU of unit gain."""

    def __init__(self, inputs: int, outputs: int, *, rate: float = 1.0, bias: float = 0.0, leaky: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self._gain, self._rate, self._leaky = rate * inputs**-0.5, rate, leaky

    def forward(self, x_BD: Tensor) -> Tensor:
        """BD -> BD."""
        x_BD = functional.linear(x_BD, self.weight * self._gain, self.bias * self._rate)
        return _leaky(x_BD) if self._leaky else x_BD


class MappingNetwork(nn.Module):
    """z -> w, and the mean w that truncation draws towards."""

    w_avg: Tensor

    def __init__(self, shape: StyleGAN2Shape) -> None:
        super().__init__()
        widths = [shape.z_dim, *[shape.w_dim] * shape.mapping_layers]
        self._layers = shape.mapping_layers
        for index in range(shape.mapping_layers):
            layer = Linear(widths[index], widths[index + 1], rate=MAPPING_RATE, leaky=True)
            self.add_module(f"fc{index}", layer)
        self.register_buffer("w_avg", torch.zeros(shape.w_dim))

    def forward(self, z_BZ: Tensor, truncation: float = 1.0) -> Tensor:
        """z -> w; below 1 the truncation draws w towards its mean."""
        w_BD = z_BZ * (z_BZ.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()
        for index in range(self._layers):
            w_BD = self.get_submodule(f"fc{index}")(w_BD)
        return self.w_avg.lerp(w_BD, truncation)


class ModulatedConvolution(nn.Module):
    """A convolution whose kernel is scaled per image by a style (section 2.2, equations 1 and 3)."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, kernel: int) -> None:
        super().__init__()
        self.affine = Linear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def modulated(self, x_BCHW: Tensor, styles_BC: Tensor, *, demodulate: bool, up: bool) -> Tensor:
        """Every image under its own kernel: one grouped convolution; with `up` a transposed one of stride 2."""
        batch, inputs, height, width = x_BCHW.shape
        kernels_BOIHW = self.weight[None] * styles_BC[:, None, :, None, None]
        if demodulate:
            kernels_BOIHW = kernels_BOIHW * (
                (kernels_BOIHW.square().sum(dim=(2, 3, 4), keepdim=True) + EPSILON).rsqrt()
            )
        joined_BHW = x_BCHW.reshape(1, batch * inputs, height, width)
        if up:
            kernels = kernels_BOIHW.transpose(1, 2).flatten(0, 1)
            out_BHW = functional.conv_transpose2d(joined_BHW, kernels, stride=2, groups=batch)
        else:
            padding = self.weight.shape[-1] // 2
            out_BHW = functional.conv2d(joined_BHW, kernels_BOIHW.flatten(0, 1), padding=padding, groups=batch)
        return out_BHW.unflatten(1, (batch, -1))[0]


class StyledConvolution(ModulatedConvolution):
    """A 3x3 modulated convolution, demodulated, with noise and a leaky ReLU; perhaps to twice the side."""

    resample_filter: Tensor

    def __init__(self, inputs: int, outputs: int, w_dim: int, *, up: bool) -> None:
        super().__init__(inputs, outputs, w_dim, 3)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("resample_filter", _resample_filter())
        self._up = up

    def forward(self, x_BCHW: Tensor, w_BD: Tensor, noise_B1HW: Tensor) -> Tensor:
        """Map and w -> map."""
        x_BCHW = self.modulated(x_BCHW, self.affine(w_BD), demodulate=True, up=self._up)
        if self._up:
            x_BCHW = _filtered(functional.pad(x_BCHW, (1, 1, 1, 1)), self.resample_filter)
        x_BCHW = x_BCHW + noise_B1HW * self.noise_strength
        return _leaky(x_BCHW + self.bias[:, None, None])


class ToImage(ModulatedConvolution):
    """A 1x1 modulated convolution to the image's channels, not demodulated."""

    def __init__(self, inputs: int, image_channels: int, w_dim: int) -> None:
        super().__init__(inputs, image_channels, w_dim, 1)

    def forward(self, x_BCHW: Tensor, w_BD: Tensor) -> Tensor:
        """Map and w -> what this side adds to the image."""
        styles_BC = self.affine(w_BD) * self.weight.shape[1] ** -0.5
        return self.modulated(x_BCHW, styles_BC, demodulate=False, up=False) + self.bias[:, None, None]


class Block(nn.Module):
    """The layers of one side; the first starts from a learned constant."""

    resample_filter: Tensor

    def __init__(self, inputs: int | None, outputs: int, shape: StyleGAN2Shape) -> None:
        super().__init__()
        if inputs is None:
            self.const = nn.Parameter(torch.randn(outputs, FIRST_SIDE, FIRST_SIDE))
        else:
            self.conv0 = StyledConvolution(inputs, outputs, shape.w_dim, up=True)
        self.conv1 = StyledConvolution(outputs, outputs, shape.w_dim, up=False)
        self.torgb = ToImage(outputs, shape.image_channels, shape.w_dim)
        self.register_buffer("resample_filter", _resample_filter())

    def forward(
        self, x_BCHW: Tensor | None, image_BCHW: Tensor | None, w_BD: Tensor, noises: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """(map, image) of the side before -> those of this side; `noises` B1HW, one per convolution."""
        start_BCHW = self.const.expand(len(w_BD), -1, -1, -1) if x_BCHW is None else self.conv0(x_BCHW, w_BD, noises[0])
        x_BCHW = self.conv1(start_BCHW, w_BD, noises[-1])
        added_BCHW = self.torgb(x_BCHW, w_BD)
        return x_BCHW, added_BCHW if image_BCHW is None else added_BCHW + _doubled(image_BCHW, self.resample_filter)


class Synthesis(nn.Module):
    """w -> image, side after side."""

    def __init__(self, shape: StyleGAN2Shape) -> None:
        super().__init__()
        self._shape = shape
        for before, side, channels in zip((None, *shape.channels), shape.sides, shape.channels, strict=False):
            self.add_module(f"b{side}", Block(before, channels, shape))

    def forward(self, w_BD: Tensor, noises: Mapping[int, Sequence[Tensor]]) -> Tensor:
        """w and the noise of each side -> images BCHW, not clamped."""
        x_BCHW: Tensor | None = None
        image_BCHW: Tensor | None = None
        for side in self._shape.sides:
            x_BCHW, image_BCHW = self.get_submodule(f"b{side}")(x_BCHW, image_BCHW, w_BD, noises[side])
        assert image_BCHW is not None
        return image_BCHW


class StyleGAN2Network(nn.Module):
    """Mapping and synthesis."""

    def __init__(self, shape: StyleGAN2Shape) -> None:
        super().__init__()
        self.shape = shape
        self.mapping = MappingNetwork(shape)
        self.synthesis = Synthesis(shape)


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, LEAKY_SLOPE) * LEAKY_GAIN


def _resample_filter() -> Tensor:
    taps_4 = torch.tensor([1.0, 3.0, 3.0, 1.0])
    filter_HW = torch.outer(taps_4, taps_4)
    return filter_HW / filter_HW.sum()


def _filtered(x_BCHW: Tensor, filter_HW: Tensor) -> Tensor:
    """Smoothed after zeros were put between the pixels, hence four times the gain."""
    channels = x_BCHW.shape[1]
    kernel = (filter_HW * 4).expand(channels, 1, -1, -1)
    return functional.conv2d(x_BCHW, kernel, groups=channels)


def _doubled(image_BCHW: Tensor, filter_HW: Tensor) -> Tensor:
    """Twice the side: zeros between the pixels, then smoothed."""
    batch, channels, height, width = image_BCHW.shape
    spread = image_BCHW.new_zeros(batch, channels, height, 2, width, 2)
    spread[:, :, :, 0, :, 0] = image_BCHW
    return _filtered(functional.pad(spread.reshape(batch, channels, 2 * height, 2 * width), (2, 1, 2, 1)), filter_HW)
