"""Processes that never outlive the measurement, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
START_SECONDS = 20.0
STOP_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1


@contextmanager
def running(
    argv: Sequence[str | Path],
    log: Path,
    *,
    ready: Callable[[], bool] = lambda: True,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once it is `ready`; afterwards it and all its children are gone. What it says goes to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            cwd=REPOSITORY if user is None else "/",
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=user,
            start_new_session=True,  # Ctrl-C is ours to handle, and what remains can be killed as a group
            preexec_fn=_die_with_parent,
        )
    try:
        _wait_until(ready, process, log)
        yield process
    finally:
        _end(process, stop)


def run(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, user: str | None = None, seconds: float = 60) -> str:
    """What the command prints. Raises `RuntimeError`, with its last words, when it fails."""
    process = subprocess.Popen(
        argv,
        cwd=REPOSITORY if user is None else "/",
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        user=user,
        text=True,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )
    try:
        output, complaint = process.communicate(timeout=seconds)
    finally:
        _end(process, signal.SIGKILL)
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))} failed:\n{complaint[-2000:]}")
    return output


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{' '.join(map(str, process.args))} did not start:\n{log.read_text(errors='replace')[-2000:]}")  # type: ignore[arg-type]
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes] | subprocess.Popen[str], stop: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(stop)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
