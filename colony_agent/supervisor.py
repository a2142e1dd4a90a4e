"""Keeps child processes running where there is no systemd, and ends them all together."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from colony import lifeline

RESTART_SECONDS = (0.2, 0.5, 1, 2, 5)
STEADY_SECONDS = 10.0  # a child that ran this long starts its back-off anew
MAX_LOG_BYTES = 10 * 2**20


@dataclass
class _Child:
    argv: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Supervisor:
    """Starts children, starts them again when they end, and ends them, the last one first, when the `with` block does."""

    def __init__(self, logs: Path, stop_seconds: float) -> None:
        self._logs = logs
        self._stop_seconds = stop_seconds
        self._children: dict[str, _Child] = {}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        deadline = time.monotonic() + self._stop_seconds
        # Agents before their server: they hand their work back to it.
        for child in reversed(self._children.values()):
            with child.lock:
                process = child.process
            if process:
                _end(process, deadline)
        for thread in self._threads:
            thread.join()

    def start(self, name: str, argv: Sequence[str]) -> None:
        """Begin to keep a child running; its output goes to a log file."""
        child = self._children[name] = _Child(argv, self.log(name))
        if child.log.exists() and child.log.stat().st_size > MAX_LOG_BYTES:
            child.log.replace(child.log.with_suffix(".log.1"))
        # The kernel ends a child when the thread that started it ends: each has a thread that lives as long.
        thread = threading.Thread(target=self._keep, args=(child,), name=name)
        self._threads.append(thread)
        thread.start()

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def has_failed(self, name: str) -> bool:
        """Whether the child has ended at least once without having run for long."""
        return self._children[name].failures > 0

    def last_words(self, name: str) -> str:
        """The last line that the child wrote."""
        lines = self.log(name).read_text(errors="replace").strip().splitlines() if self.log(name).exists() else []
        return lines[-1] if lines else ""

    def _keep(self, child: _Child) -> None:
        while True:
            with child.lock, open(child.log, "ab") as log:
                if self._stopping.is_set():
                    return
                began = time.monotonic()
                child.process = subprocess.Popen(
                    child.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=_die_with_supervisor,
                )
            child.process.wait()
            if time.monotonic() - began > STEADY_SECONDS:
                child.failures = 0
            pause = RESTART_SECONDS[min(child.failures, len(RESTART_SECONDS) - 1)]
            child.failures += 1
            if self._stopping.wait(pause):
                return


def _end(process: subprocess.Popen[bytes], deadline: float) -> None:
    """SIGTERM, then SIGKILL for the whole session."""
    process.terminate()
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()


def _die_with_supervisor() -> None:
    lifeline.die_with_parent(os.getppid(), signal.SIGTERM)
