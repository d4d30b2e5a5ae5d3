"""Generators: registered from an operator's folder or trained by a job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import delete as remove_rows
from sqlalchemy import or_, select, update

from service import announcements, deletion, events, object_keys
from service.errors import Conflict, Forbidden, Invalid, NotFound, fault
from service.generator_families import GENERATOR_FAMILIES, TRAINED_HERE
from service.ids import new_id
from service.job_spec import TrainGeneratorSpec
from service.lookup import must_find
from service.paging import Page, newest_first
from service.safetensors_header import count_parameters, require_finite
from service.tables import Generator, ImagePool, Job
from service.tenancy import may_change
from service.unit_of_work import Work

CARD_FILE = "generator.json"
SAMPLES_FILE = "samples.png"
# Weights only as safetensors: the other forms run code when they are opened.
ALLOWED_SUFFIXES = frozenset({".json", ".safetensors", ".png", ".md", ".txt"})

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class TrainedGenerator:
    """What a training step hands over; its files are stored already."""

    key_prefix: str
    """Folder of the diffusers directory in the object store, ending with a slash."""
    digest: str
    """SHA-256 over names and contents of all files."""
    num_bytes: int
    """Length of all files and of their zip."""
    num_parameters: int
    """Weights of the network."""
    image_size: tuple[int, int, int]
    """Channels, height, width."""
    card: dict[str, Any]
    """Data, recipe, losses, distances: what people should know."""


def get(work: Work, generator_id: str, *, deleted: bool = False) -> Generator:
    """One generator by id or name, a deleted one by its id if `deleted`. Raises NotFound, Gone."""
    row = find(work, generator_id)
    return row if row is not None else must_find(work, Generator, generator_id, "generator", deleted=deleted)


def find(work: Work, reference: str) -> Generator | None:
    """The generator with this id or name, or None; a workspace's own comes before one that all are offered."""
    known = or_(Generator.id == reference, Generator.name == reference)
    query = select(Generator).where(known, Generator.deleted_at.is_(None))
    query = query.order_by(Generator.id != reference, Generator.workspace_id.is_(None))
    return work.session.scalars(query.limit(1)).one_or_none()


def list_page(work: Work, *, state: str | None = None, after: str | None = None, limit: int = 50) -> Page[Generator]:
    """Generators, newest first."""
    query = select(Generator).where(Generator.deleted_at.is_(None))
    if state is not None:
        query = query.where(Generator.state == state)
    return newest_first(work, query, Generator.id, after=after, limit=limit)


def delete(work: Work, generator_id: str) -> None:
    """Delete a generator, which gives its name up.

    Raises NotFound, Gone, Forbidden for one that all are offered, Conflict while a job makes or uses it, or while the operator's folder offers it.
    """
    row = get(work, generator_id)
    if not may_change(row.workspace_id, work.session.workspace_id):
        raise Forbidden(f"The operator offers the generator {row.name} to all workspaces and alone may delete it.")
    folder = work.settings.bundled_generators_dir
    if row.job_id is None and folder is not None and (folder / row.name / CARD_FILE).is_file():
        raise Conflict(
            f"The operator's folder offers the generator {row.name}, and would again; remove it there first."
        )
    deletion.delete(work, row)


def file_key(row: Generator, name: str) -> str:
    """Object key of one file of a ready generator. Raises Conflict while it has none."""
    if row.key_prefix is None:
        raise Conflict(f"The generator {row.name} is {row.state}; it has no files yet.")
    return row.key_prefix + name


def with_sheets(work: Work, rows: Iterable[Generator]) -> set[str]:
    """Ids of the generators that have a sample sheet; a directory of the operator may come without one."""
    return {row.id for row in rows if row.key_prefix and work.storage.exists(row.key_prefix + SAMPLES_FILE)}


def archive_key(work: Work, row: Generator) -> str:
    """Object key of the zip of a generator that was trained here. Raises Conflict while it trains, NotFound for others."""
    key = object_keys.generator_archive(file_key(row, ""))
    if not work.storage.exists(key):
        raise NotFound(f"The generator {row.name} was registered from the operator's folder, which has its files.")
    return key


def open_for_job(work: Work, job: Job, spec: TrainGeneratorSpec) -> Generator:
    """Reserve the name for the generator that this job trains; a failed one, which has no files, gives its name up."""
    pool = work.session.get_one(ImagePool, spec.image_pool_id)
    family = TRAINED_HERE if spec.base_generator is None else get(work, spec.base_generator).family
    failed = (Generator.workspace_id == job.workspace_id, Generator.name == spec.name, Generator.state == "failed")
    work.session.execute(remove_rows(Generator).where(*failed))
    row = Generator(
        id=new_id("gen"),
        workspace_id=job.workspace_id,
        name=spec.name,
        state="training",
        family=family,
        image_height=pool.image_height,
        image_width=pool.image_width,
        image_channels=3,
        card={},
        job_id=job.id,
    )
    work.session.add(row)
    work.session.flush()
    return row


def record_trained(work: Work, generator_id: str, trained: TrainedGenerator) -> Generator:
    """Make a trained generator ready; call it in the transaction that records the step. Raises NotFound."""
    row = get(work, generator_id)
    if row.job_id is not None:
        events.lock_job(work, row.job_id)
    row.image_channels, row.image_height, row.image_width = trained.image_size
    row.key_prefix, row.digest, row.num_bytes = trained.key_prefix, trained.digest, trained.num_bytes
    row.num_parameters, row.card, row.state = trained.num_parameters, trained.card, "ready"
    work.session.flush()
    announcements.generator_ready(work, row)
    return row


