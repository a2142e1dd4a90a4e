"""Ends a process with everything that descends from it."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

GRACE_SECONDS = 0.7  # between SIGTERM and SIGKILL: a stop that people ask for takes 2 s at most
DEATH_SECONDS = 0.5  # for the kernel to carry a SIGKILL out


class _Id(NamedTuple):
    """Never another process, even when the number is used again."""

    pid: int
    started: int


class _Living(NamedTuple):
    id: _Id
    parent: int
    group: int


@contextmanager
def watched(pid: int | None) -> Iterator[int | None]:
    """A descriptor that turns readable when the process has ended; None if there is no such process."""
    try:
        descriptor = os.pidfd_open(pid) if pid else None
    except ProcessLookupError:
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def end(root: int, exited: int, emptied: int | None) -> None:
    """SIGTERM, a moment of grace, SIGKILL; of a process that ended by itself, what it left.

    `root` is an unreaped child that leads its process group. If it only watches over a PID namespace, `emptied` tells of the first
    process in there, whose end is the end of all others. Without a namespace, a daemon that left both its parent and its group escapes.
    """
    family: Set[_Id] = frozenset()
    if not _has_ended(exited, 0):
        family = _hold(root, family)
        told = [id for id in family if id.pid != root or emptied is None]
        _signal(signal.SIGTERM, told)
        _signal(signal.SIGCONT, family)
        _has_ended(exited, GRACE_SECONDS)
    if emptied is not None and not _has_ended(emptied, 0):
        signal.pidfd_send_signal(emptied, signal.SIGKILL)
        _has_ended(emptied, DEATH_SECONDS)
    deadline = time.monotonic() + DEATH_SECONDS
    while (family := _hold(root, family)) and time.monotonic() < deadline:
        _signal(signal.SIGKILL, family)
        time.sleep(0.001)


def _has_ended(watched: int, within_seconds: float) -> bool:
    return bool(select.select([watched], [], [], within_seconds)[0])


def _hold(root: int, known: Set[_Id]) -> Set[_Id]:
    """The family, stopped: none of it can fork away from under the list."""
    held: Set[_Id] = frozenset()
    while new := _family(root, known | held) - held:
        _signal(signal.SIGSTOP, new)
        held |= new
    return held


def _family(root: int, known: Set[_Id]) -> Set[_Id]:
    living = list(_living())
    family = {one.id for one in living if root in (one.id.pid, one.group) or one.id in known}
    while children := {one.id for one in living if one.parent in {id.pid for id in family}} - family:
        family |= children
    return family


def _living() -> Iterator[_Living]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                # proc(5), from the third field on: the second is a name, which may hold anything.
                state, parent, group, *rest = (entry / "stat").read_text().rpartition(")")[2].split()
                if state not in "ZX":
                    yield _Living(_Id(int(entry.name), int(rest[16])), int(parent), int(group))


def _signal(number: signal.Signals, ids: Set[_Id] | list[_Id]) -> None:
    for id in ids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(id.pid, number)
