"""A student's directory <-> object storage: every file on its own, and a zip of all."""

from pathlib import Path

from service import object_keys
from service.students import StudentFile
from workers.artifacts import zip_directory
from workers.context import StepContext

ARCHIVE = "student.zip"


def store_student(context: StepContext, student_id: str, folder: Path) -> tuple[list[StudentFile], str]:
    """Store the files of a folder and their zip; returns the files and the zip's key."""
    token = context.step.token
    files = []
    for path in sorted(folder.iterdir()):
        key = object_keys.student_file(student_id, token, path.name)
        stored = context.put_file(key, path)
        files.append(StudentFile(path.name, key, stored.num_bytes, stored.sha256))
    archive_key = object_keys.student_file(student_id, token, ARCHIVE)
    context.put_file(archive_key, zip_directory(folder, context.scratch / ARCHIVE))
    return files, archive_key


def fetch_student(context: StepContext, files: list[dict[str, str]], folder: Path) -> Path:
    """A recorded student's files as a folder."""
    for file in files:
        context.get_file(file["key"], folder / file["name"])
    return folder
