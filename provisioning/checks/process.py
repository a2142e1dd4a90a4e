"""An agent's worker as the kernel sees it: whether what its unit says is really in force."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioning import places, units
from provisioning.checks import cgroup
from provisioning.checks.finding import HOST, Finding, Findings
from provisioning.checks.resident import Resident
from provisioning.checks.scene import Scene
from provisioning.systemd import Limits

PROC = Path("/proc")
PAGE_BYTES = 4096  # the kernel counts memory in pages
RELOAD = "systemctl daemon-reload"
_RELEASE = re.compile(rf"{re.escape(str(places.RELEASES))}/([^/\0]+)")
_HIDDEN = frozenset({"hidepid=invisible", "hidepid=2"})


@dataclass(frozen=True)
class Mounts:
    """How a process sees the file system: each place's kind of file system and its options."""

    options: Mapping[str, frozenset[str]]
    kinds: Mapping[str, str]


def privileges(scene: Scene, resident: Resident) -> Findings:
    """Whether it could become more than it is."""
    if pid := _pid(scene, resident):
        uid = resident.account.pw_uid if resident.account else None
        yield from sealed(resident.name, (PROC / str(pid) / "status").read_text(), uid)


def sealed(name: str, status: str, uid: int | None) -> Findings:
    """Of a process' status, as proc(5) has it."""
    said = dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))
    wrong = []
    if said.get("NoNewPrivs") != "1":
        wrong.append("it may gain privileges (NoNewPrivs is 0)")
    if said.get("Seccomp") != "2":
        wrong.append("no system call is filtered (Seccomp is 0)")
    held = [kind for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(said.get(kind, "0"), 16)]
    if held:
        wrong.append(f"it holds capabilities ({', '.join(held)})")
    if uid is not None and {*said.get("Uid", "").split()} != {str(uid)}:
        wrong.append(f"it runs as the uid {said.get('Uid', '?').split()[0]}, not {uid}")
    if wrong:
        yield Finding(name, f"its worker is not sealed: {'; '.join(wrong)}", _sealed_again(name))


def view(scene: Scene, resident: Resident) -> Findings:
    """Whether it sees no more than it should of files, processes and the network."""
    scene.require_root()
    if pid := _pid(scene, resident):
        shared = [kind for kind in ("mnt", "ipc", "net") if _namespace(pid, kind) == _namespace(1, kind)]
        mounts = read_mounts((PROC / str(pid) / "mountinfo").read_text())
        yield from narrow(resident.name, shared, mounts)


def narrow(name: str, shared: list[str], mounts: Mounts) -> Findings:
    """`shared` are the namespaces that it should have for itself, and shares with the machine."""
    names = {"mnt": "file systems", "ipc": "shared memory", "net": "network"}
    wrong = [f"it has not its own {names[kind]}" for kind in shared]
    if "ro" not in mounts.options.get("/", ()):
        wrong.append("the system can be written")
    if not mounts.options.get("/proc", frozenset()) & _HIDDEN:
        wrong.append("it sees the processes of others")
    if mounts.kinds.get("/home") != "tmpfs":
        wrong.append("it sees the homes of others")
    if wrong:
        yield Finding(name, f"its worker sees too much: {'; '.join(wrong)}", _sealed_again(name))


def limits(scene: Scene, resident: Resident) -> Findings:
    """Whether the kernel holds it to what its unit says: some machines ignore limits, and say nothing."""
    if pid := _pid(scene, resident):
        unit = units.worker(resident.name)
        held = cgroup.read(pid)
        yield from held_to(resident.name, unit, scene.systemd.limits(unit), held)


def held_to(name: str, unit: str, wanted: Limits, held: cgroup.Held) -> Findings:
    for path in sorted({path for path in held.paths.values() if not path.endswith(f"/{unit}")}):
        what = f"its worker is not in the cgroup of its unit but in {path}: other limits hold for it"
        yield Finding(name, what, f"colony-agent restart {name}")
    missing = [kind for kind in ("memory", "pids") if kind not in held.paths]
    if missing:
        what = f"this kernel limits nobody's {' or '.join(missing)}: that controller is switched off"
        yield Finding(name, what, "add cgroup_enable=memory to the kernel's command line, or use cgroup v2; then boot again")
    if "memory" in held.paths and not _is_held(wanted.memory_bytes, held.memory_bytes):
        what = f"its memory is not limited as its unit says: {_shown(held.memory_bytes)}, not {_shown(wanted.memory_bytes)}"
        yield Finding(name, what, f"colony-agent restart {name}")
    if "pids" in held.paths and held.tasks != wanted.tasks:
        what = f"the number of its processes is not limited as its unit says: {held.tasks or 'any'}, not {wanted.tasks or 'any'}"
        yield Finding(name, what, f"colony-agent restart {name}")


def together(scene: Scene, everyone: Sequence[Resident]) -> Findings:
    """Whether the kernel holds all agents together to what their slice says."""
    pid = next((pid for each in everyone if (pid := _pid(scene, each))), 0)
    if pid:
        yield from held_together(scene.systemd.limits(units.SLICE), cgroup.read(pid, slice=units.SLICE))


def held_together(wanted: Limits, held: cgroup.Held) -> Findings:
    if "memory" in held.paths and not _is_held(wanted.memory_bytes, held.memory_bytes):
        limit = f"{_shown(held.memory_bytes)}, not {_shown(wanted.memory_bytes)}"
        yield Finding(HOST, f"the memory of all agents together is not limited as {units.SLICE} says: {limit}", RELOAD)
    if "pids" in held.paths and held.tasks != wanted.tasks:
        limit = f"{held.tasks or 'any'}, not {wanted.tasks or 'any'}"
        yield Finding(HOST, f"the number of all agents' processes is not limited as {units.SLICE} says: {limit}", RELOAD)


def code(scene: Scene, resident: Resident) -> Findings:
    """Whether it runs the release that its unit names."""
    if (pid := _pid(scene, resident)) and resident.release:
        running = _RELEASE.search((PROC / str(pid) / "cmdline").read_text(errors="replace"))
        if running and running[1] != resident.release.name:
            what = f"its worker still runs the release {running[1]}, and its unit names {resident.release.name}"
            yield Finding(resident.name, what, f"colony-agent restart {resident.name}", "warning")


def read_mounts(mountinfo: str) -> Mounts:
    """The last mount at each place, which is the one that is seen."""
    options, kinds = {}, {}
    for line in mountinfo.splitlines():
        own, _, rest = line.partition(" - ")
        fields, (kind, _, super_options) = own.split(), rest.split()[:3]
        options[fields[4]] = frozenset((*fields[5].split(","), *(each for each in super_options.split(",") if each.startswith("hidepid"))))
        kinds[fields[4]] = kind
    return Mounts(options, kinds)


def _is_held(wanted: int | None, held: int | None) -> bool:
    if wanted is None or held is None:
        return wanted is held
    return wanted // PAGE_BYTES == held // PAGE_BYTES


def _shown(memory_bytes: int | None) -> str:
    return "as much as there is" if memory_bytes is None else f"{memory_bytes / 2**20:.0f} MB"


def _sealed_again(name: str) -> str:
    return f"systemctl revert {units.worker(name)}; colony-agent restart {name}"


def _pid(scene: Scene, resident: Resident) -> int:
    state = scene.systemd.state(units.worker(resident.name))
    return state.pid if state.active == "active" else 0


def _namespace(pid: int, kind: str) -> str:
    return str((PROC / str(pid) / "ns" / kind).readlink())
