"""Pieces make the same shard as one writer."""

from __future__ import annotations

import io
from pathlib import Path

from service.formats.shard import ShardSample, ShardWriter, read_shard
from tests.tiny import disc
from workers.shard_pieces import PieceImage, ShardPieces


def images(count: int) -> list[PieceImage]:
    found = []
    for index in range(count):
        image_HWC, label_HW = disc(index)
        sample = ShardSample(f"{index:07}", image_HWC, label_HW, None, b"soft", {"seed": index})
        found.append(PieceImage(index, sample, index / 10, [1, 2]))
    return found


def test_pieces_are_the_bytes_of_one_shard(tmp_path: Path) -> None:
    pieces = ShardPieces(tmp_path)
    every = images(5)
    pieces.write(every[:2])
    pieces.write(every[2:4])
    assert ShardPieces(tmp_path).num_images == 4
    pieces.write(every[4:])
    whole = io.BytesIO()
    with ShardWriter(whole) as writer:
        offsets = [writer.add(image.sample) for image in every]
    assert b"".join(pieces.stream()) == whole.getvalue()
    rows = pieces.images()
    assert [row.index for row in rows] == [0, 1, 2, 3, 4]
    assert [(row.image_offset, row.label_offset) for row in rows] == [
        (offset.image_offset, offset.label_offset) for offset in offsets
    ]
    assert len(list(read_shard(io.BytesIO(b"".join(pieces.stream()))))) == 5


def test_a_piece_without_rows_does_not_count(tmp_path: Path) -> None:
    pieces = ShardPieces(tmp_path)
    pieces.write(images(2))
    (tmp_path / "0000000002.piece").write_bytes(b"half a pie")
    assert pieces.num_images == 2
    assert len(list(read_shard(io.BytesIO(b"".join(pieces.stream()))))) == 2
