"""Says that this worker process is there, from a thread of its own: an idle worker shows no other sign of life."""

import shutil
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

import structlog
import torch

from service import workers
from service.bootstrap import Factory
from service.workers import SignOfLife
from workers.device import choose_device
from workers.memory import memory_in_use

log = structlog.get_logger(__name__)

ALIVE_FILE = "alive"
"""Touched in the scratch folder at each beat, database or not: an old one tells a container's probe that it hangs."""


def sign_of_life(factory: Factory, owner: str, queues: Sequence[str]) -> SignOfLife:
    """What this process says of itself now."""
    device = choose_device()
    used, total = memory_in_use(device)
    return SignOfLife(
        name=owner,
        machine=socket.gethostname(),
        queues=list(queues),
        device=device_name(device),
        memory_used_bytes=used,
        memory_total_bytes=total,
        scratch_free_bytes=shutil.disk_usage(factory.settings.resolved_scratch_dir).free,
    )


def device_name(device: torch.device) -> str:
    """What the device is called; two alike in one machine differ by the beginning of their ids."""
    if device.type != "cuda":
        return str(device.type)
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name} {str(properties.uuid)[:8]}"


def show_until(factory: Factory, owner: str, queues: Sequence[str], shutdown: threading.Event) -> None:
    """Beat until shutdown, then take leave; a database that is away is tried again with the next beat."""
    while not shutdown.is_set():
        try:
            touch_alive(factory)
            with factory.work() as work:
                workers.beat(work, sign_of_life(factory, owner, queues))
        except Exception as error:  # noqa: BLE001 - the worker outlives every outage
            log.warning("could not say that this worker is there", error=str(error))
        shutdown.wait(factory.settings.heartbeat_seconds)
    with suppress(Exception), factory.work() as work:
        workers.leave(work, owner)


def touch_alive(factory: Factory) -> None:
    """Tell this machine, without asking anybody, that the process goes on."""
    scratch = factory.settings.resolved_scratch_dir
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / ALIVE_FILE).touch()


def start_presence(factory: Factory, owner: str, queues: Sequence[str], shutdown: threading.Event) -> threading.Thread:
    """Beat in a background thread until shutdown."""
    arguments = (factory, owner, queues, shutdown)
    thread = threading.Thread(target=show_until, args=arguments, name="presence", daemon=True)
    thread.start()
    return thread
