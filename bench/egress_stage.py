"""What stands around the gate while it is measured.

`python -m bench.egress_stage upstream FILE` serves on the loopback and says its port in FILE: it answers a GET, and pours as many bytes
as the first eight say. `python -m bench.egress_stage gate SOCKET PORT` is the gate, for whoever knocks, to that port alone.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colony import schema
from egress import service
from egress.gate import Gate
from egress.ledger import Ledger
from egress.meter import Meter
from egress.model import Endpoint
from egress.policy import Policy
from egress.prices import Prices
from egress.proxy import Proxy
from egress.resolver import Resolver
from egress.settings import Bounds, Model
from egress.vault import Vault

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
POURED = memoryview(bytes(256 * 1024))
USER = "bench"


@dataclass
class _Guest:
    left: int = 0  # bytes that it shall still get


def upstream(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening, selectors.DefaultSelector() as ready:
        listening.setblocking(False)
        ready.register(listening, selectors.EVENT_READ)
        file.write_text(f"{listening.getsockname()[1]}\n")
        while True:
            for key, events in ready.select():
                if key.fileobj is listening:
                    connection, _ = listening.accept()
                    connection.setblocking(False)
                    ready.register(connection, selectors.EVENT_READ, _Guest())
                elif not _attend(key.fileobj, key.data, events, ready):  # type: ignore[arg-type]
                    ready.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]


def _attend(connection: socket.socket, guest: _Guest, events: int, ready: selectors.BaseSelector) -> bool:
    """Whether it stays."""
    try:
        if events & selectors.EVENT_READ:
            heard = connection.recv(4096)
            if not heard.startswith(b"\0"):  # the end, or a request
                if heard:
                    connection.sendall(ANSWER)
                return False
            guest.left = int.from_bytes(heard[:8], "big")
        guest.left -= connection.send(POURED[: guest.left])
    except BlockingIOError:
        pass
    except OSError:
        return False
    ready.modify(connection, selectors.EVENT_WRITE if guest.left else selectors.EVENT_READ, guest)
    return True


class _Everything:
    """Takes contacts, and does nothing with them."""

    def call(self, operation: Any, request: schema.RecordEgress) -> schema.EgressRecorded:
        return schema.EgressRecorded(recorded=len(request.contacts))


def gate(path: Path, port: int) -> None:
    bounds = replace(Bounds(), connections_per_agent=1000, requests_per_second=100_000)
    policy = Policy(bounds.away_seconds, clock=lambda: 0.0)
    rule = schema.EgressRule(agent=USER, effect="allow", host="127.0.0.1", ports=[port])
    policy.hear(schema.EgressPolicy(version="1", agents={USER: [rule]}))
    ledger = Ledger(_Everything(), bounds.contacts)  # type: ignore[arg-type]
    ledger.start()

    async def serve() -> None:
        names = Resolver(bounds.connect_seconds)
        endpoint = Endpoint(Model("http://127.0.0.1:1"), bounds, names)
        meter = Meter(_Everything(), Prices(), bounds.contacts)  # type: ignore[arg-type]
        proxy = Proxy(bounds, policy, Vault(bounds.away_seconds, path.parent), ledger, meter, names, lambda user: endpoint)
        with service.listening(path) as listening:
            await Gate(bounds, policy, proxy, ledger, lambda connection: USER).serve(listening)

    asyncio.run(serve())


if __name__ == "__main__":
    if sys.argv[1] == "upstream":
        upstream(Path(sys.argv[2]))
    else:
        gate(Path(sys.argv[2]), int(sys.argv[3]))
