"""The doorbell: tells sleeping workers to look at the database. Losing a ring costs time, never work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from service.settings import Settings

RING_TASK = "label_factory.ring"
"""Name of the one task; the workers register it, so service never imports them."""
QUEUES = ("gpu", "cpu")
RING_SECONDS = 600

log = structlog.get_logger(__name__)


class Doorbell(Protocol):
    """Wakes the workers of a queue."""

    def ring(self, queue: str) -> None:
        """Ask the workers of `queue` to look at the database; never raises."""
        ...


class SilentDoorbell:
    """Embedded: workers poll the database, nobody needs to be woken."""

    def ring(self, queue: str) -> None:
        pass


@dataclass
class ListDoorbell:
    """A fake that remembers who was rung."""

    rung: list[str] = field(default_factory=list)
    """Queues in the order of their rings."""

    def ring(self, queue: str) -> None:
        self.rung.append(queue)


class CeleryDoorbell:
    """Sends the one task by name through Redis."""

    def __init__(self, broker_url: str) -> None:
        # Celery comes with the "cluster" extra; the embedded service runs without it.
        from celery import Celery  # noqa: PLC0415

        self._app = Celery("label_factory", broker=broker_url)
        self._app.conf.update(celery_options())

    def ring(self, queue: str) -> None:
        try:
            # Rings pile up while all workers are busy; old ones say nothing new. Long, because clocks differ.
            self._app.send_task(RING_TASK, args=[queue], queue=queue, ignore_result=True, expires=RING_SECONDS)
        except Exception as error:  # noqa: BLE001 - the row is committed; the reaper rings again
            log.warning("could not ring the workers", queue=queue, error=str(error))


def celery_options() -> dict[str, Any]:
    """Celery's settings, the same for those who ring and those who listen."""
    return {
        "task_acks_late": False,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": "cpu",
        "task_publish_retry": True,
        "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": 1,
        "worker_pool": "prefork",
        "worker_pool_start_method": "spawn",
        "worker_proc_alive_timeout": 180,
        "worker_max_tasks_per_child": 20,
        "worker_send_task_events": False,
        "worker_soft_shutdown_timeout": 25,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": 3_600,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "global_keyprefix": "lf:",
            "queue_order_strategy": "priority",
        },
    }


def open_doorbell(settings: Settings) -> Doorbell:
    """The doorbell that the settings name."""
    return SilentDoorbell() if settings.embedded else CeleryDoorbell(settings.broker_url)
