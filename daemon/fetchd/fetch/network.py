"""How an exchange travels, as a value; which addresses it may reach; sockets of this machine in the place of a host."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

import aiohttp
from aiohttp.abc import ResolveResult

from fetchd.job import IpVersion, Policy, Tls
from fetchd.job.values import SOCKET_SCHEME
from fetchd.secret import Secret

SOCKET_HOST: Final = "%2f"
"""What a host begins with that is a socket's path: no name does."""

_END_OF_HOST: Final = re.compile(r"[/?#]")
_AS_THEY_ARE: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._-")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_WANTED: Final[dict[str, tuple[socket.AddressFamily, str]]] = {
    "ipv4": (socket.AF_INET, "IPv4"),
    "ipv6": (socket.AF_INET6, "IPv6"),
}
_PREFERRED: Final = {"prefer_ipv4": socket.AF_INET, "prefer_ipv6": socket.AF_INET6}
_LAST_32_BITS: Final = 2**32 - 1
_INNER: Final[tuple[tuple[ipaddress.IPv6Network, Callable[[int], int]], ...]] = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), lambda number: number & _LAST_32_BITS),  # mapped, RFC 4291
    (ipaddress.IPv6Network("64:ff9b::/96"), lambda number: number & _LAST_32_BITS),  # NAT64, RFC 6052
    (ipaddress.IPv6Network("2002::/16"), lambda number: number >> 80 & _LAST_32_BITS),  # 6to4, RFC 3056
)
"""Where an IPv6 address stands for an IPv4 one."""
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")


class RefusedAddressError(aiohttp.ClientConnectionError):
    """Nothing that the host stands for may be asked."""


@dataclass(frozen=True, slots=True)
class Network:
    """Through which proxy requests go, over which addresses, with which certificates; on every hop."""

    proxy: Secret = Policy.model_fields["proxy"].default
    ip: IpVersion = "any"
    deny_private: bool = False
    tls: Tls = Policy.model_fields["tls"].default

    @classmethod
    def of(cls, policy: Policy) -> Network:
        """Return the network that ``policy`` sets: `DIRECT` itself where it sets nothing."""
        network = cls(policy.proxy, policy.ip, policy.deny_private, policy.tls)
        return DIRECT if network == DIRECT else network


DIRECT: Final = Network()
"""Straight to any address, trusting whom the system trusts."""


def chosen(network: Network, host: str, addresses: Iterable[ResolveResult]) -> list[ResolveResult]:
    """Return those of the ``addresses`` of ``host`` that may be asked, in the order in which they are.

    Raises:
        OSError: it has none of the wanted version.
        RefusedAddressError: those that it has are this machine's or private.
    """
    left = list(addresses)
    if wanted := _WANTED.get(network.ip):
        family, name = wanted
        left = [address for address in left if _family(address) == family]
        if not left:
            raise OSError(None, f"it has no {name} address")
    if network.deny_private:
        left = [address for address in left if not is_private(address["host"])]
        if not left:
            raise RefusedAddressError(f"{host} is an address of this machine or of a private network")
    if preferred := _PREFERRED.get(network.ip):
        left.sort(key=lambda address: _family(address) != preferred)
    return left


def is_private(address: str) -> bool:
    """Return whether ``address`` is not one of the public internet, or not an address at all.

    An IPv6 address that leads to an IPv4 one is as private as that is.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    if isinstance(found, ipaddress.IPv6Address):
        if found in _LOCAL_NAT64:
            return True
        inner = next((ipaddress.IPv4Address(of(int(found))) for within, of in _INNER if found in within), None)
        return _is_special(inner or found)
    return _is_special(found)


def _is_special(address: _Address) -> bool:
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return not address.is_global or address.is_multicast or address.is_reserved or site_local


def _family(address: ResolveResult) -> socket.AddressFamily:
    """Return the version of ``address``; for one that stood in the URL, the resolver does not tell."""
    return socket.AF_INET6 if ":" in address["host"] else socket.AF_INET


def carried(url: str) -> str:
    """Return ``url`` as the HTTP client carries it: a socket's path as a host, whose capitals survive small letters."""
    scheme, sign, rest = url.partition("://")
    if not sign or scheme.lower() != SOCKET_SCHEME:
        return url
    authority = _END_OF_HOST.split(rest, maxsplit=1)[0]
    user, at, host = authority.rpartition("@")
    encoded = "".join(chr(octet) if octet in _AS_THEY_ARE else f"%{octet:02x}" for octet in unquote_to_bytes(host))
    return f"http://{user}{at}{encoded}{rest[len(authority) :]}"


def socket_of(host: bytes) -> str:
    """Return the path of the socket that ``host``, as requests carry it, stands for; "" if it is a host."""
    text = host.decode("ascii")
    return unquote(text) if text.startswith(SOCKET_HOST) else ""
