"""What a label costs: labelled samples against unlabelled ones, and against DDPM-seg's way on the same network.

`python -m benchmarks.labelling` takes the portraits generator that ships; any directory of the same family will do.
Unlabelled images come from diffusers' own `DDIMPipeline` with the same network, scheduler, steps, batch and precision.
"""

import argparse
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import DDIMPipeline

from benchmarks.ddpm_seg import PAPER_SIDE, PixelEnsemble, stored_features
from benchmarks.pack_images import read_few
from benchmarks.paired import Figure, from_pairs, in_turn, print_table
from benchmarks.paper_scale import peak_at_paper_scale
from models.generators.unet_diffusion import UNetDiffusionGenerator
from models.heads.fusion_training import FusionTrainConfig, fit_fusion
from models.labelling import Labeller, label_synthesized
from models.peak_memory import PeakMemory
from models.precision import mixed_precision

CPU = torch.device("cpu")
PACK = Path("examples/portraits")
GENERATOR = PACK / "generators" / "portraits"
FIT_STEPS = 6
"""Memory is at its peak from the first step on."""

PAPER_IMAGES, PAPER_STEPS = 50, 3
"""Images for which DDPM-seg's authors name their memory; steps of our fit there."""

Way = Literal["fusion", "ddpm_seg"]


def labelled_against_plain(labeller: Labeller, generator: UNetDiffusionGenerator, steps: int, batch: int) -> Figure:
    """A labelled image's cost over an unlabelled one's."""
    pipeline = DDIMPipeline(generator.unet, generator.scheduler)
    pipeline.set_progress_bar_config(disable=True)

    def plain() -> object:
        with mixed_precision(CPU):
            return pipeline(batch_size=batch, num_inference_steps=steps, output_type="np")

    pairs = in_turn(lambda: label_synthesized(labeller, range(batch), num_steps=steps), plain, _pairs(steps))
    return from_pairs(f"labelled / unlabelled image, {steps} steps, batch {batch}", pairs, at_most=1.05)


def against_ddpm_seg(ours: Labeller, theirs: Labeller, steps: int, batch: int, at_least: float) -> Figure:
    """Our labelled images per second over DDPM-seg's."""
    pairs = in_turn(
        lambda: label_synthesized(theirs, range(batch), num_steps=steps),
        lambda: label_synthesized(ours, range(batch), num_steps=steps),
        _pairs(steps),
    )
    return from_pairs(f"our labelled images per second / DDPM-seg's, {steps} steps", pairs, at_least=at_least)


def _pairs(steps: int) -> int:
    """Short runs are repeated more often."""
    return min(5, max(3, 60 // steps))


def peak_of_fit(way: Way, pack: Path, directory: Path, num_images: int) -> int:
    """Bytes of the fit's peak, above what was held before, in a process of its own: memory that another fit freed
    would be taken again unseen."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_peak_here, way, pack, directory, num_images).result()


def _peak_here(way: Way, pack: Path, directory: Path, num_images: int) -> int:
    torch.set_num_threads(1)
    few, classes = read_few(pack)
    examples = (few * num_images)[:num_images]
    generator = UNetDiffusionGenerator.load(directory)
    generator.sample([0], num_steps=1)
    peak = PeakMemory(CPU)
    before = peak.num_bytes()
    if way == "ddpm_seg":
        PixelEnsemble(generator, classes).fit(examples, steps=FIT_STEPS)
    else:
        config = FusionTrainConfig(steps=FIT_STEPS, validate_from=num_images + 1)
        fit_fusion(generator, examples, classes, config, device=CPU)
    return peak.num_bytes() - before


def memory_of_fit(pack: Path, directory: Path, num_images: int) -> Figure:
    """Our peak over DDPM-seg's."""
    ours = peak_of_fit("fusion", pack, directory, num_images)
    theirs = peak_of_fit("ddpm_seg", pack, directory, num_images)
    detail = f"{ours / 1e6:.0f} MB and {theirs / 1e6:.0f} MB above what was held before"
    return Figure(
        f"peak memory of our fit / DDPM-seg's, {num_images} images of this generator", ours / theirs, detail=detail
    )


def memory_at_paper_scale(num_images: int = PAPER_IMAGES) -> Figure:
    """Our peak, measured, over what the published fit holds, computed, at the published size."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        ours = process.submit(peak_at_paper_scale, num_images, PAPER_STEPS).result()
    theirs = 2 * stored_features(num_images)
    detail = (
        f"{ours / 1e9:.2f} GB measured / {theirs / 1e9:.0f} GB computed: float32 features of all pixels and the copy that "
        f"indexing makes, {num_images} images of {PAPER_SIDE}x{PAPER_SIDE} (its README: about 210 GB)"
    )
    question = "peak memory of our fit / DDPM-seg's, at its published size"
    return Figure(question, ours / theirs, at_most=0.02, detail=detail)


def figures(
    pack: Path = PACK,
    directory: Path = GENERATOR,
    *,
    steps: Sequence[int] = (20, 25, 50),
    batch: int = 16,
    num_images: int = 20,
) -> list[Figure]:
    """All rows."""
    few, classes = read_few(pack)
    generator = UNetDiffusionGenerator.load(directory)
    config = FusionTrainConfig(steps=FIT_STEPS, validate_from=len(few) + 1)
    labeller = fit_fusion(generator, few, classes, config, device=CPU).labeller
    label_synthesized(labeller, range(batch), num_steps=1)
    rows = [labelled_against_plain(labeller, generator, count, batch) for count in steps]
    theirs = PixelEnsemble(UNetDiffusionGenerator.load(directory), classes)
    label_synthesized(theirs, range(batch), num_steps=1)
    wanted = {4: 3.0, 20: 1.3}
    rows += [against_ddpm_seg(labeller, theirs, count, batch, at_least) for count, at_least in wanted.items()]
    return [*rows, memory_of_fit(pack, directory, num_images), memory_at_paper_scale()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, default=PACK, help="folder with few.zip")
    parser.add_argument("--generator", type=Path, default=GENERATOR)
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 25, 50])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--images", type=int, default=20, help="annotated images in the comparison of memory")
    args: Any = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print_table(figures(args.pack, args.generator, steps=args.steps, batch=args.batch, num_images=args.images))


if __name__ == "__main__":
    main()
