"""What the kernel holds a process to, whatever its unit says: cgroup v2, v1, or both beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILES = {"memory": ("memory.max", "memory.limit_in_bytes"), "pids": ("pids.max", "pids.max")}  # of v2, of v1
_BOUNDLESS = 2**62  # v1 has a number for "no limit", which depends on the size of a page


@dataclass(frozen=True)
class Held:
    """The process' cgroup for each controller that there is, and its limits; None: no limit."""

    paths: Mapping[str, str]
    memory_bytes: int | None = None
    tasks: int | None = None


@dataclass(frozen=True)
class Hierarchy:
    """Where one is mounted. `root` is the cgroup that is seen there as the topmost."""

    mount: Path
    root: str
    is_v2: bool

    def folder(self, path: str) -> Path:
        return self.mount / path.removeprefix(self.root.rstrip("/")).lstrip("/")


def read(pid: int, proc: Path = Path("/proc"), slice: str = "") -> Held:
    """Of the cgroups that the process is in; of those above them that belong to the slice, if one is named.

    Raises `OSError` when there is no such process any more.
    """
    paths = memberships((proc / str(pid) / "cgroup").read_text())
    if slice:
        paths = {controller: f"{path.partition(f'/{slice}/')[0]}/{slice}" for controller, path in paths.items()}
    hierarchies = mounted((proc / "self/mountinfo").read_text())
    held: dict[str, str] = {}
    limits: dict[str, int | None] = {}
    for controller, (file_of_v2, file_of_v1) in FILES.items():
        key = controller if controller in paths else ""  # what has no hierarchy of its own is v2's
        hierarchy = hierarchies.get(key)
        if key not in paths or not hierarchy:
            continue
        file = hierarchy.folder(paths[key]) / (file_of_v2 if hierarchy.is_v2 else file_of_v1)
        if file.exists():
            held[controller], limits[controller] = paths[key], limit(file.read_text())
    return Held(held, limits.get("memory"), limits.get("pids"))


def folder(pid: int) -> Path | None:
    """Of the process in cgroup v2; None where there is no v2."""
    path = memberships(Path(f"/proc/{pid}/cgroup").read_text()).get("")
    hierarchy = mounted(Path("/proc/self/mountinfo").read_text()).get("")
    return hierarchy.folder(path) if path is not None and hierarchy else None


def memberships(text: str) -> dict[str, str]:
    """A process' cgroups by their controllers, as /proc/PID/cgroup lists them; v2's is under the empty name."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def mounted(mountinfo: str) -> dict[str, Hierarchy]:
    """Where each controller is mounted; v2 is under the empty name."""
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        own, _, rest = line.partition(" - ")
        fields, kind = own.split(), rest.split()[0]
        if kind == "cgroup2":
            found.setdefault("", Hierarchy(Path(fields[4]), fields[3], True))
        elif kind == "cgroup":
            for controller in rest.split()[2].split(","):
                found.setdefault(controller, Hierarchy(Path(fields[4]), fields[3], False))
    return found


def limit(text: str) -> int | None:
    """None where there is none."""
    said = text.strip()
    return None if said == "max" or int(said) >= _BOUNDLESS else int(said)
