"""All settings of the factory in one object, read from the environment (`LABEL_FACTORY_...`)."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

ENV_PREFIX = "LABEL_FACTORY_"
DATABASE_URLS = "sqlite:////absolute/file or postgresql://user:password@host/database"

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Bytes = Annotated[int, Field(ge=1, le=2**50)]
OPERATOR_KEY_FILE = "api-key"
"""In the data folder of an embedded service: the key of the user who runs it."""


def _split(value: object) -> object:
    """A list as the environment spells it, with commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _check_database_url(value: str) -> str:
    if not value:
        return value
    try:
        url = make_url(value)
    except ArgumentError:
        raise ValueError(f"must be {DATABASE_URLS}") from None
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(f"must be {DATABASE_URLS}")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError("must name a file, sqlite:////absolute/file: several processes share the database")
    return value


def _check_storage_url(value: str) -> str:
    if value and not value.startswith(("file:///", "s3://")):
        raise ValueError("must begin with file:/// or s3://")
    return value


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split)]
Ports = Annotated[tuple[Annotated[int, Field(ge=1, le=65_535)], ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """Where things live, how steps are leased, and every limit."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        extra="forbid",
        use_attribute_docstrings=True,
        frozen=True,
        # Values may be secrets, and errors go to logs.
        hide_input_in_errors=True,
    )

    # Where things live
    data_dir: Path = Path("data")
    """Folder of the embedded service: database, objects, scratch and logs."""
    database_url: Annotated[str, AfterValidator(_check_database_url)] = ""
    """SQLAlchemy URL; empty means `factory.sqlite` in the data folder."""
    storage_url: Annotated[str, AfterValidator(_check_storage_url)] = ""
    """`file:///folder` or `s3://bucket/prefix`; empty means `objects` in the data folder."""
    scratch_dir: Path | None = None
    """Folder for uploads and worker files in flight; empty means `scratch` in the data folder."""
    bundled_generators_dir: Path | None = None
    """Folder whose sub-folders are generators that the operator offers; registered at start."""
    weights_dir: Path | None = None
    """Folder whose sub-folders are backbones that students may start from (`student.weights`); the same files for the API
    and every worker, read where they are."""
    min_free_bytes: Annotated[int, Field(ge=0, le=2**50)] = 256 * 2**20
    """Uploads and steps are refused while a local folder has less free space than this."""

    # Object store (storage_url = s3://...)
    s3_endpoint: str | None = None
    """Address of the S3-compatible store; empty means Amazon's."""
    s3_public_endpoint: str | None = None
    """Address under which users reach that store, for signed URLs; empty means `s3_endpoint`."""
    s3_region: str = "us-east-1"
    """Region that requests are signed for."""
    s3_access_key_id: SecretStr | None = None
    """Access key; empty means the machine's own credentials."""
    s3_secret_access_key: SecretStr | None = None
    """Secret of the access key."""
    s3_timeout_seconds: Seconds = 60.0
    """A request that the store leaves without an answer for this long is given up; sending a part of 8 MiB included."""
    s3_virtual_hosted: bool = False
    """Address buckets as sub-domains; most S3-compatible stores want paths instead."""

    # Doorbell
    broker_url: str = ""
    """Redis URL of the Celery doorbell; empty means embedded: workers poll the database."""

    # Steps
    lease_seconds: Seconds = 60.0
    """A worker that is silent for this long has lost its step."""
    heartbeat_seconds: Seconds = 5.0
    """How often a worker renews its lease; at most a third of the lease."""
    stall_seconds: Seconds = 3_600.0
    """A step that neither shows progress nor asks whether to stop for this long hangs: its worker process ends, and the
    attempt counts. Longer than the longest batch, and than loading the largest generator."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """A step that used up this many attempts fails."""
    retry_backoff_seconds: Annotated[float, Field(ge=0, le=3_600)] = 5.0
    """Wait before the second attempt after a retryable failure; doubles each time."""
    poll_seconds: Seconds = 0.5
    """How often an idle embedded worker looks at the database."""
    reap_seconds: Seconds = 15.0
    """How often expired leases are looked for and ready steps are rung again."""
    progress_event_seconds: Annotated[float, Field(ge=0, le=3_600)] = 1.0
    """At most one progress event per step in this time; of a long step fewer stay (service/events.py)."""
    collect_seconds: Seconds = 21_600.0
    """How often the store is searched for objects that no row names."""
    orphan_seconds: Annotated[float, Field(ge=3_600, le=366 * 86_400)] = 86_400.0
    """Such an object is removed at this age; longer than any upload, and than two leases."""
    export_ttl_seconds: Annotated[float, Field(ge=60, le=3_660 * 86_400)] = 30 * 86_400.0
    """An export is removed at this age; a job of kind export makes it again."""
    audit_ttl_seconds: Annotated[float, Field(ge=86_400, le=3_660 * 86_400)] | None = None
    """An entry of the audit log is removed at this age; empty keeps all."""
    shard_size: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Images per shard: small enough for several workers to share a job."""

    # Compute
    torch_threads: Annotated[int, Field(ge=1, le=1_024)] | None = None
    """Cores a worker computes with; empty means all of the machine's."""
    training_processes: Annotated[int, Field(ge=1, le=64)] | None = None
    """Processes that train one generator or student together, each on its accelerator; empty means one for each that the
    worker sees (docs/decisions/0007)."""

    # Edge
    api_host: str = "127.0.0.1"
    """Address the API listens on."""
    api_port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """Port the API listens on; 0 takes any free one."""
    session_seconds: Annotated[float, Field(ge=60, le=30 * 86_400)] = 43_200.0
    """A browser stays signed in for this long."""
    event_poll_seconds: Seconds = 0.5
    """How often an event stream looks for new events."""
    page_limit: Annotated[int, Field(ge=1, le=1_000)] = 200
    """Most items in one page of a list."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log line that is written."""
    log_json: bool = False
    """Write log lines as JSON objects."""

    # Webhooks
    webhooks: bool = False
    """Tell users' own addresses what happens; off, because the API then opens connections to where users say."""
    webhook_networks: Networks = ()
    """Networks that webhooks may reach beside the public internet, for receivers in house: `10.20.0.0/16,fd12:3456::/48`."""
    webhook_ports: Ports = (443,)
    """Ports that webhooks may reach: `443,8443`."""
    webhook_ca_file: FilePath | None = None
    """Certificates (PEM) that vouch for receivers beside the system's own."""
    webhook_timeout_seconds: Annotated[float, Field(ge=0.1, le=60)] = 5.0
    """Longest a receiver's name may take to resolve, and the whole exchange with it."""
    webhook_poll_seconds: Seconds = 1.0
    """How often the API looks for messages that are due."""

    # Limits on what is sent
    requests_per_minute: Count = 12_000
    """Requests of one key (on pages that need none: of one address) that one API process answers in a minute; more are 429."""
    changes_per_minute: Count = 600
    """Of these, requests that change something: jobs, uploads, cancellations."""
    refusals_per_minute: Count = 600
    """Requests of one address without a good key, before the rest are 429 unread."""
    max_json_bytes: Bytes = 2**20
    """Largest JSON body."""
    max_upload_bytes: Bytes = 4 * 2**30
    """Largest uploaded archive."""
    max_inflated_bytes: Bytes = 16 * 2**30
    """Largest sum of an archive's files after inflating."""
    max_archive_ratio: Annotated[float, Field(ge=1, le=100_000)] = 100.0
    """Largest ratio of inflated to packed size of one member."""
    max_archive_members: Count = 200_000
    """Most members in an archive."""
    max_image_pixels: Count = 40_000_000
    """Most pixels in one image."""
    max_classes: Annotated[int, Field(ge=2, le=255)] = 250
    """Most classes in an annotation set (a label map is 8 bit and 255 means ignore)."""
    max_annotation_images: Count = 20_000
    """Most images in one annotation set."""
    max_reader_memory_bytes: Annotated[int, Field(ge=256 * 2**20, le=2**50)] = 4 * 2**30
    """Address space of the process that reads one upload; four may run at a time."""
    max_reader_cpu_seconds: Annotated[int, Field(ge=1, le=7 * 86_400)] = 3_600
    """Processor time that reading one upload may take."""
    max_pool_memory_bytes: Bytes = 8 * 2**30
    """Largest pool, as plain pixels, that one worker takes into memory to train a generator."""
    max_stored_bytes: Bytes | None = None
    """Most bytes that are stored at a time, steps' files left out; empty: as many as fit. At the limit uploads and new
    jobs are refused."""
    max_active_jobs: Count = 1_000
    """Most jobs that are queued or running at a time."""
    max_job_images: Count = 10_000_000
    """Most images one job may synthesize."""

    @model_validator(mode="after")
    def _check_heartbeat(self) -> Self:
        if self.heartbeat_seconds * 3 > self.lease_seconds:
            raise ValueError(f"{ENV_PREFIX}HEARTBEAT_SECONDS must be at most a third of {ENV_PREFIX}LEASE_SECONDS")
        return self

    @model_validator(mode="after")
    def _check_orphans(self) -> Self:
        if self.orphan_seconds <= 2 * self.lease_seconds:
            raise ValueError(f"{ENV_PREFIX}ORPHAN_SECONDS must be more than twice {ENV_PREFIX}LEASE_SECONDS")
        return self

    @property
    def resolved_database_url(self) -> str:
        """The database URL with the default filled in."""
        path = self.data_dir.absolute() / "factory.sqlite"
        return self.database_url or f"sqlite:///{path}"

    @property
    def resolved_storage_url(self) -> str:
        """The object store's URL with the default filled in."""
        return self.storage_url or (self.data_dir.absolute() / "objects").as_uri()

    @property
    def resolved_scratch_dir(self) -> Path:
        """The scratch folder with the default filled in."""
        return (self.scratch_dir or self.data_dir / "scratch").absolute()

    @property
    def embedded(self) -> bool:
        """True where workers poll the database and no broker rings them."""
        return not self.broker_url


def faults(error: ValidationError) -> list[str]:
    """What is wrong with settings: of each the variable's name and the reason, without its value."""
    told = []
    for fault in error.errors(include_url=False, include_input=False):
        name = f"{ENV_PREFIX}{fault['loc'][0]}: ".upper() if fault["loc"] else ""
        told.append(name + fault["msg"].removeprefix("Value error, "))
    return told


def read_settings() -> Settings:
    """The settings of this process; ends it with a line for each that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        raise SystemExit("\n".join(f"error: {fault}" for fault in faults(error))) from None
