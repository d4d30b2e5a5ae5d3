"""Instance ids survive the way through contour channels and back."""

import numpy as np

from models.contracts import ClassSpec
from models.instances import (
    channel_classes,
    channel_names,
    decode_instances,
    encode_channels,
    fold_labels,
    fold_probabilities,
    instance_scores,
)

CLASSES = [
    ClassSpec("ground", background=True),
    ClassSpec("cell", thing=True),
    ClassSpec("wall"),
    ClassSpec("seed", thing=True),
]


def touching() -> tuple[np.ndarray, np.ndarray]:
    label, instances = np.zeros((24, 24), np.uint8), np.zeros((24, 24), np.uint16)
    label[4:20, 3:12], instances[4:20, 3:12] = 1, 7
    label[4:20, 12:21], instances[4:20, 12:21] = 1, 9
    label[0:2], label[22:, :3] = 2, 255
    return label, instances


def probabilities_of(channels: np.ndarray, count: int) -> np.ndarray:
    hot = np.eye(count, dtype=np.float32)[np.where(channels == 255, 0, channels)]
    return np.moveaxis(hot * 0.9 + 0.1 / count, -1, 0)


def test_outputs_are_classes_then_contours_of_things() -> None:
    assert channel_names(CLASSES) == ["ground", "cell", "wall", "seed", "cell contour", "seed contour"]
    assert channel_classes(CLASSES) == [0, 1, 2, 3, 1, 3]


def test_touching_objects_come_back_as_two() -> None:
    label, instances = touching()
    channels = encode_channels(label, instances, CLASSES)
    assert (channels == 255).sum() == (label == 255).sum()
    assert np.array_equal(fold_labels(channels, CLASSES), label)
    found = decode_instances(probabilities_of(channels, 6), CLASSES)
    assert len(np.unique(found)) == 3
    for instance in (7, 9):
        values, counts = np.unique(found[instances == instance], return_counts=True)
        assert counts.max() / counts.sum() > 0.99
        assert values[counts.argmax()] > 0


def test_scores_name_the_class() -> None:
    label, instances = touching()
    probabilities = probabilities_of(encode_channels(label, instances, CLASSES), 6)
    scores = instance_scores(probabilities, decode_instances(probabilities, CLASSES), CLASSES)
    assert sorted(scores) == [1, 2]
    assert all(index == 1 and score > 0.9 for index, score in scores.values())
    assert np.allclose(fold_probabilities(probabilities[None], CLASSES).sum(1), 1, atol=1e-5)


def test_an_image_without_things_has_no_instances() -> None:
    assert decode_instances(probabilities_of(np.full((8, 8), 2), 6), CLASSES).max() == 0


def test_one_object_filling_the_image_is_one() -> None:
    assert np.unique(decode_instances(probabilities_of(np.full((8, 8), 1), 6), CLASSES)).tolist() == [1]


def test_a_thin_object_without_interior_is_still_found() -> None:
    channels = np.zeros((12, 12), np.uint8)
    channels[5:7, 2:10] = 4
    assert np.unique(decode_instances(probabilities_of(channels, 6), CLASSES)).tolist() == [0, 1]
