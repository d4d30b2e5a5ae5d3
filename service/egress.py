"""Where the service connects when a user names the address: by https, to the public internet or the operator's networks.

An address is read when it is set (`parse_target`) and its name is looked up when something is sent (`resolve`), once: the
caller connects to one of those addresses and asks no resolver again, so that a name cannot point elsewhere in between.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from service.errors import ServiceError
from service.settings import Settings

MAX_URL = 1_000
# The characters of RFC 3986; others, such as backslashes, mean different things to different readers of addresses.
PLAIN = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
# Names that end so are read as numbers by the C library: 127.1, 0x7f000001, 2130706433.
NUMBER = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)")
# Routed to the receiver's own side of a translator, or to nobody; Python calls some of them global.
UNROUTED_V4 = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
UNICAST_V6 = IPv6Network("2000::/3")
UNROUTED_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))

IpAddress = IPv4Address | IPv6Address


class EgressRefused(ServiceError):  # noqa: N818
    """The service does not connect there."""

    status, type, title = 422, "egress-refused", "The service does not connect there"


@dataclass(frozen=True)
class Target:
    """An address that was read and found sound; what its name resolves to is still to be seen."""

    host: str
    """A name, or an IP address without brackets; what certificates are checked against."""
    port: int
    """TCP port."""
    path: str
    """Path and query, beginning with a slash."""

    @property
    def authority(self) -> str:
        """Host and port as a request names them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"


def parse_target(url: str, settings: Settings) -> Target:
    """Read an address. Raises EgressRefused with what is wrong with it."""
    if len(url) > MAX_URL or not PLAIN.fullmatch(url):
        raise EgressRefused(
            f"An address has at most {MAX_URL} characters, of those that RFC 3986 allows; write others as %xx."
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", 443 if parts.port is None else parts.port
    except ValueError:
        raise EgressRefused("The address cannot be read; write it as https://host/path.") from None
    if parts.scheme != "https":
        raise EgressRefused("The address must begin with https://; nothing is sent in the clear.")
    if "@" in parts.netloc:
        raise EgressRefused("The address must not hold a user or password; what is sent is signed.")
    if "#" in url:
        raise EgressRefused("The address must not have a fragment (#...).")
    if port not in settings.webhook_ports:
        allowed = ", ".join(map(str, settings.webhook_ports))
        raise EgressRefused(f"The port {port} is not open to webhooks; the operator allows {allowed}.")
    _check_host(host, settings)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host, port, path)


def _check_host(host: str, settings: Settings) -> None:
    """Names are looked up later; addresses are judged at once, in their one canonical spelling."""
    address: IpAddress | None = None
    if ":" in host or NUMBER.fullmatch(host):
        try:
            address = ip_address(host.replace("%", " "))
        except ValueError:
            raise EgressRefused(f"The host {host[:60]} is neither a name nor a plainly written IP address.") from None
    elif host == "localhost" or host.endswith(".localhost"):
        address = IPv4Address("127.0.0.1")
    elif not NAME.fullmatch(host):
        raise EgressRefused("The host is not a name of letters, digits, hyphens and dots (write others as xn--...).")
    if address is not None:
        _require_allowed(host, address, settings)


def resolve(target: Target, settings: Settings) -> list[IpAddress]:
    """All addresses of the target's name, at least one and each of them allowed. Raises EgressRefused, OSError.

    Blocks for as long as the machine's resolver takes, which knows no deadline.
    """
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(ip_address(str(place[0]).partition("%")[0]) for *_, place in found))
    for address in addresses:
        _require_allowed(target.host, address, settings)
    return addresses


def _require_allowed(host: str, address: IpAddress, settings: Settings) -> None:
    if not is_public(address) and not any(address in network for network in settings.webhook_networks):
        raise EgressRefused(
            f"The host {host} has the address {address}, which is not on the public internet; the operator can allow its "
            "network (LABEL_FACTORY_WEBHOOK_NETWORKS)."
        )


def is_public(address: IpAddress) -> bool:
    """Whether this is one machine of the public internet, and not another address in disguise (mapped, NAT64, 6to4)."""
    if address.is_multicast or not address.is_global:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in UNROUTED_V4)
    return address in UNICAST_V6 and not any(address in network for network in UNROUTED_V6)
