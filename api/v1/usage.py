"""What is stored and what goes on, beside the limits of the workspace and of the calling key."""

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from api.dependencies import ReadDep
from api.errors import problems
from api.v1.answer import Answer
from service import usage

router = APIRouter(prefix="/v1/usage", tags=["operations"])


class KeyUsageAnswer(Answer):
    """The part of the calling key: what it brought, and what the jobs made that it asked for."""

    id: str
    name: str
    num_bytes: dict[str, int] = Field(description="Stored bytes of each noun, and of exports on their own")
    total_bytes: int
    max_bytes: int | None = Field(
        description="Most that may be stored of it, else 413; null: the workspace's limit alone"
    )
    num_active_jobs: int = Field(description="Its jobs that are queued, running or cancelling")
    max_active_jobs: int | None = Field(
        description="Most of them at a time, else 429; null: the workspace's limit alone"
    )


class UsageAnswer(Answer):
    """Counted from what is recorded; files of steps (heads, checkpoints, pictures) are left out."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "num_bytes": {
                    "image_pools": 9_800_000,
                    "annotation_sets": 62_000,
                    "generators": 13_700_000,
                    "datasets": 48_210_433,
                    "exports": 21_007_312,
                    "students": 30_100_000,
                },
                "total_bytes": 122_879_745,
                "max_bytes": 50_000_000_000,
                "num_active_jobs": 1,
                "max_active_jobs": 1_000,
                "max_job_images": 10_000_000,
                "key": {
                    "id": "key_01kaxv5t8q3m6n9p2r4s7t0v1w",
                    "name": "nightly upload",
                    "num_bytes": {
                        "image_pools": 9_800_000,
                        "annotation_sets": 0,
                        "generators": 13_700_000,
                        "datasets": 0,
                        "exports": 0,
                        "students": 0,
                    },
                    "total_bytes": 23_500_000,
                    "max_bytes": 5_000_000_000,
                    "num_active_jobs": 0,
                    "max_active_jobs": None,
                },
            }
        }
    )

    num_bytes: dict[str, int] = Field(description="Stored bytes of each noun, and of exports on their own")
    total_bytes: int
    max_bytes: int | None = Field(description="Most that may be stored, else 413; null: as much as fits")
    num_active_jobs: int = Field(description="Queued, running or cancelling")
    max_active_jobs: int = Field(description="Most at a time, else 429")
    max_job_images: int = Field(description="Most images that one job synthesizes, else 422")
    key: KeyUsageAnswer


@router.get("", operation_id="get_usage", summary="What is stored, and the limits", responses=problems(422))
def get_usage(work: ReadDep) -> UsageAnswer:
    """Cheap: nothing is listed."""
    return UsageAnswer.model_validate(usage.read(work))
