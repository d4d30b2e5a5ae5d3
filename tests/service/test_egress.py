"""Where the service connects, and where it does not."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from service.egress import EgressRefused, Target, is_public, parse_target, resolve
from service.settings import Settings


def plain(text: str) -> str:
    """A test's name without the colons that pytest divides names by."""
    return re.sub(r"\W+", "-", text)[:60]


def test_addresses_are_read_into_host_port_and_path() -> None:
    settings = Settings(webhook_ports="443, 8443")  # type: ignore[arg-type]
    for url, target in {
        "https://Hooks.Example.com": Target("hooks.example.com", 443, "/"),
        "https://hooks.example.com:8443/a/b?c=d%20e": Target("hooks.example.com", 8443, "/a/b?c=d%20e"),
        "https://hooks.example.com?c=d": Target("hooks.example.com", 443, "/?c=d"),
        "https://1.1.1.1:443/": Target("1.1.1.1", 443, "/"),
        "https://[2606:4700::1111]:8443/": Target("2606:4700::1111", 8443, "/"),
    }.items():
        assert parse_target(url, settings) == target
    assert Target("2606:4700::1111", 8443, "/").authority == "[2606:4700::1111]:8443"
    assert Target("hooks.example.com", 443, "/").authority == "hooks.example.com"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com/x",
        "//hooks.example.com/x",
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "https:///x",
        "https://user@hooks.example.com/",
        "https://user:password@hooks.example.com/",
        "https://hooks.example.com:22/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:x/",
        "https://hooks.example.com/#fragment",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://hooks.example.com/ x",
        'https://hooks.example.com/"><script>',
        "https://hooks.example.com/\r\nHost: other",
        "https://höoks.example.com/",
        "https://127.0.0.1%2f.example.com/",
        "https://-hooks.example.com/",
        "https://hooks..example.com/",
        "https://127.0.0.1./",
        "https://[::1/",
        "https://[2606:4700::1111%25eth0]/",
        "https://" + "a" * 64 + ".com/",
        "https://hooks.example.com/" + "a" * 1000,
    ],
    ids=plain,
)
def test_what_is_not_a_plain_https_address_is_refused(url: str) -> None:
    with pytest.raises(EgressRefused):
        parse_target(url, Settings())


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:1.1.1.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_what_is_not_one_machine_of_the_internet_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001::5"], ids=plain
)
def test_public_addresses_are(address: str) -> None:
    assert is_public(ip_address(address))


def test_every_address_of_a_name_must_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["1.1.1.1", "1.1.1.1", "10.20.0.7"]

    def answers(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    target = Target("hooks.example.com", 443, "/")
    with pytest.raises(EgressRefused, match=r"10\.20\.0\.7"):
        resolve(target, Settings())
    in_house = Settings(webhook_networks="10.20.0.0/16,fd12::/48")  # type: ignore[arg-type]
    assert list(map(str, resolve(target, in_house))) == ["1.1.1.1", "10.20.0.7"]


def test_an_allowed_network_does_not_allow_its_addresses_in_disguise() -> None:
    settings = Settings(webhook_networks="127.0.0.0/8")  # type: ignore[arg-type]
    assert parse_target("https://127.0.0.1/", settings).host == "127.0.0.1"
    assert parse_target("https://localhost/", settings).host == "localhost"
    for host in ("[::ffff:127.0.0.1]", "127.1", "2130706433"):
        with pytest.raises(EgressRefused):
            parse_target(f"https://{host}/", settings)
