"""Every object key is spelled here, once, and read back here: `parse` knows every kind that a function below writes."""

from __future__ import annotations

import re
from dataclasses import dataclass

STORE_MARKER = "label-factory.json"
"""Written when a service is prepared: proves that the store takes writes, and makes the bucket where stores do that."""

STORE_OWNER = "label-factory-database.json"
"""Says which database has the rows of these objects; without that row nothing here is taken for an orphan."""


def store_probe(probe_id: str) -> str:
    """Written, read and removed to see whether the store works."""
    return f"probes/{probe_id}"


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


def step_prefix(step_id: str) -> str:
    """Folder of all that a step's attempts have left; ends with a slash."""
    return f"steps/{step_id}/"


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


def is_step_file(key: str) -> bool:
    """Whether a step left this, such as a checkpoint, which its next one supersedes."""
    return key.startswith("steps/")


@dataclass(frozen=True)
class ObjectKey:
    """A key, read back."""

    key: str
    """The key itself."""
    kind: str
    """Name of the function above that spells it; `store_marker` for the markers."""
    owner_id: str
    """Id of the row that owns it; empty for the markers."""
    token: str
    """Attempt that wrote it; empty where a kind has none."""


_PATTERNS = {
    "store_marker": re.compile("|".join(map(re.escape, (STORE_MARKER, STORE_OWNER)))),
    "store_probe": re.compile(r"probes/(?P<id>[^/]+)"),
    "generator_prefix": re.compile(r"generators/(?P<id>[^/]+)/(?P<token>[^/]+)/.+"),
    "generator_archive": re.compile(r"generators/(?P<id>[^/]+)/(?P<token>[^/]+)\.zip"),
    "pool_part": re.compile(r"pools/(?P<id>[^/]+)/\d{5,}-[^/]+\.tar"),
    "annotation_set": re.compile(r"annotation_sets/(?P<id>[^/]+)/[^/]+\.tar"),
    "annotation_index": re.compile(r"annotation_sets/(?P<id>[^/]+)/[^/]+\.index\.json"),
    "step_file": re.compile(r"steps/(?P<id>[^/]+)/(?P<token>\d+)-.+"),
    "dataset_shard": re.compile(r"datasets/(?P<id>[^/]+)/shards/\d{5,}-(?P<token>\d+)\.tar"),
    "dataset_manifest": re.compile(r"datasets/(?P<id>[^/]+)/manifest\.json"),
    "dataset_export": re.compile(r"datasets/(?P<id>[^/]+)/exports/[^/]+-(?P<token>\d+)\.zip"),
    "student_file": re.compile(r"students/(?P<id>[^/]+)/(?P<token>\d+)/.+"),
}
KINDS = tuple(_PATTERNS)
"""All kinds of keys: one for every function here that spells one, and the markers."""


def parse(key: str) -> ObjectKey | None:
    """What a key says, or None for one that nothing here spells."""
    for kind, pattern in _PATTERNS.items():
        found = pattern.fullmatch(key)
        if found is not None:
            groups = found.groupdict()
            return ObjectKey(key, kind, groups.get("id", ""), groups.get("token", ""))
    return None


def download_name(key: str) -> str:
    """What a downloaded object is called: letters, digits and `._-` alone, without the attempt that wrote it."""
    found = parse(key)
    name = key.rpartition("/")[2]
    if found is None:
        return name
    stem, _, ending = name.rpartition(".")
    match found.kind:
        case "dataset_export":
            return f"{found.owner_id}-{stem.rpartition('-')[0]}.{ending}"
        case "dataset_manifest":
            return f"{found.owner_id}-{name}"
        case "dataset_shard":
            return f"{stem.rpartition('-')[0]}.{ending}"
        case "generator_archive":
            return f"{found.owner_id}.{ending}"
        case "student_file" if name == "student.zip":
            return f"{found.owner_id}.{ending}"
    return name
