"""The peers: job queues that one would take instead, as they come, with their real workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Protocol

from bench.figures import Missing, Plan
from bench.peers.huey_peer import Huey
from bench.peers.procrastinate_peer import Procrastinate


class Peer(Protocol):
    name: str

    def worker(self) -> AbstractContextManager[int]:
        """The process id of an idle worker."""

    def enqueue_rate(self, clients: int, seconds: float) -> float:
        """Jobs per second that so many threads of one process enqueue, durably."""

    def wakes(self, count: int) -> list[float]:
        """Seconds from just before a job is enqueued until its function begins in the worker."""


PEERS: list[Callable[[Path], AbstractContextManager[Peer]]] = [Huey.ready, Procrastinate.ready]


@contextmanager
def idle_workers(plan: Plan) -> Iterator[dict[str, int]]:
    """The process ids of idle workers by peer; those that this machine can't run are left out."""
    with ExitStack() as stack:
        yield {peer.name: stack.enter_context(peer.worker()) for peer in _available(plan, stack)}


def enqueue_rates(plan: Plan, clients: int) -> dict[str, float]:
    with ExitStack() as stack:
        return {
            peer.name: max(peer.enqueue_rate(threads, plan.fewer(3, 1)) for threads in (1, clients)) for peer in _available(plan, stack)
        }


def wakes(plan: Plan) -> dict[str, list[float]]:
    with ExitStack() as stack:
        found = {}
        for peer in _available(plan, stack):
            with peer.worker():
                found[peer.name] = peer.wakes(plan.fewer(60, 20))
        return found


def _available(plan: Plan, stack: ExitStack) -> Iterator[Peer]:
    for ready in PEERS:
        folder = Path(mkdtemp(prefix="peer-", dir=plan.folder))
        try:
            yield stack.enter_context(ready(folder))
        except Missing as error:
            print(f"a peer is left out: {error}", flush=True)
