"""Sealing a dataset: decisions, weights, statistics and the manifest."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, func, select, update

from service import announcements, datasets, object_keys
from service.clock import read_clock
from service.errors import Conflict
from service.tables import Dataset, DatasetImage, DatasetShard
from service.unit_of_work import Work

MANIFEST_FORMAT = "label-factory-dataset/1"
BATCH = 5_000


@dataclass(frozen=True)
class ImageScores:
    """What is known of all images of a dataset, in index order; I images, N classes."""

    indexes: NDArray[np.int64]
    """I: index of each image."""
    uncertainties: NDArray[np.float64]
    """I: uncertainty of each image."""
    class_pixels: NDArray[np.int32]
    """I x N: pixels of each class."""
    shard_indexes: NDArray[np.int32]
    """I: which shard holds it."""


@dataclass(frozen=True)
class SealDecisions:
    """What the worker decided for every image, in the order of ImageScores."""

    kept: NDArray[np.bool_]
    """I: whether the image stays."""
    weights: NDArray[np.float64]
    """I: how often a student should see it; 0 for those that go."""


def image_scores(work: Work, dataset_id: str) -> ImageScores:
    """Scores of all images, read in batches. Raises Conflict when some go meanwhile."""
    columns = (
        DatasetImage.index,
        DatasetImage.uncertainty,
        DatasetImage.class_pixels,
        DatasetImage.shard_index,
    )
    of_dataset = DatasetImage.dataset_id == dataset_id
    count = work.session.execute(select(func.count()).select_from(DatasetImage).where(of_dataset)).scalar_one()
    scores = ImageScores(
        np.empty(count, np.int64),
        np.empty(count, np.float64),
        np.empty((count, len(datasets.get(work, dataset_id).classes)), np.int32),
        np.empty(count, np.int32),
    )
    query = select(*columns).where(of_dataset).order_by(DatasetImage.index).limit(count)
    read = 0
    for batch in work.session.execute(query.execution_options(yield_per=BATCH)).partitions():
        part = slice(read, read + len(batch))
        scores.indexes[part], scores.uncertainties[part] = [row[0] for row in batch], [row[1] for row in batch]
        scores.class_pixels[part], scores.shard_indexes[part] = [row[2] for row in batch], [row[3] for row in batch]
        read += len(batch)
    if read != count:
        raise Conflict(f"The dataset had {count} images, of which {count - read} went while they were read.")
    return scores


def seal(work: Work, dataset_id: str, decisions: SealDecisions, card: dict[str, Any]) -> Dataset:
    """Write decisions, statistics and manifest; part of the step's transaction. Raises NotFound, Conflict."""
    row = datasets.get(work, dataset_id)
    datasets.require_building(row)
    scores = image_scores(work, dataset_id)
    if not len(scores.indexes) == len(decisions.kept) == len(decisions.weights):
        raise Conflict(f"The decisions are for {len(decisions.kept)} images, the dataset has {len(scores.indexes)}.")
    _write_decisions(work, dataset_id, scores, decisions)
    shards = datasets.shards(work, dataset_id)
    row.num_images, row.num_kept = len(scores.indexes), int(decisions.kept.sum())
    row.card = card
    row.statistics = statistics(row, scores, decisions, shards)
    row.sealed_at = read_clock(work.session)
    row.state = "sealed"
    row.manifest_key = object_keys.dataset_manifest(dataset_id)
    content = manifest(row, shards, dropped_names(work, dataset_id))
    work.session.flush()
    work.storage.put_stream(row.manifest_key, io.BytesIO(content))
    announcements.dataset_sealed(work, row)
    return row


