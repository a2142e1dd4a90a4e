"""The processes of a machine by the unit that they belong to, as its cgroups tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.guest.guest import Guest

OURS = ("colony-", "agent-")  # how the colony's units begin
GATE = "colony-egress.service"  # has tests of its own, and so has what leads to it from a sandbox


@dataclass(frozen=True)
class Process:
    pid: int  # in the machine
    parent: int
    unit: str
    argv: tuple[str, ...]


def of_colony(machine: Guest) -> list[Process]:
    """All processes of the colony's units, parents before their children; without those that lead out to the network."""
    ours = (process for process in _all(machine) if process.unit.startswith(OURS) and process.unit != GATE)
    found = {process.pid: process for process in ours if not any("sandbox/__pycache__/forwarder" in word for word in process.argv[:4])}

    def depth(process: Process) -> int:
        return 1 + depth(found[process.parent]) if process.parent in found else 0

    return sorted(found.values(), key=lambda process: (process.unit, depth(process), process.pid))


def kill(machine: Guest, processes: list[Process], signal: str = "KILL") -> None:
    """At once, as far as one process can; who is gone already is no failure."""
    machine.run("kill", f"-{signal}", *(str(process.pid) for process in processes), check=False)


def _all(machine: Guest) -> Iterator[Process]:
    for folder in machine.path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):  # it is gone by now
                argv = (folder / "cmdline").read_text(errors="replace").split("\0")[:-1]
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if argv:  # else it is a thread of the kernel, or dead
                    yield Process(int(folder.name), parent, _unit(folder), tuple(argv))


def _unit(folder: Path) -> str:
    """The last part of its cgroup that names a service. With cgroup v1 systemd's own hierarchy knows; with v2 there is one."""
    for line in (folder / "cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if controllers == "name=systemd" or number == "0":
            services = [part for part in path.split("/") if part.endswith(".service")]
            if services:
                return services[-1]
    return ""
