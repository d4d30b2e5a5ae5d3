"""Sealing a dataset: decisions, weights, statistics and the manifest."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, select, update

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
    class_pixels: NDArray[np.int64]
    """I x N: pixels of each class."""
    shard_indexes: NDArray[np.int64]
    """I: which shard holds it."""


@dataclass(frozen=True)
class SealDecisions:
    """What the worker decided for every image, in the order of ImageScores."""

    kept: NDArray[np.bool_]
    """I: whether the image stays."""
    weights: NDArray[np.float64]
    """I: how often a student should see it; 0 for those that go."""


def image_scores(work: Work, dataset_id: str) -> ImageScores:
    """Scores of all images, read in batches."""
    columns = (
        DatasetImage.index,
        DatasetImage.uncertainty,
        DatasetImage.class_pixels,
        DatasetImage.shard_index,
    )
    query = select(*columns).where(DatasetImage.dataset_id == dataset_id).order_by(DatasetImage.index)
    num_classes = len(datasets.get(work, dataset_id).classes)
    indexes, uncertainties, shards = [], [], []
    pixels = [np.zeros((0, num_classes), np.int64)]
    for batch in work.session.execute(query.execution_options(yield_per=BATCH)).partitions():
        indexes += [row[0] for row in batch]
        uncertainties += [row[1] for row in batch]
        pixels.append(np.array([row[2] for row in batch], np.int64).reshape(len(batch), num_classes))
        shards += [row[3] for row in batch]
    return ImageScores(
        np.array(indexes, np.int64),
        np.array(uncertainties, np.float64),
        np.concatenate(pixels),
        np.array(shards, np.int64),
    )


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
    kinds = {shard.index: shard.pool_kind for shard in shards}
    pools: dict[str, dict[str, int]] = {}
    for shard_index, kept in zip(scores.shard_indexes.tolist(), decisions.kept.tolist(), strict=True):
        counted = pools.setdefault(kinds[shard_index], {"num_images": 0, "num_kept": 0})
        counted["num_images"] += 1
        counted["num_kept"] += int(kept)
    names = [str(item["name"]) for item in row.classes]
    levels = (0, 5, 25, 50, 75, 95, 100)
    spread = np.percentile(scores.uncertainties, levels) if len(scores.indexes) else np.zeros(len(levels))
    return {
        "classes": _balance(names, scores.class_pixels, decisions),
        "uncertainty": {str(level): float(value) for level, value in zip(levels, spread, strict=True)},
        "pools": pools,
    }


def _balance(names: list[str], class_pixels: NDArray[np.int64], decisions: SealDecisions) -> list[dict[str, Any]]:
    kept_pixels = class_pixels[decisions.kept]
    weighted = class_pixels * decisions.weights[:, None]
    totals = [max(float(part.sum()), 1.0) for part in (class_pixels, kept_pixels, weighted)]
    return [
        {
            "name": name,
            "num_images": int((class_pixels[:, i] > 0).sum()),
            "num_kept": int((kept_pixels[:, i] > 0).sum()),
            "pixel_share": float(class_pixels[:, i].sum() / totals[0]),
            "kept_pixel_share": float(kept_pixels[:, i].sum() / totals[1]),
            "weighted_pixel_share": float(weighted[:, i].sum() / totals[2]),
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
