"""Names to addresses, and addresses to a connection: asked once, and connected to what was found then."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import IPv6Address

from egress import address
from egress.address import Address
from egress.refusals import Silent, Unreachable

THREADS = 32  # that wait for name servers
PER_AGENT = 4  # of them
MOST_ADDRESSES = 16  # of one name that are looked at; a name with more is refused


class Resolver:
    """Asks the system's resolver, from threads; no agent can take all of them."""

    def __init__(self, seconds: float, resolve: Callable[[str], list[str]] | None = None) -> None:
        self._seconds, self._resolve = seconds, resolve or _addresses
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="names")
        self._asking: dict[str, int] = {}

    async def find(self, agent: str, host: str) -> list[Address]:
        """All addresses of the host, without doubles. Raises `Unreachable` if it has none."""
        try:
            return [address.parsed(host)]
        except ValueError:
            pass
        if self._asking.get(agent, 0) >= PER_AGENT:
            raise Silent(f"{PER_AGENT} names of yours are being looked up; try again when one is found")
        try:
            async with asyncio.timeout(self._seconds):
                found = await asyncio.wrap_future(self._asked(agent, host))
            addresses = list(dict.fromkeys(map(address.parsed, found)))
        except TimeoutError as error:
            raise Silent(f"no name server has answered for {host}") from error
        except (OSError, UnicodeError, ValueError) as error:
            raise Unreachable(f"{host} has no address") from error
        if not 0 < len(addresses) <= MOST_ADDRESSES:
            raise Unreachable(f"{host} has {len(addresses)} addresses, and not 1 to {MOST_ADDRESSES}")
        return addresses

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _asked(self, agent: str, host: str) -> Future[list[str]]:
        """Counted until the thread is free again, which may be long after anybody waits for it."""
        loop = asyncio.get_running_loop()
        self._asking[agent] = self._asking.get(agent, 0) + 1
        future = self._threads.submit(self._resolve, host)
        future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._answered, agent))
        return future

    def _answered(self, agent: str) -> None:
        self._asking[agent] -= 1
        if not self._asking[agent]:
            del self._asking[agent]


async def connect(addresses: Sequence[Address], port: int, seconds: float) -> socket.socket:
    """A connection to the first of these addresses that takes one. Raises `Unreachable` or `Silent`; tries all within `seconds`."""
    trouble = ""
    kind: type[Unreachable] = Unreachable
    for each in addresses:
        connection = socket.socket(socket.AF_INET6 if isinstance(each, IPv6Address) else socket.AF_INET, socket.SOCK_STREAM)
        try:
            # The first of several must not use up the time of all of them.
            await _connected(connection, str(each), port, seconds / len(addresses))
            return connection
        except TimeoutError:
            trouble, kind = f"{each}: no answer", Silent
        except OSError as error:
            trouble, kind = f"{each}: {error.strerror}", Unreachable
        except BaseException:
            connection.close()
            raise
        connection.close()
    raise kind(f"no connection to port {port} of {trouble}")


async def _connected(connection: socket.socket, to: str, port: int, seconds: float) -> None:
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    async with asyncio.timeout(seconds):
        await asyncio.get_running_loop().sock_connect(connection, (to, port))


def _addresses(host: str) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
