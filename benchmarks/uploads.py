"""What it costs to read uploads in a limited child instead of the service's own process.

`python -m benchmarks.uploads` packs images of noise, then reads and stores each zip as a tar both ways in turn: through
`service.reader_process`, with the start of the child, and by the same functions in this process.
"""

import argparse
import io
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.paired import Figure, from_pairs, in_turn, print_table
from service.formats.limits import UploadLimits
from service.reader_process import Reader
from service.settings import Settings
from service.upload_reading import write_pool_tar


def pack(path: Path, count: int, size: tuple[int, int], kind: str) -> None:
    """So many images of (width, height) in a zip."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            small = Image.fromarray(rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8))
            buffer = io.BytesIO()
            small.resize(size).save(buffer, kind)
            archive.writestr(f"{number:05}.{kind.lower()}", buffer.getvalue())


def cost(folder: Path, count: int, size: tuple[int, int], kind: str, pairs: int, at_most: float) -> Figure:
    """One row: a zip read in a child over the same in this process."""
    zip_path, tar = folder / "body.zip", folder / "images.tar"
    pack(zip_path, count, size, kind)
    reader = Reader(folder, Settings(data_dir=folder))
    write_pool_tar(zip_path, tar, UploadLimits())  # warms up
    timed = in_turn(
        lambda: reader.pool_tar(zip_path, tar), lambda: write_pool_tar(zip_path, tar, UploadLimits()), pairs
    )
    question = f"{count:,} {kind} of {size[0]}x{size[1]} read in a child / in the service"
    rates = " and ".join(f"{count / seconds:,.0f}" for seconds in timed.fastest)
    figure = from_pairs(question, timed)
    return Figure(question, figure.value, at_most=at_most, detail=f"{figure.detail}; {rates} images/s")


def figures(png: int = 1_500, jpeg: int = 200, pairs: int = 3) -> list[Figure]:
    """A row per kind of upload."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            cost(Path(folder), png, (64, 64), "PNG", pairs, at_most=1.5),
            cost(Path(folder), jpeg, (1024, 768), "JPEG", pairs, at_most=1.15),
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--png", type=int, default=1_500, help="small images")
    parser.add_argument("--jpeg", type=int, default=200, help="large images")
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args(arguments)
    print_table(figures(args.png, args.jpeg, args.pairs))


if __name__ == "__main__":
    main()
