"""`python -m workers.make_encoder OUT_DIR`: a frozen encoder, for images of any size, in the operator's folder.

`efficientnet_lite0` takes its weights from the package of the extra `encoders`; `vision_transformer` takes a local
`transformers` directory of a ViT, DINOv2 or DINOv3 (`--weights DIR`). The service registers it when it starts with the folder
that holds it (`label-factory up --generators`, LABEL_FACTORY_BUNDLED_GENERATORS_DIR), under OUT_DIR's name.
"""

import argparse
import sys
from pathlib import Path

from models.encoders import efficientnet_checkpoint
from models.encoders.image_encoder import EncoderFacts, ImageEncoder
from models.encoders.networks import NETWORKS, EncoderNetwork
from models.encoders.vision_transformer import VisionTransformer


def make_encoder(
    out_dir: Path, network: str, *, weights: Path | None = None, scale: float | None = None, licence: str = ""
) -> ImageEncoder:
    """Write an encoder. Raises ValueError and OSError with what is wrong."""
    if network == "vision_transformer":
        if weights is None:
            raise ValueError("--weights is needed: a local transformers directory of a ViT, DINOv2 or DINOv3")
        loaded: EncoderNetwork = VisionTransformer.load(weights)
        source = weights.name
    else:
        loaded = efficientnet_checkpoint.read_checkpoint(weights or efficientnet_checkpoint.shipped_checkpoint())
        source, licence = efficientnet_checkpoint.SOURCE, efficientnet_checkpoint.LICENCE
    encoder = ImageEncoder(loaded, EncoderFacts(network, input_scale=scale))
    encoder.save(out_dir, card={"network": network, "source": source, "licence": licence})
    return encoder


def main() -> None:
    """Make one; the reason on one line when it cannot be made."""
    parser = argparse.ArgumentParser(prog="workers.make_encoder", description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    parser.add_argument("--network", choices=sorted(NETWORKS), default="efficientnet_lite0")
    parser.add_argument("--weights", type=Path, help="vision_transformer: a transformers directory")
    parser.add_argument(
        "--input-scale",
        type=float,
        help="enlarge images by this before the network; left out: by the size of the images",
    )
    parser.add_argument("--licence", default="", help="of a transformer's weights, for the cards")
    options = parser.parse_args()
    try:
        encoder = make_encoder(
            options.out_dir,
            options.network,
            weights=options.weights,
            scale=options.input_scale,
            licence=options.licence,
        )
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    sys.stdout.write(f"{options.out_dir}: {options.network}, {encoder.num_parameters:,} weights\n")


if __name__ == "__main__":
    main()
