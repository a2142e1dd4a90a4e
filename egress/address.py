"""Which IP addresses are never reached: all that do not lead to a public machine, in whatever form they come."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

Address = IPv4Address | IPv6Address

# The registries of special-purpose addresses (RFC 6890, IANA) as of 2025. `ipaddress.is_global` is another list in each Python.
_FORBIDDEN_V4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network: Linux takes 0.0.0.0 for the loopback
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; clouds keep services there
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local; clouds keep secrets there
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
]
_PUBLIC_V6 = IPv6Network("2000::/3")  # all else is loopback, unspecified, mapped, link-local, unique-local, multicast or reserved
_FORBIDDEN_V6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: leads to whatever IPv4 address it holds
        "3fff::/20",  # documentation
    )
]
# What the kernel says of an address that is another machine's, or of a kind that this one does not have.
_NOT_OURS = frozenset((errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL, errno.ENETUNREACH))
_NAT64 = IPv6Network("64:ff9b::/96")  # the last 32 bits are the IPv4 address that it leads to (RFC 6052)


def canonical(address: Address) -> Address:
    """The address itself, or the IPv4 address that an IPv4-mapped one is."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def parsed(text: str) -> Address:
    """The address of a text as the resolver gives it. Raises `ValueError`; a zone (`%eth0`) is none that leads anywhere public."""
    if "%" in text:
        raise ValueError(f"{text} has a zone")
    return canonical(ip_address(text))


def is_forbidden(address: Address) -> bool:
    """Whether the gate must not connect there, whatever a name's rules say."""
    address = canonical(address)
    if isinstance(address, IPv4Address):
        return any(address in network for network in _FORBIDDEN_V4)
    if address in _NAT64:
        return is_forbidden(IPv4Address(int(address) & 0xFFFFFFFF))
    return address not in _PUBLIC_V6 or any(address in network for network in _FORBIDDEN_V6)


def is_own(address: Address) -> bool:
    """Whether it is this machine's: what listens here is not for agents, on a public address either."""
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:  # which sends nothing
            probe.bind((str(address), 0))
            if not _may_bind_anywhere(family):
                return True
            probe.connect((str(address), 9))
            return bool(probe.getsockname()[0] == str(address))
    except OSError as error:
        if error.errno in _NOT_OURS:
            return False
        raise


def _may_bind_anywhere(family: socket.AddressFamily) -> bool:
    """A setting of machines that take over each other's addresses; then to be able to bind one proves nothing."""
    version = 6 if family == socket.AF_INET6 else 4
    try:
        return Path(f"/proc/sys/net/ipv{version}/ip_nonlocal_bind").read_text().strip() != "0"
    except OSError:
        return False
