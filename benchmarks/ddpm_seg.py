"""DDPM-seg's way to labels (Baranchuk et al. 2022; DatasetDDPM for sampled images), to be measured against.

As published: an image is finished, noised again to three timesteps and read by one whole pass of the network at each;
all maps are upsampled to the image's size and concatenated; ten perceptrons D-128-32-C see single pixels. To fit them,
the features of all pixels of all images are kept in memory. Network, taps and precision are the generator's.
Axes: B batch, C channel, H, W, K members, D features of a pixel, R rows (pixels of all images).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.contracts import IGNORE, ClassSpec
from models.examples import Example, to_float_images, to_uint8_images
from models.generators.unet_diffusion import CLEAN_TAP, UNetDiffusionGenerator
from models.precision import mixed_precision

TIMESTEPS = (50, 150, 250)
MEMBERS = 10
PIXELS = 64
"""Pixels of a training batch."""
PAPER_FEATURES, PAPER_SIDE = 8448, 256
"""What the published code reads of a 256x256 network: five maps at three timesteps."""


class PixelEnsemble:
    """Implements `models.labelling.Labeller`, with weights that were never trained: they cost the same."""

    kind = "ddpm_seg"
    title = "DDPM-seg"

    def __init__(self, generator: UNetDiffusionGenerator, classes: Sequence[ClassSpec]) -> None:
        self.generator, self.classes = generator, tuple(classes)
        # The guess of the clean image needs the whole network, as its published passes are.
        generator.select_taps([*generator.tap_channels, CLEAN_TAP])
        self.taps = [name for name in generator.tap_channels if name != CLEAN_TAP]
        width = len(TIMESTEPS) * sum(generator.tap_channels[name] for name in self.taps)
        self.networks = [_perceptron(width, len(classes)).eval() for _ in range(MEMBERS)]

    def features(self, image_BCHW: Tensor, seeds: Sequence[int]) -> Tensor:
        """Every pixel's features, BDHW at the image's size."""
        maps = []
        for timestep in TIMESTEPS:
            read = self.generator.encode(image_BCHW, tap_timestep=timestep, seeds=seeds)
            maps += [
                functional.interpolate(read[name], size=image_BCHW.shape[2:], mode="bilinear") for name in self.taps
            ]
        return torch.cat(maps, dim=1)

    def members(self, images_BHWC: np.ndarray, *, seeds: Sequence[int]) -> Tensor:
        """Distributions KBCHW."""
        feature_BDHW = self.features(to_float_images(images_BHWC), seeds)
        answers = []
        for feature_DHW in feature_BDHW:
            row_RD = feature_DHW.flatten(1).T
            with mixed_precision(row_RD.device):
                logits_KRC = torch.stack([network(row_RD) for network in self.networks])
            answers.append(logits_KRC.float().softmax(dim=2).mT.unflatten(2, feature_DHW.shape[1:]))
        return torch.stack(answers, dim=1)

    def sample(self, seeds: Sequence[int], *, num_steps: int) -> tuple[np.ndarray, Tensor]:
        """Images are finished first, and then read like real ones."""
        images_BHWC = to_uint8_images(self.generator.sample(seeds, num_steps=num_steps)[0])
        return images_BHWC, self.members(images_BHWC, seeds=seeds)

    def save(self, directory: Path) -> None:
        """Nothing was learned."""
        raise NotImplementedError(f"{directory}: an ensemble without training is not stored")

    def fit(self, examples: Sequence[Example], *, steps: int) -> None:
        """As published: features of all pixels first, then batches of 64 of them, one network after another."""
        height, width = examples[0].label_HW.shape
        depth = self.networks[0][0].in_features
        store_BDHW = torch.zeros(len(examples), depth, height, width)
        for index, example in enumerate(examples):
            with torch.inference_mode():
                store_BDHW[index] = self.features(to_float_images([example.image_HWC]), [index])[0]
        row_RD = store_BDHW.permute(1, 0, 2, 3).reshape(depth, -1).T
        del store_BDHW
        label_R = torch.from_numpy(np.stack([example.label_HW for example in examples])).long().flatten()
        row_RD, label_R = row_RD[label_R != IGNORE], label_R[label_R != IGNORE]
        for network in self.networks:
            optimizer = torch.optim.Adam(network.train().parameters(), lr=1e-3)
            for pick_P in torch.randperm(len(label_R))[: steps * PIXELS].split(PIXELS):
                optimizer.zero_grad()
                functional.cross_entropy(network(row_RD[pick_P]), label_R[pick_P]).backward()
                optimizer.step()
            network.eval()


def stored_features(num_images: int) -> int:
    """Bytes of the float32 features that the published fit keeps of so many images of the published size."""
    return num_images * PAPER_SIDE**2 * PAPER_FEATURES * 4


def _perceptron(num_features: int, num_outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(num_features, 128),
        nn.ReLU(),
        nn.BatchNorm1d(128),
        nn.Linear(128, 32),
        nn.ReLU(),
        nn.BatchNorm1d(32),
        nn.Linear(32, num_outputs),
    )
