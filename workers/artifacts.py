"""Directories and rows <-> object storage: generators, heads, students, annotated images; the last loaded stay loaded."""

import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from models.contracts import ClassSpec, FeatureSource
from models.encoders.image_encoder import ImageEncoder
from models.examples import Example
from models.generators.families import FAMILIES
from models.heads.ensemble import load_labeller as read_labeller
from models.labelling import Labeller
from service import annotation_sets, generators, steps
from service.formats.annotated_images import LabelClass
from service.formats.shard import ShardSample, read_shard
from service.tables import Generator
from workers.context import StepContext
from workers.device import give_memory_back
from workers.label_origin import label_origin
from workers.memory import FreeMemory, free_memory, shortage
from workers.problems import StepError

Loaded = TypeVar("Loaded")

MAX_CACHED = 3
"""A generator, an encoder and the head on both: what the shards of one job share."""

_cache: dict[tuple[str, ...], Any] = {}


def cached(key: tuple[str, ...], load: Callable[[], Loaded]) -> Loaded:
    """What was loaded before in this process, or what `load` gives; the longest unused is dropped."""
    value: Loaded = _cache.pop(key) if key in _cache else load()
    _cache[key] = value
    while len(_cache) > MAX_CACHED:
        _cache.pop(next(iter(_cache)))
    return value


@dataclass(frozen=True)
class AnnotatedSet:
    """A few annotated images in memory."""

    id: str
    name: str
    sha256: str
    label_classes: tuple[LabelClass, ...]
    """As the formats know them."""
    examples: list[Example]

    @property
    def classes(self) -> list[ClassSpec]:
        """As models know them."""
        return class_specs(self.label_classes)


def class_specs(classes: Sequence[LabelClass]) -> list[ClassSpec]:
    """Classes without their looks."""
    return [ClassSpec(item.name, item.thing, item.background) for item in classes]


def load_annotated_set(context: StepContext, set_id: str) -> AnnotatedSet:
    """Bring an annotation set here."""
    with context.read() as work:
        row = annotation_sets.get(work, set_id)
    samples = stream_shard(context, row.key)
    examples = [Example(sample.image_HWC, _label(sample), sample.instances_HW) for sample in samples]
    classes = tuple(LabelClass.from_json(item) for item in row.classes)
    return AnnotatedSet(row.id, row.name, row.sha256, classes, examples)


def _label(sample: ShardSample) -> Any:
    if sample.label_HW is None:
        raise StepError("broken-input", f"The image {sample.key} has no label map.", "Upload the annotation set again.")
    return sample.label_HW


def stream_shard(context: StepContext, key: str, *, skip: int = 0) -> Iterator[ShardSample]:
    """The samples of a stored tar but the first `skip`, by way of a scratch file that is gone afterwards."""
    path = context.get_file(key, context.scratch / "shards" / key.replace("/", "_"))
    try:
        with path.open("rb") as file:
            yield from read_shard(file, skip=skip)
    finally:
        path.unlink(missing_ok=True)


def find_generator(context: StepContext) -> Generator | None:
    """The row of the generator that the labels come from, where they come from one."""
    rows = find_sources(context)
    return rows[0] if rows else None


def find_sources(context: StepContext) -> list[Generator]:
    """The rows of what gives the features that labels come from, deleted or not: the generator, then the encoder."""
    spec = label_origin(context).spec
    with context.read() as work:
        names = [name for name in (spec.generator, spec.encoder) if name is not None]
        return [generators.get(work, name, deleted=True) for name in names]


def load_feature_source(context: StepContext, *, free: FreeMemory = free_memory) -> FeatureSource | None:
    """What reads images first of the job's generator and encoder, on the device, as `load_sources` loads it; or nothing."""
    row = next((row for row in find_sources(context) if row.can_encode), None)
    return None if row is None else _load_source(context, row, free)


def load_sources(context: StepContext, *, free: FreeMemory = free_memory) -> list[FeatureSource]:
    """The job's generator and encoder on the device, loaded once for all shards that this process runs in a row.

    Raises StepError when one does not fit into the memory that `free` finds, before anything is fetched, or when its
    directory is not what its family reads.
    """
    return [_load_source(context, row, free) for row in find_sources(context)]


def _load_source(context: StepContext, row: Generator, free: FreeMemory) -> FeatureSource:
    family, prefix = FAMILIES[row.family], generators.file_key(row, "")
    size = _image_size(context)

    def load() -> FeatureSource:
        if shortage(row, context.device, free) is not None:
            _cache.clear()  # what an earlier job left would be dropped after this one: drop it before
            give_memory_back()
        if (short := shortage(row, context.device, free)) is not None:
            raise short
        folder = fetch_directory(context, prefix, context.scratch / "generators" / row.id)
        try:
            source = family.load(folder, context.device)
            return source.for_images(*size) if isinstance(source, ImageEncoder) else source
        except (ValueError, OSError) as error:
            hint = "Mend its directory, register it under another name and submit a new job."
            raise StepError("broken-generator", f"{row.name} cannot be loaded: {error}", hint) from error

    return cached(("generator", row.id, prefix, str(size), str(context.device)), load)


def _image_size(context: StepContext) -> tuple[int, int]:
    """Height and width of the images that are labelled."""
    with context.read() as work:
        few = annotation_sets.get(work, label_origin(context).spec.annotation_set_id, deleted=True)
    return few.image_height, few.image_width


def fetch_directory(context: StepContext, prefix: str, folder: Path) -> Path:
    """Every object below a prefix as files of a folder."""
    for key in context.factory.storage.list(prefix):
        context.get_file(key, folder / key.removeprefix(prefix))
    return folder


def store_directory(context: StepContext, folder: Path, prefix: str) -> int:
    """Every file of a folder as objects below a prefix; returns their bytes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return sum(context.put_file(prefix + path.relative_to(folder).as_posix(), path).num_bytes for path in files)


def zip_directory(folder: Path, path: Path) -> Path:
    """Zip a folder's files, stored and not deflated: weights do not shrink."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


def load_labeller(context: StepContext) -> Labeller:
    """What the label job's `fit_head` left, on its sources of features, loaded once like them."""
    key = head_output(context)["head_key"]
    sources = load_sources(context)

    def load() -> Labeller:
        return read_labeller(unpack(context, key, context.scratch / "head"), sources, context.device)

    return cached(("head", key, str(context.device)), load)


def head_output(context: StepContext) -> dict[str, Any]:
    """Output of the `fit_head` that the labels come from: key and card of the head."""
    return step_output(context, "fit_head", job_id=label_origin(context).job_id)


def step_output(context: StepContext, kind: str, *, job_id: str | None = None) -> dict[str, Any]:
    """The output of an earlier, single step of this job, or of another one."""
    with context.read() as work:
        found = steps.outputs(work, job_id or context.step.job_id, kind)
    if not found:
        raise StepError("missing-step", f"The job has no finished step {kind}.", "Retry the job from its start.")
    return found[0]


def pack(context: StepContext, folder: Path, key: str) -> None:
    """A folder as one stored tar."""
    path = context.scratch / "packed.tar"
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, file.name)
    context.put_file(key, path)
    path.unlink()


def unpack(context: StepContext, key: str, folder: Path) -> Path:
    """What `pack` stored, as a folder again."""
    path = context.get_file(key, context.scratch / "packed.tar")
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    path.unlink()
    return folder
