"""Which file of the zip an image record of a COCO document means."""

from __future__ import annotations

from pathlib import PurePosixPath

from service.formats.archive import Archive
from service.formats.archive_entries import Entry
from service.formats.coco_document import CocoDocument, CocoImage
from service.formats.image_files import OTHER_IMAGE_SUFFIXES, SUFFIXES
from service.formats.problems import ProblemList

NOT_COCO = frozenset({"classes.json", "pack.json", "validation.json", "manifest.json"})
LABEL_FOLDERS = frozenset({"masks", "instances"})

Link = tuple[CocoImage, Entry]


def find_documents(archive: Archive) -> list[Entry]:
    """JSON files that may be the COCO document; `annotations.json` is it whatever else there is."""
    if entry := archive.find("annotations.json"):
        return [entry]
    names = [e for e in archive.entries if e.suffix == ".json" and PurePosixPath(e.path).name not in NOT_COCO]
    return [e for e in names if PurePosixPath(e.path).name == "annotations.json"] or names


def image_entries(archive: Archive) -> list[Entry]:
    """Files that are meant as images, in archive order."""
    wanted = SUFFIXES | OTHER_IMAGE_SUFFIXES
    return [e for e in archive.entries if e.suffix in wanted and PurePosixPath(e.path).parts[0] not in LABEL_FOLDERS]


def link_images(archive: Archive, document: CocoDocument, problems: ProblemList) -> tuple[list[Link], int]:
    """Records with their files in archive order, and how many image files no record names.

    `file_name` is the path, or the end of one path, or `images/` + `file_name` when several paths end so.
    """
    entries = image_entries(archive)
    order = {entry.name: index for index, entry in enumerate(entries)}
    by_base: dict[str, list[Entry]] = {}
    for entry in entries:
        by_base.setdefault(PurePosixPath(entry.path).name, []).append(entry)
    links: dict[str, Link] = {}
    for record in document.images:
        named = _entry_of(record, by_base, problems)
        if named is None:
            continue
        if named.name in links:
            problems.add(f"{record.place}.file_name", f"names {named.name!r}, which another image names too")
        else:
            links[named.name] = (record, named)
    return sorted(links.values(), key=lambda link: order[link[1].name]), len(entries) - len(links)


def _entry_of(record: CocoImage, by_base: dict[str, list[Entry]], problems: ProblemList) -> Entry | None:
    name = record.file_name
    same = [e for e in by_base.get(PurePosixPath(name).name, []) if e.path == name or e.path.endswith("/" + name)]
    exact = [e for e in same if e.path in (name, f"images/{name}")]
    if len(same) == 1 or len(exact) == 1:
        return (exact or same)[0]
    place = f"{record.place}.file_name"
    problems.add(place, f"{name!r} fits several files of the archive" if same else f"{name!r} is not in the archive")
    return None
