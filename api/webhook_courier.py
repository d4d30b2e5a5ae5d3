"""Delivers webhooks from threads of the API process: claims what is due, sends it, records how it went.

Every API process has one; leases keep them apart, so it does not matter how many there are or which of them is killed.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import structlog

from api.webhook_sender import SendFailed, WebhookSender
from service import webhook_deliveries
from service.bootstrap import Factory
from service.egress import EgressRefused
from service.errors import LeaseLost, NotFound
from service.webhook_deliveries import ClaimedDelivery

log: structlog.stdlib.BoundLogger = structlog.get_logger("api")

#: Messages on their way at one time, each to another webhook.
SENDERS = 8
PRUNE_SECONDS = 3_600.0


class WebhookCourier:
    """Looks for messages that are due until it is stopped."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        self._sender = WebhookSender(factory.settings)
        self._stopped = threading.Event()
        self._free = threading.Semaphore(SENDERS)
        self._prune_at = time.monotonic()
        self._pool = ThreadPoolExecutor(SENDERS, thread_name_prefix="webhook-sender")
        self._thread = threading.Thread(target=self._run, name="webhook-courier", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more messages and wait for those on their way; a deadline ends each of them."""
        self._stopped.set()
        self._thread.join()
        self._pool.shutdown()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._free.acquire()
            claimed = self._claim()
            if claimed is not None:
                self._pool.submit(self._deliver, claimed)
                continue
            self._free.release()
            self._stopped.wait(self._factory.settings.webhook_poll_seconds)

    def _claim(self) -> ClaimedDelivery | None:
        try:
            with self._factory.read() as work:
                if not webhook_deliveries.is_any_due(work):
                    return None
            with self._factory.work() as work:
                if time.monotonic() >= self._prune_at:
                    webhook_deliveries.prune(work)
                    self._prune_at = time.monotonic() + PRUNE_SECONDS
                return webhook_deliveries.claim(work)
        except Exception as error:  # noqa: BLE001 - the courier outlives every outage of the database
            log.warning("no webhook could be looked for", error=str(error))
            return None

    def _deliver(self, claimed: ClaimedDelivery) -> None:
        try:
            with structlog.contextvars.bound_contextvars(webhook_id=claimed.webhook_id, message_id=claimed.id):
                self._attempt(claimed)
        except (LeaseLost, NotFound):
            log.info("a webhook's message was taken over or deleted meanwhile", message_id=claimed.id)
        except Exception:
            # The lease runs out, and the message is sent again.
            log.exception("an attempt at a webhook was not recorded", message_id=claimed.id)
        finally:
            self._free.release()

    def _attempt(self, claimed: ClaimedDelivery) -> None:
        status, why = None, ""
        try:
            status = self._sender.send(claimed)
        except EgressRefused as error:
            why = error.detail
            log.warning("a webhook was refused by the egress guard", reason=why)
        except SendFailed as error:
            why = str(error)
        if status is not None and 200 <= status < 300:
            with self._factory.work() as work:
                webhook_deliveries.record_success(work, claimed, status)
            log.info("webhook delivered", attempt=claimed.attempt, status=status)
            return
        if status is not None:
            hint = "; redirects are not followed" if 300 <= status < 400 else ""
            why = f"the receiver answered {status}{hint}"
        with self._factory.work() as work:
            row = webhook_deliveries.record_failure(work, claimed, why, status)
        log.info("webhook not delivered", attempt=claimed.attempt, reason=why, given_up=row.state == "failed")
