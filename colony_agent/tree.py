"""Ends a process with everything that descends from it."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 1.0  # between SIGTERM and SIGKILL
KEEPER_SECONDS = 0.5  # for a keeper to see that everything it kept is gone


def end(root: int, exited: int, is_keeper: bool) -> None:
    """SIGTERM, a second of grace, SIGKILL; harmless when it has ended by itself.

    `root` is an unreaped child that leads its process group, `exited` its pidfd. A keeper (bwrap) gets no signal as long as it
    does its work: it sees the last of its processes off, while the others would vanish a moment after a keeper that is killed.
    """
    if not _has_exited(exited, 0):
        _signal(signal.SIGTERM, [*_descendants(root), *([] if is_keeper else [root])])
        if not _has_exited(exited, GRACE_SECONDS):
            _kill(root, is_keeper)
            _has_exited(exited, KEEPER_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(root, signal.SIGKILL)


def _kill(root: int, is_keeper: bool) -> None:
    held: list[int] = []
    # What is stopped can't fork away from under the list.
    while found := [pid for pid in (root, *_descendants(root)) if pid not in held]:
        _signal(signal.SIGSTOP, found)
        held += found
    _signal(signal.SIGKILL, held[1:] if is_keeper else held)
    _signal(signal.SIGCONT, [root])


def _has_exited(exited: int, within_seconds: float) -> bool:
    return bool(select.select([exited], [], [], within_seconds)[0])


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]  # after the name, which may hold anything
                children.setdefault(int(parent), []).append(int(entry.name))
    found, unseen = [], list(children.get(root, ()))
    while unseen:
        found.append(pid := unseen.pop())
        unseen += children.get(pid, ())
    return found


def _signal(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
