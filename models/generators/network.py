"""The denoiser's size: what a configuration names, and a sensible one for any image size."""

from dataclasses import dataclass, replace

from diffusers import UNet2DModel

LEVEL_CHANNELS = (48, 80, 128, 128, 160)
COARSEST_SIDE = 8
"""Levels are added until the shorter side of the coarsest one would fall below this."""
MOST_ATTENDED = 1024
"""Pixels of the coarsest level up to which it has attention."""


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the denoiser. Sensible for 64x64 images on two cores."""

    block_out_channels: tuple[int, ...] = (48, 80, 128)
    layers_per_block: int = 2
    patch_size: int = 2
    """Pixel-unshuffle factor between image and network."""
    attention: bool = True
    """Self-attention on the coarsest level."""

    def __post_init__(self) -> None:
        if not self.block_out_channels or any(c <= 0 or c % 8 for c in self.block_out_channels):
            raise ValueError(f"block_out_channels must be multiples of 8, got {self.block_out_channels}")
        if self.patch_size not in (1, 2, 4, 8):
            raise ValueError(f"patch_size must be 1, 2, 4 or 8, got {self.patch_size}")
        if not 1 <= self.layers_per_block <= 8:
            raise ValueError(f"layers_per_block must be 1 to 8, got {self.layers_per_block}")

    @property
    def unit(self) -> int:
        """Image pixels per pixel of the coarsest level: sides that it does not divide are padded."""
        return self.patch_size << (len(self.block_out_channels) - 1)


def build_unet(channels: int, image_hw: tuple[int, int], network: NetworkConfig) -> UNet2DModel:
    """The denoiser with random weights for images of a size that `unit` divides; attention only on the coarsest level."""
    levels = len(network.block_out_channels)
    down = ["DownBlock2D"] * levels
    up = ["UpBlock2D"] * levels
    if network.attention:
        down[-1], up[0] = "AttnDownBlock2D", "AttnUpBlock2D"
    return UNet2DModel(
        sample_size=(image_hw[0] // network.patch_size, image_hw[1] // network.patch_size),
        in_channels=channels,
        out_channels=channels,
        block_out_channels=network.block_out_channels,
        layers_per_block=network.layers_per_block,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        norm_num_groups=8,
        attention_head_dim=32 if all(c % 32 == 0 for c in network.block_out_channels[-1:]) else 8,
        add_attention=network.attention,
    )


def network_for(image_size: tuple[int, int, int]) -> NetworkConfig:
    """A network for images of (C, H, W): pixels folded by 2 (by 4 from 192 up, not at all up to 32), two to five levels."""
    shorter = min(image_size[1:])
    patch_size = 1 if shorter <= 32 else 2 if shorter < 192 else 4
    levels = 1
    while levels < len(LEVEL_CHANNELS) and shorter // (patch_size * 2**levels) >= COARSEST_SIDE:
        levels += 1
    network = NetworkConfig(LEVEL_CHANNELS[:levels], patch_size=patch_size)
    height, width = (side // network.unit for side in padded_size(image_size[1:], network.unit))
    return replace(network, attention=height * width <= MOST_ATTENDED)


def padded_size(image_hw: tuple[int, int], unit: int) -> tuple[int, int]:
    """Height and width, each the next multiple of `unit`."""
    return -(-image_hw[0] // unit) * unit, -(-image_hw[1] // unit) * unit
