"""Huey on SQLite, with fsync."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from bench.figures import Missing
from bench.processes import run, running

MAX_DELAY_SECONDS = 0.1  # of its polling; the default lets an idle worker sleep for up to 10 s


class Huey:
    name = "Huey"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._env = {"BENCH_DATABASE": str(folder / "huey.db")}

    @classmethod
    @contextmanager
    def ready(cls, folder: Path) -> Iterator[Self]:
        """Raises `Missing`."""
        if importlib.util.find_spec("huey") is None:
            raise Missing("huey is not installed")
        yield cls(folder)

    @contextmanager
    def worker(self) -> Iterator[int]:
        log = self._folder / "log"
        consumer = "from huey.bin.huey_consumer import consumer_main; consumer_main()"
        argv = [sys.executable, "-c", consumer, "bench.peers.huey_app.huey", "--max-delay", str(MAX_DELAY_SECONDS)]
        with running(argv, log, env=self._env, ready=lambda: "ring" in log.read_text()) as process:
            yield process.pid

    def enqueue_rate(self, clients: int, seconds: float) -> float:
        return float(self._client("rate", str(clients), str(seconds)))

    def wakes(self, count: int) -> list[float]:
        return list(self._client("wakes", str(count)))

    def _client(self, *what: str) -> Any:
        return json.loads(run([sys.executable, "-m", "bench.peers.client", "huey", *what], env=self._env))
