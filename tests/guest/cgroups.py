"""The cgroups of a guest on its host: one of its own in each hierarchy, so that it can be bounded, killed and removed whole.

On a host with cgroup v2 alone, systemd-nspawn hands its own cgroup on to the guest. On one with v1 controllers it hands on none of them,
and a guest would ignore MemoryMax= and the like in silence: there they are bound into it one by one.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
KILLED_WITHIN = 10.0  # seconds


def create(name: str, memory_bytes: int | None = None) -> None:
    """Make the cgroups of that name anew; `memory_bytes` bounds all that runs in them."""
    remove(name)
    for hierarchy in _hierarchies():
        cgroup = hierarchy / name
        if _is_unified() and hierarchy == ROOT:
            _enable_controllers()
        cgroup.mkdir()
        if (hierarchy / "cpuset.cpus").exists() and not _is_unified():
            _settle_cpuset(cgroup)
        limit = cgroup / ("memory.max" if _is_unified() else "memory.limit_in_bytes")
        if memory_bytes and limit.exists():
            limit.write_text(str(memory_bytes))


def enter(name: str) -> None:
    """Put this process into them."""
    for hierarchy in _hierarchies():
        (hierarchy / name / "cgroup.procs").write_text(str(os.getpid()))


def options(name: str) -> list[str]:
    """What systemd-nspawn must be told for a guest that can use them."""
    if _is_unified():
        return []
    # Without a /sys/fs/cgroup of its own nspawn would mount the controllers itself, read-only.
    binds = [f"--bind={hierarchy / name}:{hierarchy}" for hierarchy in _hierarchies() if _is_controller(hierarchy)]
    return [f"--tmpfs={ROOT}:mode=755", *binds]


def kill(name: str) -> None:
    """End all processes in them. The guest goes first: systemd-nspawn then cleans up after it, and ends by itself."""
    deadline = time.monotonic() + KILLED_WITHIN
    while living := _processes(name):
        guests = _processes(f"{name}/payload")
        patient = time.monotonic() < deadline - KILLED_WITHIN / 2
        for process in guests if patient else living:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes in the cgroups {name} do not die: {living}")
        time.sleep(0.01)


def remove(name: str) -> None:
    """Remove them; nothing may run in them any more."""
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / name, topdown=False):
            os.rmdir(folder)


def _processes(name: str) -> set[int]:
    found: set[int] = set()
    for hierarchy in _hierarchies():
        for listed in (hierarchy / name).rglob("cgroup.procs"):
            with suppress(FileNotFoundError, OSError):
                found.update(int(line) for line in listed.read_text().split())
    return found


def _is_unified() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def _hierarchies() -> list[Path]:
    """Where hierarchies are mounted: one on a host with v2 alone, else one for each v1 controller and up to two without any."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    points = [Path(line[4]) for line in lines if line[line.index("-") + 1] in ("cgroup", "cgroup2")]
    return [point for point in points if point == ROOT or point.parent == ROOT]


def _is_controller(hierarchy: Path) -> bool:
    """The guest's systemd mounts the two hierarchies without controllers itself."""
    return hierarchy.name not in ("systemd", "unified")


def _settle_cpuset(cgroup: Path) -> None:
    """Nothing can run in a cpuset that doesn't say where."""
    for setting in ("cpuset.cpus", "cpuset.mems"):
        (cgroup / setting).write_text((cgroup.parent / setting).read_text())
    (cgroup / "cgroup.clone_children").write_text("1")


def _enable_controllers() -> None:
    wanted = (ROOT / "cgroup.controllers").read_text().split()
    _write_all(ROOT / "cgroup.subtree_control", (f"+{controller}" for controller in wanted))


def _write_all(setting: Path, values: Iterable[str]) -> None:
    for value in values:
        setting.write_text(value)
