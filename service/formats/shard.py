"""Shards: plain tar files that WebDataset tools read, the same bytes for the same samples.

One sample is a run of members with one key: `{key}.png` RGB image, `{key}.label.png` indexed 8-bit label map (255 =
ignore), `{key}.instances.png` 16-bit instance ids, `{key}.soft.bin` soft label, `{key}.json` metadata.
Member headers are POSIX ustar with a fixed time, owner and mode.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import orjson

from service.formats.annotated_images import Image_HWC, Instances_HW, Labels_HW
from service.formats.png import decode_plain_png, encode_image_png, encode_instances_png, encode_label_png

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
"""No dot: WebDataset ends the key at the first one."""

BLOCK = tarfile.BLOCKSIZE
MAX_MEMBER_BYTES = 1024**3


class ShardError(ValueError):
    """The tar is not a shard of this form."""


@dataclass(frozen=True)
class ShardSample:
    """One labelled (or plain) image of a shard."""

    key: str
    image_HWC: Image_HWC
    label_HW: Labels_HW | None = None
    instances_HW: Instances_HW | None = None
    soft: bytes | None = None
    """See `soft_labels`."""
    meta: dict[str, Any] = field(default_factory=dict)
    image_png: bytes | None = None
    """The image's file bytes as read from a shard, so that copying does not compress again; None when made in memory."""


@dataclass(frozen=True)
class MemberOffsets:
    """Byte ranges of one sample inside the tar, for reading an image without its shard."""

    image_offset: int
    image_bytes: int
    label_offset: int | None
    label_bytes: int | None
    members: dict[str, tuple[int, int]]
    """Extension (`png`, `label.png`, `instances.png`, `soft.bin`, `json`) -> (offset, bytes)."""


class ShardWriter:
    """Writes samples to a stream; `close()` (or leaving the `with`) ends the tar. Does not close the stream."""

    def __init__(self, fileobj: IO[bytes]) -> None:
        self._file = fileobj
        self._keys: set[str] = set()
        self.num_bytes = 0
        self._closed = False

    @property
    def num_images(self) -> int:
        return len(self._keys)

    def add(self, sample: ShardSample) -> MemberOffsets:
        """Appends one sample. Keys are `[A-Za-z0-9_-]`, unique in a shard."""
        if not KEY.fullmatch(sample.key) or sample.key in self._keys:
            raise ShardError(f"sample key {sample.key!r} is malformed or used twice")
        self._keys.add(sample.key)
        spans = {extension: self._write(f"{sample.key}.{extension}", data) for extension, data in _members(sample)}
        label_offset, label_bytes = spans.get("label.png", (None, None))
        return MemberOffsets(*spans["png"], label_offset, label_bytes, spans)

    def _write(self, name: str, data: bytes) -> tuple[int, int]:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.uname, info.gname = len(data), 0o644, "", ""
        self._put(info.tobuf(tarfile.USTAR_FORMAT))
        offset = self.num_bytes
        self._put(data)
        self._put(bytes(-len(data) % BLOCK))
        return offset, len(data)

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self.num_bytes += len(data)

    def close(self) -> None:
        if not self._closed:
            self._put(end_of_shard(self.num_bytes))
            self._closed = True

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *rest: object) -> None:
        if exc_type is None:
            self.close()


def end_of_shard(num_bytes: int) -> bytes:
    """What ends a tar of this many bytes; samples written piece by piece become a shard by it."""
    end = 2 * BLOCK
    return bytes(end + -(num_bytes + end) % tarfile.RECORDSIZE)


def _members(sample: ShardSample) -> Iterator[tuple[str, bytes]]:
    yield "png", sample.image_png if sample.image_png is not None else encode_image_png(sample.image_HWC)
    if sample.label_HW is not None:
        yield "label.png", encode_label_png(sample.label_HW)
    if sample.instances_HW is not None:
        yield "instances.png", encode_instances_png(sample.instances_HW)
    if sample.soft is not None:
        yield "soft.bin", sample.soft
    yield "json", orjson.dumps(sample.meta, option=orjson.OPT_SORT_KEYS)


def read_shard(fileobj: IO[bytes], *, skip: int = 0) -> Iterator[ShardSample]:
    """Streams the samples of a shard from the `skip`-th on; reads forward only, holds one sample, decodes none before.

    Raises `ShardError` for anything but a whole shard: tarfile would take a damaged header for the end.
    """
    key, members = "", dict[str, bytes]()
    while (header := _exactly(fileobj, BLOCK)) != bytes(BLOCK):
        name, size = _member_header(header)
        member_key, _, extension = name.partition(".")
        if member_key != key and members:
            if skip > 0:
                skip -= 1
            else:
                yield sample_from_members(key, members)
            members = {}
        key = member_key
        members[extension] = _exactly(fileobj, size)
        _exactly(fileobj, -size % BLOCK)
    if members and skip <= 0:
        yield sample_from_members(key, members)


def _member_header(header: bytes) -> tuple[str, int]:
    """(name, size) of a plain file whose name begins with a key."""
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.TarError, ValueError) as error:
        raise ShardError(f"a member has a damaged header: {error}") from error
    if not info.isreg() or not KEY.fullmatch(info.name.partition(".")[0]) or not 0 <= info.size <= MAX_MEMBER_BYTES:
        raise ShardError(f"member {info.name!r} is not a plain file of a sample")
    return info.name, info.size


def _exactly(fileobj: IO[bytes], size: int) -> bytes:
    """The next bytes, also from a stream that gives fewer at a time."""
    data = fileobj.read(size)
    while len(data) < size:
        more = fileobj.read(size - len(data))
        if not more:
            raise ShardError("the shard is cut short")
        data += more
    return data


def sample_from_members(key: str, members: dict[str, bytes]) -> ShardSample:
    """A sample from its members' bytes by extension, as `read_shard` or a range request found them."""
    if "png" not in members:
        raise ShardError(f"sample {key!r} has no image")
    label, instances = members.get("label.png"), members.get("instances.png")
    try:
        return ShardSample(
            key=key,
            image_HWC=decode_plain_png(members["png"]).astype(np.uint8, copy=False),
            label_HW=None if label is None else decode_plain_png(label).astype(np.uint8, copy=False),
            instances_HW=None if instances is None else decode_plain_png(instances).astype(np.uint16, copy=False),
            soft=members.get("soft.bin"),
            meta=orjson.loads(members["json"]) if "json" in members else {},
            image_png=members["png"],
        )
    except (OSError, SyntaxError, ValueError) as error:
        raise ShardError(f"sample {key!r} cannot be read: {error}") from error