def mark_failed(work: Work, job_id: str) -> None:
    """The job that trained it ended without a generator."""
    _set_state(work, job_id, "training", "failed")


def reopen_for_job(work: Work, job_id: str) -> None:
    """The job that trains it goes on. Raises Conflict when another job has taken the generator's name meanwhile."""
    if not _set_state(work, job_id, "failed", "training"):
        raise Conflict(f"Another job has taken the name of the generator that {job_id} was training; submit a new job.")


def _set_state(work: Work, job_id: str, old: str, new: str) -> bool:
    known = (Generator.job_id == job_id, Generator.state == old, Generator.deleted_at.is_(None))
    change = update(Generator).where(*known).values(state=new)
    return bool(work.session.execute(change.returning(Generator.id)).all())


def register_folder(work: Work, folder: Path) -> list[Generator]:
    """Register every generator directory in the operator's folder under its own name. Raises Invalid, Conflict."""
    found = sorted(path for path in folder.iterdir() if (path / CARD_FILE).is_file())
    return [register_bundled(work, path.name, path) for path in found]


def register_bundled(work: Work, name: str, directory: Path) -> Generator:
    """Copy a generator directory into the store and offer it to all workspaces; the same files again change nothing.

    Raises Invalid when files are missing, broken or of a kind that could run code, Conflict when other files have the name.
    """
    files = _allowed_files(directory)
    card = _read_card(directory)
    num_parameters = _count_parameters(directory, files)
    digest = _digest(directory, files)
    owner = Generator.workspace_id.is_not_distinct_from(work.session.workspace_id)
    known = work.session.scalars(
        select(Generator).where(Generator.name == name, owner, Generator.deleted_at.is_(None))
    ).one_or_none()
    if known is not None:
        if known.digest != digest:
            raise Conflict(f"There is already a generator {name} with other files; choose another name.")
        return known
    _require_finite(directory, files)
    generator_id = new_id("gen")
    prefix = object_keys.generator_prefix(generator_id, digest[:12])
    num_bytes = 0
    for path in files:
        with path.open("rb") as file:
            num_bytes += work.storage.put_stream(prefix + path.relative_to(directory).as_posix(), file).num_bytes
    channels, height, width = card["image_size"] or (3, None, None)
    row = Generator(
        id=generator_id,
        name=name,
        state="ready",
        family=card.get("family", TRAINED_HERE),
        image_height=height,
        image_width=width,
        image_channels=channels,
        num_parameters=num_parameters,
        digest=digest,
        num_bytes=num_bytes,
        card=card.get("card", card),
        key_prefix=prefix,
    )
    work.session.add(row)
    work.session.flush()
    return row


def directory_digest(directory: Path) -> str:
    """SHA-256 over the names and contents of all files of a generator directory. Raises Invalid."""
    return _digest(directory, _allowed_files(directory))


def _allowed_files(directory: Path) -> list[Path]:
    faults = []
    files = []
    for path in sorted(directory.rglob("*")):
        place = path.relative_to(directory).as_posix()
        if path.is_symlink():
            faults.append(fault(place, "is a link; only plain files are taken"))
        elif path.is_file() and path.suffix not in ALLOWED_SUFFIXES:
            faults.append(
                fault(place, f"is of a kind that is never opened here; only {', '.join(sorted(ALLOWED_SUFFIXES))}")
            )
        elif path.is_file():
            files.append(path)
    if faults:
        raise Invalid(f"The directory {directory.name} is not a generator that can be taken.", faults)
    return files


def _count_parameters(directory: Path, files: list[Path]) -> int:
    numbers = _of_weights(directory, files, count_parameters)
    if not numbers:
        message = "holds no weights as safetensors"
        raise Invalid(f"The directory {directory.name} is not a generator that can be taken.", [fault("unet", message)])
    return sum(numbers)


def _require_finite(directory: Path, files: list[Path]) -> None:
    _of_weights(directory, files, require_finite)


def _of_weights(directory: Path, files: list[Path], ask: Callable[[Path], Answer]) -> list[Answer]:
    """What every weight file answers; raises Invalid with all that are refused."""
    faults, answers = [], []
    for path in files:
        if path.suffix == ".safetensors":
            try:
                answers.append(ask(path))
            except ValueError as error:
                faults.append(fault(path.relative_to(directory).as_posix(), str(error)))
    if faults:
        raise Invalid(f"The directory {directory.name} is not a generator that can be taken.", faults)
    return answers


def _read_card(directory: Path) -> dict[str, Any]:
    """`generator.json`, whose image_size (channels, height, width) is needed and whose family must be one we have."""
    try:
        card = json.loads((directory / CARD_FILE).read_text("utf-8"))
        size = card["image_size"]
        sound = _any_size(card) or (
            len(size) == 3 and all(isinstance(side, int) and 0 < side <= 4_096 for side in size)
        )
    except (OSError, ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        message = "must be JSON with image_size [channels, height, width]"
        raise Invalid(f"The directory {directory.name} is not a generator.", [fault(CARD_FILE, message)])
    if (family := card.get("family", TRAINED_HERE)) not in GENERATOR_FAMILIES:
        message = f"names the family {family}; known are {', '.join(GENERATOR_FAMILIES)}"
        raise Invalid(f"The directory {directory.name} is of no known family.", [fault(CARD_FILE, message)])
    return dict(card)


def _any_size(card: dict[str, Any]) -> bool:
    """An encoder may leave open which images it sees."""
    return card["image_size"] is None and card.get("family") == "encoder"


def _digest(directory: Path, files: list[Path]) -> str:
    """SHA-256 over the names and contents of all files, in order."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(directory).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
