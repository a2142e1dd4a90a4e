"""Names to addresses, and addresses to a connection: asked once, and connected to what was found then."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address

from colony import egress
from egress import address
from egress.address import Address
from egress.aside import Seats
from egress.refusals import Silent, Unreachable

THREADS = 32  # that wait for name servers at once
PER_AGENT = 4  # of them
MOST_ADDRESSES = 32  # of one name; a name with more is refused
NO_SEARCH = {"LOCALDOMAIN": "invalid"}  # a domain that holds nothing, in place of the host's own: glibc's resolver reads it
MOST_TRIED = 4  # addresses of one connection: each shall have time enough
Resolve = Callable[[str], list[str]]


class Resolver:
    """Asks the system's resolver, from threads that come and go; no agent can take all of them. For one event loop."""

    def __init__(self, seconds: float, resolve: Resolve | None = None) -> None:
        self._seconds, self._resolve = seconds, resolve or _addresses
        self._seats = Seats(THREADS, PER_AGENT)

    async def find(self, agent: str, host: str) -> list[Address]:
        """All addresses of the host, without doubles. Raises `Unreachable` if it has none, `Silent` if that can't be found out in time."""
        if egress.is_address(host):
            return [address.parsed(host)]
        try:
            async with asyncio.timeout(self._seconds):
                found = await self._seats.run(agent, lambda: self._resolve(host))
            addresses = list(dict.fromkeys(map(address.parsed, found)))
        except TimeoutError as error:
            raise Silent(f"no name server has answered for {host}") from error
        except (OSError, ValueError) as error:  # UnicodeError is a ValueError
            raise Unreachable(f"{host} has no address") from error
        if not 0 < len(addresses) <= MOST_ADDRESSES:
            raise Unreachable(f"{host} has {len(addresses)} addresses, and not 1 to {MOST_ADDRESSES}")
        return addresses


async def connect(addresses: Sequence[Address], port: int, seconds: float) -> tuple[Address, socket.socket]:
    """The first of these addresses that takes a connection, and that. Raises `Unreachable` or `Silent`; tries no longer than `seconds`."""
    tried = addresses[:MOST_TRIED]
    trouble = ""
    kind: type[Unreachable] = Unreachable
    for each in tried:
        try:
            return each, await _connected(each, port, seconds / len(tried))
        except TimeoutError:
            trouble, kind = f"{each}: no answer", Silent
        except OSError as error:
            trouble, kind = f"{each}: {error.strerror}", Unreachable
    raise kind(f"no connection to port {port} of {trouble}")


async def _connected(to: Address, port: int, seconds: float) -> socket.socket:
    connection = socket.socket(socket.AF_INET6 if isinstance(to, IPv6Address) else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(connection, (str(to), port))
    except BaseException:
        connection.close()
        raise
    return connection


def _addresses(host: str) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
