"""`python -m workers.make_weights OUT_DIR`: ImageNet weights of EfficientNet-Lite0 that students may start from.

They come from the package of the extra `encoders`. OUT_DIR lies in the folder of LABEL_FACTORY_WEIGHTS_DIR
(`label-factory up --weights`); a job then says `"student": {"architecture": "upernet_efficientnet_lite0",
"weights": "NAME"}` with OUT_DIR's name.
"""

import argparse
import sys
from pathlib import Path

from models.encoders.efficientnet_checkpoint import LICENCE, SOURCE, read_checkpoint, shipped_checkpoint
from models.students.efficientnet_backbone import ARCHITECTURE, save_backbone


def main() -> None:
    """Make them; the reason on one line when they cannot be made."""
    parser = argparse.ArgumentParser(prog="workers.make_weights", description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    out_dir: Path = parser.parse_args().out_dir
    try:
        save_backbone(read_checkpoint(shipped_checkpoint()), out_dir)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    sys.stdout.write(f"{out_dir}: for {ARCHITECTURE}; {SOURCE}, {LICENCE}\n")


if __name__ == "__main__":
    main()
