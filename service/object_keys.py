"""Every object key is spelled here, once."""

from __future__ import annotations

STORE_MARKER = "label-factory.json"
"""Written when a service is prepared: proves that the store takes writes, and makes the bucket where stores do that."""


def generator_prefix(generator_id: str, token: str | int) -> str:
    """Folder of a generator's diffusers directory; ends with a slash."""
    return f"generators/{generator_id}/{token}/"


def generator_archive(prefix: str) -> str:
    """Zip of the whole directory, beside it."""
    return prefix.rstrip("/") + ".zip"


def pool_part(pool_id: str, index: int, sha256: str) -> str:
    """One tar of PNGs of an image pool."""
    return f"pools/{pool_id}/{index:05}-{sha256}.tar"


def annotation_set(annotation_set_id: str, sha256: str) -> str:
    """The tar of an annotation set."""
    return f"annotation_sets/{annotation_set_id}/{sha256}.tar"


def annotation_index(tar_key: str) -> str:
    """Where each image lies in an annotation set's tar."""
    return tar_key.removesuffix(".tar") + ".index.json"


def step_file(step_id: str, token: int, name: str) -> str:
    """Whatever a step leaves for later: checkpoints, heads, sample sheets, curves."""
    return f"steps/{step_id}/{token}-{name}"


def dataset_shard(dataset_id: str, index: int, token: int) -> str:
    """One tar of labelled images."""
    return f"datasets/{dataset_id}/shards/{index:05}-{token}.tar"


def dataset_manifest(dataset_id: str) -> str:
    """The manifest of a sealed dataset."""
    return f"datasets/{dataset_id}/manifest.json"


def dataset_export(dataset_id: str, export_format: str, token: int) -> str:
    """A dataset in a downloadable format."""
    return f"datasets/{dataset_id}/exports/{export_format}-{token}.zip"


def student_file(student_id: str, token: int, name: str) -> str:
    """One file of a student's directory; the zip of all is named `student.zip`."""
    return f"students/{student_id}/{token}/{name}"