def _write_decisions(work: Work, dataset_id: str, scores: ImageScores, decisions: SealDecisions) -> None:
    change = (
        update(DatasetImage)
        .where(DatasetImage.dataset_id == dataset_id, DatasetImage.index == bindparam("at"))
        .values(kept=bindparam("is_kept"), weight=bindparam("new_weight"))
    )
    for start in range(0, len(scores.indexes), BATCH):
        part = slice(start, start + BATCH)
        columns = zip(scores.indexes[part], decisions.kept[part], decisions.weights[part], strict=True)
        rows = [{"at": int(at), "is_kept": bool(kept), "new_weight": float(weight)} for at, kept, weight in columns]
        work.session.connection().execute(change, rows)


def dropped_names(work: Work, dataset_id: str) -> list[str]:
    """Names of the images that do not stay, by index."""
    query = select(DatasetImage.name).where(DatasetImage.dataset_id == dataset_id, DatasetImage.kept.is_(False))
    return list(work.session.scalars(query.order_by(DatasetImage.index)))


def statistics(
    row: Dataset, scores: ImageScores, decisions: SealDecisions, shards: list[DatasetShard]
) -> dict[str, Any]:
    """Class balance of all and of kept images, spread of the uncertainty, images per pool."""
    length = max((shard.index for shard in shards), default=-1) + 1
    images = np.bincount(scores.shard_indexes, minlength=length)
    kept = np.bincount(scores.shard_indexes[decisions.kept], minlength=length)
    pools: dict[str, dict[str, int]] = {}
    for shard in shards:
        counted = pools.setdefault(shard.pool_kind, {"num_images": 0, "num_kept": 0})
        counted["num_images"] += int(images[shard.index])
        counted["num_kept"] += int(kept[shard.index])
    names = [str(item["name"]) for item in row.classes]
    levels = (0, 5, 25, 50, 75, 95, 100)
    spread = np.percentile(scores.uncertainties, levels) if len(scores.indexes) else np.zeros(len(levels))
    return {
        "classes": _balance(names, scores.class_pixels, decisions),
        "uncertainty": {str(level): float(value) for level, value in zip(levels, spread, strict=True)},
        "pools": pools,
    }


def _balance(names: list[str], class_pixels: NDArray[np.int32], decisions: SealDecisions) -> list[dict[str, Any]]:
    """Shares of all pixels, of those of kept images, and of those as students see them: sums over images, no copies."""
    pixels = class_pixels.sum(axis=0, dtype=np.int64)
    kept_pixels = class_pixels.sum(axis=0, dtype=np.int64, where=decisions.kept[:, None])
    weighted = np.einsum("i,in->n", decisions.weights, class_pixels)
    shares = [part / max(float(part.sum()), 1.0) for part in (pixels, kept_pixels, weighted)]
    return [
        {
            "name": name,
            "num_images": int((class_pixels[:, i] > 0).sum()),
            "num_kept": int(((class_pixels[:, i] > 0) & decisions.kept).sum()),
            "pixel_share": float(shares[0][i]),
            "kept_pixel_share": float(shares[1][i]),
            "weighted_pixel_share": float(shares[2][i]),
        }
        for i, name in enumerate(names)
    ]


def manifest(row: Dataset, shards: list[DatasetShard], dropped: list[str]) -> bytes:
    """The manifest as JSON: what the dataset is, every shard with its digest, and the names that were dropped."""
    document = {
        "format": MANIFEST_FORMAT,
        "dataset_id": row.id,
        "name": row.name,
        "classes": row.classes,
        "image_height": row.image_height,
        "image_width": row.image_width,
        "num_images": row.num_images,
        "num_kept": row.num_kept,
        "sealed_at": row.sealed_at.isoformat().replace("+00:00", "Z") if row.sealed_at else None,
        "shards": [
            {
                "index": shard.index,
                "file": f"{shard.index:05}.tar",
                "sha256": shard.sha256,
                "num_bytes": shard.num_bytes,
                "num_images": shard.num_images,
                "pool": shard.pool_kind,
            }
            for shard in shards
        ],
        "dropped": dropped,
        "card": row.card,
        "statistics": row.statistics,
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode()
