"""What a student sees: augmented batches from the few labels, from the dataset, or from both.

Axes: B batch, C channel, H, W.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from models.augmentation import AugmentConfig, augment
from models.contracts import IGNORE, ClassSpec
from models.examples import Example, to_float_images
from models.feature_distillation import FeatureBatch, FeatureTeacher
from models.instances import channel_classes, encode_channels
from models.training import Batches
from models.training_group import Group, own_seed

Batch = tuple[torch.Tensor, torch.Tensor]
WHOLE = slice(None)
"""All rows of a batch; a process of a group has its part of them."""


class SoftDataset(Protocol):
    """Indexable pairs (image uint8 HWC, channel probabilities float32 CHW); an all-zero pixel is ignored."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, np.ndarray]: ...


def one_hot_targets(examples: Sequence[Example], classes: Sequence[ClassSpec]) -> torch.Tensor:
    """Examples -> float BCHW distributions over the output channels; ignored pixels are all zero."""
    channels_BHW = np.stack([encode_channels(example.label_HW, example.instances_HW, classes) for example in examples])
    indices_BHW = torch.from_numpy(channels_BHW).long()
    count = len(channel_classes(classes))
    hot_BHWC = torch.nn.functional.one_hot(indices_BHW.clamp_max(count), count + 1)[..., :count]
    return (hot_BHWC * (indices_BHW != IGNORE)[..., None]).permute(0, 3, 1, 2).float().contiguous()


def hardened(target_BCHW: torch.Tensor) -> torch.Tensor:
    """Distributions -> one-hot of their most probable channel; ignored pixels (all zero) stay so."""
    hot_BCHW = torch.zeros_like(target_BCHW).scatter_(1, target_BCHW.argmax(dim=1, keepdim=True), 1.0)
    return hot_BCHW * (target_BCHW.sum(dim=1, keepdim=True) > 0)


class ExampleBatches:
    """Random augmented draws from the few labelled examples, kept in memory: of every batch as many as these `rows`."""

    def __init__(
        self,
        examples: Sequence[Example],
        classes: Sequence[ClassSpec],
        config: AugmentConfig,
        batch_size: int,
        device: torch.device,
        *,
        rows: slice = WHOLE,
    ) -> None:
        self.images_BCHW = to_float_images([example.image_HWC for example in examples])
        self.targets_BCHW = one_hot_targets(examples, classes)
        self.config, self.device = config, device
        self.batch_size = len(range(batch_size)[rows])

    def pick(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Indices of `count` examples; every example appears as evenly as `count` allows."""
        total = len(self.images_BCHW)
        return torch.cat([torch.randperm(total, generator=generator) for _ in range(-(-count // total))])[:count]

    def augmented(self, example_B: torch.Tensor, generator: torch.Generator) -> Batch:
        """Those examples with fresh augmentation."""
        return augment(self.images_BCHW[example_B], self.targets_BCHW[example_B], self.config, generator=generator)

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """`count` examples with fresh augmentation."""
        image_BCHW, target_BCHW = self.augmented(self.pick(count, generator), generator)
        return image_BCHW.to(self.device), target_BCHW.to(self.device)

    def __call__(self, generator: torch.Generator) -> Batch:
        """The batch of a step."""
        return self.draw(self.batch_size, generator)


class DistillationBatches:
    """Dataset images with their soft labels, and a share of the few labelled examples in every batch: of both as many as
    there are among these `rows`."""

    def __init__(
        self,
        dataset: SoftDataset,
        examples: ExampleBatches | None,
        config: AugmentConfig,
        *,
        batch_size: int,
        example_share: float,
        hard: bool = False,
        weights: Sequence[float] | None,
        device: torch.device,
        rows: slice = WHOLE,
    ) -> None:
        self.dataset, self.examples, self.config, self.device = dataset, examples, config, device
        self.hard = hard
        first_example = batch_size - (round(batch_size * example_share) if examples is not None else 0)
        self.num_images = sum(row < first_example for row in range(batch_size)[rows])
        self.num_examples = len(range(batch_size)[rows]) - self.num_images
        self.weights = torch.ones(len(dataset)) if weights is None else torch.tensor(list(weights), dtype=torch.float32)

    def __call__(self, generator: torch.Generator) -> Batch:
        """The batch of a step: images drawn by weight, with replacement, warped together with their soft labels."""
        if self.num_images == 0 and self.examples is not None:
            return self.examples.draw(self.num_examples, generator)
        picks = torch.multinomial(self.weights, self.num_images, replacement=True, generator=generator).tolist()
        pairs = [self.dataset[index] for index in picks]
        targets = torch.from_numpy(np.stack([np.asarray(soft_CHW, dtype=np.float32) for _, soft_CHW in pairs]))
        targets = hardened(targets) if self.hard else targets
        image_BCHW, target_BCHW = augment(
            to_float_images([image_HWC for image_HWC, _ in pairs]), targets, self.config, generator=generator
        )
        image_BCHW, target_BCHW = image_BCHW.to(self.device), target_BCHW.to(self.device)
        if self.examples is None or self.num_examples == 0:
            return image_BCHW, target_BCHW
        few_image_BCHW, few_target_BCHW = self.examples.draw(self.num_examples, generator)
        return torch.cat([image_BCHW, few_image_BCHW]), torch.cat([target_BCHW, few_target_BCHW])


class FeatureBatches:
    """The same batches with the generator's features of their images, computed as they are drawn and kept nowhere."""

    def __init__(self, batches: DistillationBatches, teacher: FeatureTeacher) -> None:
        self.batches, self.teacher = batches, teacher

    def __call__(self, generator: torch.Generator) -> FeatureBatch:
        """The batch of a step; the noise is drawn last, so that images and targets are those of `batches`."""
        image_BCHW, target_BCHW = self.batches(generator)
        return image_BCHW, target_BCHW, self.teacher.features(image_BCHW, generator)


def drawn_apart(batches: Batches, group: Group) -> Batches:
    """The same batches from random numbers that are this process's own; the leader's are those of the step."""
    return lambda generator: batches(torch.Generator().manual_seed(own_seed(generator.initial_seed(), group)))
