"""Procrastinate on a PostgreSQL cluster of its own."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from bench.figures import Missing
from bench.peers import postgres
from bench.processes import run, running

_COMMAND = [sys.executable, "-m", "procrastinate", "--app", "bench.peers.procrastinate_app.app"]


class Procrastinate:
    name = "Procrastinate"

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._env = {"BENCH_DATABASE": url}

    @classmethod
    @contextmanager
    def ready(cls, folder: Path) -> Iterator[Self]:
        """Raises `Missing`."""
        if importlib.util.find_spec("procrastinate") is None:
            raise Missing("procrastinate is not installed")
        with postgres.cluster(folder) as url:
            peer = cls(folder, url)
            run([*_COMMAND, "schema", "--apply"], env=peer._env)
            yield peer

    @contextmanager
    def worker(self) -> Iterator[int]:
        log = self._folder / "log"
        with running([*_COMMAND, "worker"], log, env=self._env, ready=lambda: "Starting worker" in log.read_text()) as process:
            yield process.pid

    def enqueue_rate(self, clients: int, seconds: float) -> float:
        return float(self._client("rate", str(clients), str(seconds)))

    def wakes(self, count: int) -> list[float]:
        return list(self._client("wakes", str(count)))

    def _client(self, *what: str) -> Any:
        return json.loads(run([sys.executable, "-m", "bench.peers.client", "procrastinate", *what], env=self._env))
