"""What tests do with a machine as a host: other versions of the code, steps that were done, what is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.guest.guest import Guest
from tests.guest.layers import INSTALLS_WITHIN, SOURCE

FAILPOINTS = "/run/failpoints"
SERVER = "colony-server.service"
PLACES = ("/etc", "/home", "/opt", "/srv", "/usr", "/var")
CHANGING = ("/var/tmp", "/var/log", "/var/cache", "/usr/src")  # by themselves, or by the tests


def steps(machine: Guest, *options: str, command: str = "install", **more: Any) -> list[str]:
    """The names of what was done."""
    ran = machine.run("colony-server", command, "--json", *options, seconds=120, **more)
    return [step["name"] for step in json.loads(ran.stdout)["steps"]]


def version(machine: Guest, name: str, changes: Mapping[str, Callable[[str], str]]) -> str:
    """A checkout whose files differ as `changes` has it; its folder on the machine."""
    folder = f"/srv/{name}"
    machine.run("mkdir", "--parents", folder)
    machine.run("sh", "-c", f"tar -C {SOURCE} -c --exclude=./.venv --exclude=./.git . | tar -x -C {folder}")
    for path, change in changes.items():
        file = machine.path(f"{folder}/{path}")
        file.write_text(change(file.read_text() if file.exists() else ""))
    return folder


def install(machine: Guest, folder: str, *, check: bool = True) -> tuple[int, str]:
    """Install from a checkout; gives the exit code, and what was said last."""
    ran = machine.run(f"{folder}/bin/install", check=check, seconds=INSTALLS_WITHIN)
    return ran.returncode, (ran.stderr.strip().splitlines() or [""])[-1]


def release(machine: Guest) -> Path:
    """The one that is current."""
    return Path(machine.path("/opt/colony/current").readlink())


def serves(machine: Guest) -> Path:
    """The release that answers: the one that the server's process was started from."""
    pid = machine.unit(SERVER, "MainPID")["MainPID"]
    program = machine.run("cat", f"/proc/{pid}/cmdline").stdout.split("\0")[0]
    machine.run("colony", "whoami")
    return Path(program).parents[2]


def arm(machine: Guest, step: str) -> dict[str, str]:
    """The environment in which what carries out the step is killed right after it."""
    machine.write(f"{FAILPOINTS}/host.step.{step}", "crash")
    return {"COLONY_FAILPOINTS": FAILPOINTS}


def everything(machine: Guest) -> set[str]:
    """All files of the machine with owner, mode and target, all accounts and units: to compare with before."""
    hidden = [word for folder in CHANGING for word in ("-path", folder, "-o")][:-1]
    found = machine.run("find", *PLACES, "(", *hidden, ")", "-prune", "-o", "-printf", "%p %u %g %m %l\n").stdout
    accounts = machine.run("cat", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/subuid").stdout
    units = machine.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "colony*", "agent-*").stdout
    return {*found.splitlines(), *accounts.splitlines(), *units.splitlines()}
