"""Podman: a container with an operator's image, or with this host's /usr. Without root, without a daemon, and nothing is left of it.

Podman runs in namespaces of its own (`container_stage`), in which it is root and outside of which it is the agent: so it needs no range of
user ids, no cgroup, no service and no folder, and the end of the first process in there is the end of podman and of all that it started.
The container's processes stay in the cgroup of whoever starts them, within its bounds.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from colony.failures import CRASHED
from colony_agent.runner import RunnerFailed
from colony_agent.sandbox import container_stage as stage
from colony_agent.sandbox import instructions, view
from colony_agent.sandbox.command import Command, environment
from colony_agent.sandbox.gate import INSIDE, Gate
from colony_agent.settings import MACHINE_FILES, Home
from provisioning.reach import PODMAN

NAMESPACES = ("--user", "--map-root-user", "--mount", "--mount-proc", "--pid", "--cgroup", "--fork", "--kill-child=KILL")
ENGINE = (
    *("--runtime", stage.RUNTIME, "--cgroup-manager", "cgroupfs", "--tmpdir", f"{stage.PLACE}/tmp"),
    *("--events-backend", "none", "--log-level", "error"),
)
CONTAINER = (
    *("--interactive", "--log-driver", "passthrough", "--pidfile", stage.STARTED, "--pull", "never", "--entrypoint", "", "--init"),
    *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
    *("--security-opt", "apparmor=unconfined", "--security-opt", "label=disable"),  # only the host's root could load any
    *("--read-only", "--read-only-tmpfs=false", "--cgroups", "disabled", "--ulimit", "host", "--oom-score-adj", "1000"),
    *("--env-file", f"{stage.PLACE}/variables"),
    *("--network", "host", "--no-hosts", "--dns", "none", "--http-proxy=false"),  # "host" is the namespace that podman is in
)
PRIVATE = (
    "type=tmpfs,destination=/tmp,notmpcopyup,tmpfs-mode=1777",
    "type=tmpfs,destination=/run,notmpcopyup,tmpfs-mode=1777",
    "type=tmpfs,destination=/sys,notmpcopyup,ro",
)
BAIT = f"{stage.PLACE}/honeytoken"
SETTINGS = "[containers]\ndefault_sysctls = []\nkeyring = false\n"
STORAGE = f'[storage]\ndriver = "vfs"\ngraphroot = "{stage.PLACE}/storage"\nrunroot = "{stage.PLACE}/run"\n'
ITS_OWN = {  # podman's environment, which nothing of the agent's changes
    "HOME": stage.PLACE,
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TMPDIR": stage.PLACE,
    "CONTAINERS_CONF": f"{stage.PLACE}/containers.conf",
    "CONTAINERS_STORAGE_CONF": f"{stage.PLACE}/storage.conf",
}
CRUN = re.compile(r'\{"msg":"(.*)","level":"error","time":"[^"]*"\}')  # as it speaks where podman is no longer listening
NO_PROGRAM = "ERROR (catatonit:2): failed to exec pid1: "  # says the first process of the container


@dataclass(frozen=True)
class Podman:
    home: Home
    gate: Gate | None
    binds: tuple[Path, ...] = ()
    honeytoken: str = ""

    def confine(self, argv: Sequence[str], env: Mapping[str, str], binds: Sequence[Path] = ()) -> Command:
        self._require_engine()
        mounts = list(self._mounts(binds))
        words = [word for mount in (*PRIVATE, *mounts) for word in ("--mount", str(mount))]
        run = ["podman", *ENGINE, "run", *CONTAINER, *self._identity(), *words, "--rootfs", stage.ROOT, *argv]
        # Not among the words, which every user of the host can read, and not podman's own, which some would steer.
        variables = _lines(environment(self.home, self.gate, env))
        order = view.in_memory(json.dumps(self._order(run, mounts, variables)))
        apart = ("setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, *(("--net",) if self.gate else ()), "--")
        # From its source: bytecode of another release must never be given these orders.
        script = (os.path.realpath(sys.executable), "-I", "-S", stage.__file__, str(order))
        return Command((*apart, *script), ITS_OWN, self.home.path.absolute(), (order,), explain=partial(explain, argv[0]))

    def _require_engine(self) -> None:
        for program in PODMAN:
            if not shutil.which(program):
                raise RunnerFailed(CRASHED, f"{program} is not installed: apt-get install {program}")
        image = self.home.agent.image
        if image and not Path(image, "usr").is_dir():
            raise RunnerFailed(CRASHED, f"agent.image holds no root file system: {image}")

    def _identity(self) -> Iterator[str]:
        uid = view.uid()
        yield from ("--user", f"{uid}:{uid}", "--uidmap", f"{uid}:0:1", "--gidmap", f"{uid}:0:1")
        yield from ("--hostname", self.home.agent.name, "--workdir", str(self.home.path.absolute()))

    def _mounts(self, binds: Sequence[Path]) -> Iterator[Mount]:
        """Podman puts them in the order of their depth."""
        home, image = self.home.path.absolute(), self.home.agent.image
        yield from () if image else (Mount(path, path) for path in view.system())
        outside = [path.absolute() for path in (Path(sys.base_prefix), *self.binds, *binds) if not view.is_system(path)]
        yield from (Mount(path, path) for path in outside)
        yield from (Mount(self.gate.folder(), INSIDE),) if self.gate else ()
        yield Mount(home, home, is_open=True)
        yield from (Mount(Path(BAIT), view.HONEYTOKEN),) if self.honeytoken else ()
        yield from (Mount(Path(stage.EMPTY), view.existing(home / name)) for name in MACHINE_FILES)
        if not self.home.agent.may_write_instructions:
            yield Mount(Path(stage.PLACE, instructions.CONFIG), instructions.config_path(home))
            yield from (Mount(cover.path, cover.path, cover.is_open) for cover in instructions.covers(home))

    def _order(self, argv: Sequence[str], mounts: Sequence[Mount], variables: str) -> Mapping[str, object]:
        """What `container_stage` is to do."""
        outer = [mount for mount in mounts if self.home.path.absolute() not in mount.destination.parents]
        folders = [str(mount.destination) for mount in outer if mount.source.is_dir()]
        points = {str(mount.destination): "" for mount in outer if not mount.source.is_dir()}
        accounts = {"/etc/passwd": view.passwd(self.home, view.uid()), "/etc/group": view.group(self.home, view.uid())}
        return {
            "image": self.home.agent.image,
            "links": {} if self.home.agent.image else {str(path): str(target) for path, target in view.links().items()},
            "folders": folders,
            "files": {**points, **accounts},
            "settings": {
                "containers.conf": SETTINGS,
                "storage.conf": STORAGE,
                "honeytoken": f"{self.honeytoken}\n",
                instructions.CONFIG: instructions.config(self.home.agent.name),
                "variables": variables,
            },
            "argv": [*(self.gate.forwarder(self.gate.socket) if self.gate else []), *argv],
            "has_gate": self.gate is not None,
        }


@dataclass(frozen=True)
class Mount:
    source: Path
    destination: Path
    is_open: bool = False  # it can be written

    def __str__(self) -> str:
        """In podman's words: a line of CSV."""
        line = io.StringIO()
        words = ("type=bind", f"source={self.source}", f"destination={self.destination}", f"ro={str(not self.is_open).lower()}")
        csv.writer(line, lineterminator="").writerow(words)
        return line.getvalue()


def _lines(variables: Mapping[str, str]) -> str:
    """As podman reads them from a file, which knows no quotes. Raises `RunnerFailed` for what would be another variable there."""
    for name, value in variables.items():
        if "\n" in value:
            raise RunnerFailed(CRASHED, f"podman takes no variable of more than one line: {name}")
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def explain(program: str, stderr: str) -> str | None:
    """Why the container did not start, or None if it is not the engine that speaks."""
    lines = stderr.strip().splitlines() or [""]
    if lines[-1].startswith("unshare: "):
        return f"{lines[-1]}; allow unprivileged user namespaces (sysctl user.max_user_namespaces, on Ubuntu an AppArmor profile)"
    if lines[-1].startswith(NO_PROGRAM):
        return f"the sandbox did not start: can't start {program}: {lines[-1].removeprefix(NO_PROGRAM)}"
    if found := CRUN.fullmatch(lines[-1]):
        return f"the sandbox did not start: crun: {found[1]}"
    if lines[-1] != stage.COULD_NOT:
        return None
    reasons = [line for line in lines[:-1] if line.startswith(("Error: ", "mount: ", "forwarder: "))]
    return f"the sandbox did not start: {(reasons or lines)[-1]}"
