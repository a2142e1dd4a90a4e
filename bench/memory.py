"""What a process holds and burns, as the kernel counts it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Memory:
    """Bytes: all that is mapped, what nobody else has mapped, and the share of both that is this process's due."""

    resident: int
    unique: int
    proportional: int


def of(pid: int) -> Memory:
    found: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        found[name.rstrip(":")] = int(size) * 1024
    return Memory(found["Rss"], found["Private_Clean"] + found["Private_Dirty"], found["Pss"])


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def processor_shares(pids: Sequence[int], seconds: float) -> dict[int, float]:
    """The part of one processor that each process uses, of all its threads, to the nanosecond; by process id."""
    before = {pid: _ran(pid) for pid in pids}
    began = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    return {pid: (_ran(pid) - before[pid]) / 1e9 / passed for pid in pids}


def _ran(pid: int) -> int:
    """Nanoseconds on a processor; the ticks of /proc/PID/stat are too coarse for an idle one."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
