"""How fast one API process takes in an upload: streamed to scratch, hashed on the way.

`python -m benchmarks.load.uploading` sends one body of 256 MiB to a pool, several times, from a file by `sendfile` in a process of its
own. The body is no zip and is refused once it has come whole, so that the time is that of taking it in and of the reader's
start; what it costs to read images is measured by `benchmarks.uploads`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import httpx2

from benchmarks.load.api_process import ApiProcess, api_process
from benchmarks.paired import Figure, print_table

MIB = 1 << 20


def figures(*, mib: int = 256, times: int = 5, port: int = 0) -> list[Figure]:
    """One row: the middle of some uploads."""
    with tempfile.TemporaryDirectory() as folder, api_process(Path(folder), port=port) as api:
        body = Path(folder) / "body"
        with body.open("wb") as out:
            for _ in range(mib):
                out.write(os.urandom(MIB))
        pool_id = _make_pool(api)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            seconds = sorted(
                process.submit(_send, api.port, f"/v1/image-pools/{pool_id}/images", api.headers, body).result()
                for _ in range(times)
            )
        left = [path for path in api.settings.resolved_scratch_dir.iterdir() if path.name.startswith("upload-")]
    detail = f"{mib} MiB, {times} times, {mib / seconds[-1]:.0f} to {mib / seconds[0]:.0f}; {len(left)} files left"
    return [Figure("streamed upload with its hash", mib / seconds[times // 2], "MiB/s", at_least=50, detail=detail)]


def _make_pool(api: ApiProcess) -> str:
    answer = httpx2.post(
        f"http://127.0.0.1:{api.port}/v1/image-pools", json={"name": "load"}, headers=api.headers, trust_env=False
    )
    return str(answer.raise_for_status().json()["id"])


def _send(port: int, path: str, headers: dict[str, str], body: Path) -> float:
    """Seconds until the refusal came. Raises RuntimeError for any other answer."""
    told = {**headers, "content-type": "application/zip", "content-length": str(body.stat().st_size)}
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", *(f"{name}: {value}" for name, value in told.items())]
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=600) as connection, body.open("rb") as file:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        connection.sendfile(file)
        answer = connection.recv(1 << 16)
    seconds = time.perf_counter() - started
    if not answer.startswith(b"HTTP/1.1 422"):
        raise RuntimeError(f"the upload was not read: {answer[:400].decode(errors='replace')}")
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=256, help="size of the body")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    args = parser.parse_args(arguments)
    print_table(figures(**vars(args)))


if __name__ == "__main__":
    main()
