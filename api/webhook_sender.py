"""One signed POST to one receiver: to an address that was checked, in time, and nowhere else.

A connection is made to the addresses that `egress.resolve` allowed and to no others; redirects, proxies and cookies do not
exist here, and nothing of the answer but its status is kept.
"""

import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import httpcore2
from httpcore2 import SOCKET_OPTION, ConnectError, ConnectTimeout, NetworkStream, SyncBackend

from service import egress
from service.egress import IpAddress, Target
from service.settings import Settings
from service.webhook_deliveries import ClaimedDelivery

MAX_ANSWER_BYTES = 65_536
Result = TypeVar("Result")


class SendFailed(Exception):  # noqa: N818
    """The receiver was not reached, or did not answer in time; says why."""


class WebhookSender:
    """Sends messages; safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tls = httpcore2.default_ssl_context()
        if settings.webhook_ca_file is not None:
            self._tls.load_verify_locations(settings.webhook_ca_file)

    def send(self, message: ClaimedDelivery) -> int:
        """POST the message and return the status of the answer. Raises EgressRefused, SendFailed."""
        seconds = self._settings.webhook_timeout_seconds
        # The address was sound when it was set; the operator may have changed the rules since.
        target = egress.parse_target(message.url, self._settings)
        try:
            addresses = _within(seconds, lambda: egress.resolve(target, self._settings))
        except TimeoutError:
            raise SendFailed(f"the name {target.host} was not resolved within {seconds:g} s") from None
        except (OSError, UnicodeError) as error:
            raise SendFailed(f"the name {target.host} cannot be resolved: {error}") from None
        try:
            return self._post(target, addresses, message, _Deadline(seconds))
        except httpcore2.TimeoutException:
            raise SendFailed(f"no answer within {seconds:g} s") from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, ssl.SSLError) as error:
            raise SendFailed(f"{_words(error)}") from None

    def _post(
        self, target: Target, addresses: Sequence[IpAddress], message: ClaimedDelivery, deadline: "_Deadline"
    ) -> int:
        headers = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "Content-Length": str(len(message.body)),
            "User-Agent": "label-factory",
            "Connection": "close",
            **message.headers(),
        }
        url = httpcore2.URL(scheme=b"https", host=target.host.encode(), port=target.port, target=target.path.encode())
        backend = _PinnedBackend(addresses, deadline)
        with httpcore2.ConnectionPool(ssl_context=self._tls, network_backend=backend) as pool:
            fields = [(name.encode(), value.encode()) for name, value in headers.items()]
            with pool.stream("POST", url, headers=fields, content=message.body) as answer:
                _drain(answer.iter_stream())
                return int(answer.status)


class _Deadline:
    """A point in time for everything that follows: a receiver that drips must not stretch it."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left. Raises ReadTimeout when there are none."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise httpcore2.ReadTimeout("the time is up")
        return seconds


class _PinnedBackend(SyncBackend):
    """Connects to the given addresses in turn, whatever name is asked for."""

    def __init__(self, addresses: Sequence[IpAddress], deadline: _Deadline) -> None:
        super().__init__()
        self._addresses, self._deadline = addresses, deadline

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        """A connection to the first address that takes one; each gets its share of the time."""
        failed: Exception = ConnectError("the name has no address")
        for place, address in enumerate(self._addresses):
            share = self._deadline.left() / (len(self._addresses) - place)
            try:
                stream = super().connect_tcp(str(address), port, share, local_address, socket_options)
            except (ConnectError, ConnectTimeout) as error:
                failed = error
            else:
                return _TimedStream(stream, self._deadline)
        raise failed


class _TimedStream(NetworkStream):
    """A connection all of whose waits end at one deadline."""

    def __init__(self, stream: NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """Bytes that came."""
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Send bytes."""
        self._stream.write(buffer, self._deadline.left())

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> NetworkStream:
        """The same connection, encrypted and verified for this name."""
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, self._deadline.left()), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """What the connection knows of itself."""
        return self._stream.get_extra_info(info)


def _drain(chunks: Iterable[bytes]) -> None:
    """Let the receiver finish its answer, up to a limit."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total >= MAX_ANSWER_BYTES:
            return


def _within(seconds: float, function: Callable[[], Result]) -> Result:
    """What `function` returns or raises; TimeoutError where it takes longer. Its thread is left to itself then."""
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            outcome.set_exception(error)

    threading.Thread(target=run, name="webhook-resolver", daemon=True).start()
    return outcome.result(timeout=seconds)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
