"""What Procrastinate's worker and its clients load."""

from __future__ import annotations

import os

from procrastinate import App, PsycopgConnector

from bench.peers import bell

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_DATABASE"], max_size=16))


@app.task(name="ring")
async def ring(address: str) -> None:
    bell.ring(address)


def enqueue(address: str) -> None:
    ring.defer(address=address)
