from __future__ import annotations

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from service.formats.png import encode_image_png
from service.formats.shard import ShardError, ShardSample, ShardWriter, read_shard, sample_from_members
from tests.service.formats.uploads import picture


def samples(count: int = 3) -> list[ShardSample]:
    random = np.random.default_rng(5)
    return [
        ShardSample(
            key=f"{n:06}",
            image_HWC=picture(n, 64, 48),
            label_HW=np.where(random.random((64, 48)) < 0.1, 255, random.integers(0, 5, (64, 48))).astype(np.uint8),
            instances_HW=random.integers(0, 60_000, (64, 48)).astype(np.uint16),
            soft=bytes([n, 1, 2]),
            meta={"name": f"{n}.png", "uncertainty": 0.25},
        )
        for n in range(count)
    ]


def written(many: list[ShardSample]) -> bytes:
    buffer = io.BytesIO()
    with ShardWriter(buffer) as writer:
        for sample in many:
            writer.add(sample)
    return buffer.getvalue()


def test_samples_survive() -> None:
    many = samples()
    for before, after in zip(many, read_shard(io.BytesIO(written(many))), strict=True):
        assert (after.key, after.soft, after.meta) == (before.key, before.soft, before.meta)
        assert np.array_equal(after.image_HWC, before.image_HWC)
        assert np.array_equal(after.label_HW, before.label_HW)  # type: ignore[arg-type]
        assert np.array_equal(after.instances_HW, before.instances_HW)  # type: ignore[arg-type]


def test_images_without_labels_survive() -> None:
    (after,) = read_shard(io.BytesIO(written([ShardSample("a", picture(1))])))
    assert after.label_HW is after.instances_HW is after.soft is None
    assert after.meta == {}


@pytest.mark.parametrize("skip", [0, 1, 2, 3, 4])
def test_skipped_samples_are_not_decoded(skip: int) -> None:
    many = samples()
    data = written(many)
    for sample in many[:skip]:
        data = data.replace(encode_image_png(sample.image_HWC)[:50], bytes(50))
    assert [after.key for after in read_shard(io.BytesIO(data), skip=skip)] == [before.key for before in many[skip:]]
    if skip:
        with pytest.raises(ShardError, match="cannot be read"):
            next(read_shard(io.BytesIO(data)))


def test_the_same_samples_are_the_same_bytes_also_when_copied() -> None:
    data = written(samples())
    assert data == written(samples()) == written(list(read_shard(io.BytesIO(data))))


def test_offsets_are_byte_ranges_of_the_members() -> None:
    buffer = io.BytesIO()
    many = samples()
    with ShardWriter(buffer) as writer:
        offsets = [writer.add(sample) for sample in many]
    data = buffer.getvalue()
    for sample, place in zip(many, offsets, strict=True):
        image = data[place.image_offset : place.image_offset + place.image_bytes]
        assert np.array_equal(np.array(Image.open(io.BytesIO(image))), sample.image_HWC)
        members = {name: data[at : at + size] for name, (at, size) in place.members.items()}
        assert place.members["label.png"] == (place.label_offset, place.label_bytes)
        assert np.array_equal(sample_from_members(sample.key, members).label_HW, sample.label_HW)  # type: ignore[arg-type]


def test_webdataset_and_tar_read_it(tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"
    path.write_bytes(written(samples()))
    read = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    assert [s["__key__"] for s in read] == ["000000", "000001", "000002"]
    assert {"png", "label.png", "instances.png", "soft.bin", "json"} <= read[0].keys()
    label = Image.open(io.BytesIO(read[0]["label.png"]))
    assert label.mode == "P"
    assert np.array_equal(np.array(label), samples()[0].label_HW)  # type: ignore[arg-type]
    listed = subprocess.run(["tar", "tf", path], capture_output=True, text=True, check=True).stdout.split()
    assert listed[:2] == ["000000.png", "000000.label.png"]


@pytest.mark.parametrize("key", ["", "a.b", "../a", "a/b", "x" * 81])
def test_keys_that_break_the_naming_are_refused(key: str) -> None:
    with pytest.raises(ShardError):
        written([ShardSample(key, picture(1))])


def test_a_key_comes_once() -> None:
    with pytest.raises(ShardError):
        written([ShardSample("a", picture(1))] * 2)


def test_damaged_shards_are_shard_errors() -> None:
    data = written(samples())
    second = data.index(b"000001.png\0")
    cut = [data[:700], data[:second], data[: second + 200], b"", b"x" * 2000]
    for damaged in [*cut, data.replace(b"000001.png\0", b"../../.png\0"), data.replace(b"IHDR", b"IHDX")]:
        with pytest.raises(ShardError):
            list(read_shard(io.BytesIO(damaged)))
