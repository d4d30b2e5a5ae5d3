"""`python -m workers.make_encoder OUT_DIR --network efficientnet_lite0 --size 64x64`: a frozen encoder for the operator's folder.

`efficientnet_lite0` takes its weights from the package of the extra `encoders`; `vision_transformer` takes a local
`transformers` directory of a ViT, DINOv2 or DINOv3 (`--weights DIR`). The service registers it when it starts with the folder
that holds it (`label-factory up --generators`, LABEL_FACTORY_BUNDLED_GENERATORS_DIR), under OUT_DIR's name.
"""

import argparse
import re
import sys
from pathlib import Path

from models.encoders import efficientnet_checkpoint
from models.encoders.image_encoder import EncoderFacts, ImageEncoder
from models.encoders.networks import NETWORKS, EncoderNetwork
from models.encoders.vision_transformer import VisionTransformer

PATCH_GRID = 16
"""Patches along the shorter side that a vision transformer's input is enlarged to: what such networks were trained on."""


def make_encoder(
    out_dir: Path, network: str, size: tuple[int, int], *, weights: Path | None, scale: float | None, licence: str
) -> ImageEncoder:
    """Write an encoder of images of `size` (height, width). Raises ValueError and OSError with what is wrong."""
    if network == "vision_transformer":
        if weights is None:
            raise ValueError("--weights is needed: a local transformers directory of a ViT, DINOv2 or DINOv3")
        loaded: EncoderNetwork = VisionTransformer.load(weights)
        scale = scale or _scale(next(iter(loaded.strides.values())), size)
        source = weights.name
    else:
        loaded = efficientnet_checkpoint.read_checkpoint(weights or efficientnet_checkpoint.shipped_checkpoint())
        source, licence = efficientnet_checkpoint.SOURCE, efficientnet_checkpoint.LICENCE
    encoder = ImageEncoder(loaded, EncoderFacts(network, (3, *size), input_scale=scale or 1.0))
    encoder.save(out_dir, card={"network": network, "source": source, "licence": licence})
    return encoder


def _scale(patch: int, size: tuple[int, int]) -> float:
    """Such that the shorter side has PATCH_GRID patches or more and a patch covers 1, 2, 4, ... image pixels."""
    stride = 1
    while min(size) // (2 * stride) >= PATCH_GRID and not any(side % (2 * stride) for side in size):
        stride *= 2
    return patch / stride


def _size(text: str) -> tuple[int, int]:
    if (found := re.fullmatch(r"(\d+)x(\d+)", text)) is None:
        raise argparse.ArgumentTypeError(f"{text} is no HEIGHTxWIDTH such as 64x64")
    return int(found[1]), int(found[2])


def main() -> None:
    """Make one; the reason on one line when it cannot be made."""
    parser = argparse.ArgumentParser(prog="workers.make_encoder", description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    parser.add_argument("--network", choices=sorted(NETWORKS), default="efficientnet_lite0")
    parser.add_argument("--size", type=_size, required=True, metavar="HEIGHTxWIDTH", help="of every image")
    parser.add_argument("--weights", type=Path, help="vision_transformer: a transformers directory")
    parser.add_argument("--input-scale", type=float, help="enlarge images by this before the network")
    parser.add_argument("--licence", default="", help="of a transformer's weights, for the cards")
    options = parser.parse_args()
    try:
        encoder = make_encoder(
            options.out_dir,
            options.network,
            options.size,
            weights=options.weights,
            scale=options.input_scale,
            licence=options.licence,
        )
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    sys.stdout.write(f"{options.out_dir}: {options.network}, taps {encoder.tap_strides}\n")


if __name__ == "__main__":
    main()
