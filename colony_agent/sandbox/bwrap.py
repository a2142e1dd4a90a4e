"""Bubblewrap: a container of namespaces that starts in milliseconds and needs neither root nor a daemon.

The machine's files in the home are covered by read-only, empty ones, and what instructs the agent by itself, read-only. A cover lasts
only as long as the file below it: whoever renames another file over a covered one, from outside, uncovers it for every sandbox that
runs. So those files are written in place, or while nothing runs. A covered folder stays covered, whatever is renamed within it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from colony.failures import CRASHED
from colony_agent.runner import RunnerFailed
from colony_agent.sandbox import instructions, view
from colony_agent.sandbox.command import Command, environment
from colony_agent.sandbox.gate import INSIDE, Gate
from colony_agent.settings import MACHINE_FILES, Home

ISOLATION = (
    *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    *("--die-with-parent", "--new-session", "--cap-drop", "ALL"),
)


@dataclass(frozen=True)
class Bwrap:
    """`keeps_history`: for git, which alone may write what the home's history is kept in, and needs no network."""

    home: Home
    gate: Gate | None
    binds: tuple[Path, ...] = ()
    keeps_history: bool = False
    honeytoken: str = ""

    def confine(self, argv: Sequence[str], env: Mapping[str, str], binds: Sequence[Path] = ()) -> Command:
        bwrap = shutil.which("bwrap")
        if not bwrap:
            raise RunnerFailed(CRASHED, "bwrap is not installed: apt-get install bubblewrap")
        home = self.home.path.absolute()
        uid = view.uid()
        leads = _leads(self.gate) if self.gate else []
        covers = [] if self._is_free else list(instructions.covers(home, writes_history=self.keeps_history))
        contents = {path: view.in_memory(text) for path, text in self._made_up(home, uid).items()}
        told, tells = os.pipe()
        words: list[str | int | Path] = [bwrap, *ISOLATION, "--info-fd", tells]
        words += ["--uid", uid, "--gid", uid, "--hostname", self.home.agent.name]
        words += ["--unshare-net"] if self.gate or self.keeps_history else []
        words += [*_system(), "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"]
        for path in (Path(sys.base_prefix), *self.binds, *binds):
            words += [] if path.is_relative_to("/usr") else ["--ro-bind", path.absolute(), path.absolute()]
        words += ["--bind", home, home]
        for path, content in contents.items():
            words += ["--ro-bind-data", content, path]
        for cover in covers:
            words += ["--bind" if cover.is_open else "--ro-bind", cover.path, cover.path]
        forwarder = self.gate.forwarder(INSIDE / self.gate.socket.name) if self.gate else []
        words += [*leads, "--remount-ro", "/", "--chdir", home, "--", *forwarder, *argv]
        return Command(
            argv=tuple(map(str, words)),
            # Not among the words, which every user of the host can read.
            env=environment(self.home, self.gate, env),
            cwd=home,
            descriptors=(tells, *contents.values()),
            namespace_pid=partial(_first_pid, told),
            explain=explain,
        )

    @property
    def _is_free(self) -> bool:
        return self.home.agent.may_write_instructions

    def _made_up(self, home: Path, uid: int) -> dict[Path, str]:
        """The texts of files that are not what the host has there. Raises `RunnerFailed`."""
        return {
            Path("/etc/passwd"): view.passwd(self.home, uid),
            Path("/etc/group"): view.group(self.home, uid),
            **dict.fromkeys((view.existing(home / name) for name in MACHINE_FILES), ""),
            **({} if self._is_free else {instructions.config_path(home): instructions.config(self.home.agent.name)}),
            **({view.HONEYTOKEN: f"{self.honeytoken}\n"} if self.honeytoken else {}),
        }


def explain(stderr: str) -> str | None:
    """Why the sandbox started nothing, or None if it is not the sandbox that speaks."""
    said = next((line for line in stderr.splitlines() if line.startswith(("bwrap: ", "forwarder: "))), None)
    if said is None:
        return None
    if "namespace" in said or "uid map" in said:
        return f"{said}; allow unprivileged user namespaces (sysctl user.max_user_namespaces, on Ubuntu an AppArmor profile for bwrap)"
    return f"the sandbox did not start: {said}"


def _system() -> Iterator[str | Path]:
    for path in view.system():
        yield from ("--ro-bind", path, path)
    for link, target in view.links().items():
        yield from ("--symlink", target, link)


def _leads(gate: Gate) -> list[str | Path]:
    return ["--ro-bind", gate.folder(), INSIDE, "--ro-bind", gate.script, gate.script]


def _first_pid(told: int) -> int | None:
    with open(told) as pipe:
        return json.loads(pipe.read() or "{}").get("child-pid")  # type: ignore[no-any-return]
