"""`python -m workers.doctor`: the device that a worker started here would compute on. The other checks: service.doctor."""

import argparse
import sys

import torch

from service.doctor import Finding, tell
from workers.device import choose_device
from workers.memory import memory_in_use
from workers.presence import device_name


def device() -> Finding:
    """Compute a little on the device, and see what memory it has left."""
    advice = "Look at `nvidia-smi`; install the torch build that fits the driver, or hide the device (CUDA_VISIBLE_DEVICES=)."
    try:
        chosen = choose_device()
        matrix = torch.ones(64, 64, device=chosen)
        right = bool(torch.allclose(matrix @ matrix, torch.full_like(matrix, 64)))
        used, total = memory_in_use(chosen)
    except Exception as error:  # noqa: BLE001 - whatever torch raises is what was found
        return Finding("device", ok=False, found=str(error).partition("\n")[0][:300], what_to_do=advice)
    found = f"{device_name(chosen)}, torch {torch.__version__}, {(total - used) / 1e9:.1f} of {total / 1e9:.1f} GB free"
    return Finding("device", right, found, "" if right else "It computes wrongly: " + advice)


def main() -> None:
    """Look at the device; exit code 1 when it cannot be used."""
    parser = argparse.ArgumentParser(prog="workers.doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    finding = device()
    tell([finding], as_json=options.as_json)
    sys.exit(0 if finding.ok else 1)


if __name__ == "__main__":
    main()
