"""A peer's client in a process of its own: `python -m bench.peers.client huey rate 16 3`, or `… wakes 60`; answers in JSON."""

from __future__ import annotations

import importlib
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext

from bench.peers.bell import Bell

Enqueue = Callable[[str], None]


def rate(enqueue: Enqueue, clients: int, seconds: float) -> float:
    counts = [0] * clients
    until = time.monotonic() + seconds

    def work(place: int) -> None:
        while time.monotonic() < until:
            enqueue("")
            counts[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


def wakes(enqueue: Enqueue, count: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/bell"
        bell = Bell(address)
        waits = []
        for _ in range(count + 1):
            time.sleep(random.uniform(0.02, 0.12))  # no polling is hit in its rhythm
            began = time.monotonic()
            enqueue(address)
            waits.append(bell.heard() - began)
    return waits[1:]  # the first one also connects


def main(peer: str, what: str, *numbers: str) -> None:
    module = importlib.import_module(f"bench.peers.{peer}_app")
    with module.app.open() if peer == "procrastinate" else nullcontext():
        module.enqueue("")
        if what == "rate":
            print(json.dumps(rate(module.enqueue, int(numbers[0]), float(numbers[1]))))
        else:
            print(json.dumps(wakes(module.enqueue, int(numbers[0]))))


if __name__ == "__main__":
    main(*sys.argv[1:])
