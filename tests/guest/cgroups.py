"""The cgroups of a guest on its host: one of its own in each hierarchy, so that it can be bounded, killed and removed whole.

On a host with cgroup v2 alone, systemd-nspawn hands its own cgroup on to the guest. On one with v1 controllers it hands on none of them,
and a guest would ignore MemoryMax= and the like in silence: there they are bound into it one by one.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
WITHIN = 10.0  # seconds: so long may processes take to die


def create(name: str, memory_bytes: int | None = None) -> None:
    """Make the cgroups of that name anew; `memory_bytes` bounds all that runs in them, without swap."""
    remove(name)
    if _is_v2_alone():
        _enable_controllers()
    for hierarchy in _hierarchies():
        cgroup = hierarchy / name
        cgroup.mkdir()
        if (cgroup / "cgroup.clone_children").exists() and (cgroup / "cpuset.cpus").exists():
            _settle_cpuset(cgroup)
        if memory_bytes:
            _bound_memory(cgroup, memory_bytes)


def enter(name: str) -> None:
    """Put this process into them."""
    for hierarchy in _hierarchies():
        (hierarchy / name / "cgroup.procs").write_text(str(os.getpid()))


def options(name: str) -> list[str]:
    """What systemd-nspawn must be told for a guest that can use them."""
    if _is_v2_alone():
        return []
    # Without a /sys/fs/cgroup of its own nspawn would mount the controllers itself, read-only.
    binds = [f"--bind={hierarchy / name}:{hierarchy}" for hierarchy in _hierarchies() if _has_controller(hierarchy)]
    return [f"--tmpfs={ROOT}:mode=755", *binds]


def kill(name: str) -> None:
    """End all processes in them. The guest goes first: systemd-nspawn then cleans up after it, and ends by itself."""
    began = time.monotonic()
    while living := _processes(name):
        waited = time.monotonic() - began
        if waited > WITHIN:
            raise TimeoutError(f"processes in the cgroups {name} do not die: {living}")
        for process in _processes(f"{name}/payload") if waited < WITHIN / 2 else living:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def remove(name: str) -> None:
    """Remove them; all that ran in them must be dead or dying."""
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / name, topdown=False):
            _remove_empty(Path(folder))


def _remove_empty(cgroup: Path) -> None:
    began = time.monotonic()
    while True:
        try:
            return cgroup.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() - began > WITHIN:
                raise
            time.sleep(0.01)


def _processes(name: str) -> set[int]:
    found: set[int] = set()
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / name):
            with suppress(FileNotFoundError, OSError):  # it is gone by now
                found.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
    return found


def _is_v2_alone() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def _hierarchies() -> list[Path]:
    """Where they are mounted: one on a host with v2 alone, else one for each v1 controller and up to two without any."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    points = [Path(line[4]) for line in lines if line[line.index("-") + 1] in ("cgroup", "cgroup2")]
    return [point for point in points if ROOT in (point, point.parent)]


def _has_controller(hierarchy: Path) -> bool:
    """The guest's systemd mounts the two without any itself."""
    return hierarchy.name not in ("systemd", "unified")


def _enable_controllers() -> None:
    for controller in (ROOT / "cgroup.controllers").read_text().split():
        (ROOT / "cgroup.subtree_control").write_text(f"+{controller}")


def _settle_cpuset(cgroup: Path) -> None:
    """Nothing can run in a cpuset of v1 that doesn't say where."""
    for setting in ("cpuset.cpus", "cpuset.mems"):
        (cgroup / setting).write_text((cgroup.parent / setting).read_text())
    (cgroup / "cgroup.clone_children").write_text("1")


def _bound_memory(cgroup: Path, memory_bytes: int) -> None:
    limit = str(memory_bytes)
    limits = {"memory.max": limit, "memory.swap.max": "0", "memory.limit_in_bytes": limit, "memory.memsw.limit_in_bytes": limit}
    for setting, value in limits.items():
        if (cgroup / setting).exists():
            (cgroup / setting).write_text(value)
