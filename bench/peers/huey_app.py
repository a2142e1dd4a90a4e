"""What Huey's consumer and its clients load."""

from __future__ import annotations

import os

from huey import SqliteHuey  # type: ignore[import-untyped]

from bench.peers import bell

huey = SqliteHuey(filename=os.environ["BENCH_DATABASE"], fsync=True, results=False)


@huey.task()  # type: ignore[untyped-decorator]
def ring(address: str) -> None:
    bell.ring(address)


def enqueue(address: str) -> None:
    ring(address)
