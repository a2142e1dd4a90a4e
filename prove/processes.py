"""The processes of a colony that is to be killed: kept running, found and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from colony import lifeline

RESTART_SECONDS = 0.1


class Kept:
    """A process that is started again whenever it ends, as systemd would, until it is let go."""

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self._argv, self._log, self._env = argv, log, env
        self.ends = 0  # how often it has ended
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        # The kernel ends a child when the thread that started it ends: this one lives as long.
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """None while it is not running."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    def kill(self) -> bool:
        """Whether there was something to kill."""
        return self.pid is not None and send(self.pid, signal.SIGKILL)

    def let_go(self, seconds: float) -> None:
        """End it by SIGTERM, and after so long by SIGKILL, for good."""
        self._over.set()
        process = self._process
        if process:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            process.kill()
        self._thread.join()

    def _keep(self) -> None:
        while not self._over.is_set():
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._env,
                    start_new_session=True,
                    preexec_fn=_die_with_this,
                )
            if self._over.is_set():  # it was let go while it was being started
                self._process.kill()
            self._process.wait()
            self.ends += 1
            self._over.wait(RESTART_SECONDS)


def children(pid: int) -> list[int]:
    """The processes that it has started and not reaped; none when it is gone."""
    try:
        return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        return []


def leaf(pid: int) -> int:
    """The innermost of its descendants: what a sandbox holds."""
    below = children(pid)
    return leaf(below[-1]) if below else pid


def parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def send(pid: int, number: signal.Signals) -> bool:
    """Whether the process was there to get the signal."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def _die_with_this() -> None:
    lifeline.die_with_parent(os.getppid())
