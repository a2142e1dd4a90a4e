"""What agents prove themselves with: there, closed, and really in the gate."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Collection
from pathlib import Path

from provisioning import credentials, places
from provisioning.checks import writers
from provisioning.checks.finding import HOST, Finding, Findings, Unseen
from provisioning.checks.resident import Resident
from provisioning.checks.scene import Scene
from provisioning.host.files import GATE
from provisioning.steps import Act, Folder, Run, Step

FILE_MODE, FOLDER_MODE = 0o600, 0o700
RUNNING = Path("/run/credentials")  # where systemd puts what it has decrypted, a folder for each service
PATIENCE_SECONDS = 20


def stored(scene: Scene) -> Findings:
    """Those that are kept: for root's eyes alone, and such that this machine can decrypt them."""
    scene.require_root()
    names = {file: name for name, file in credentials.loaded().items()}
    for path, facts in writers.below(places.CREDENTIALS):
        if path == places.CREDENTIALS:
            continue
        wanted = FOLDER_MODE if stat.S_ISDIR(facts.st_mode) else FILE_MODE
        if facts.st_uid != 0 or stat.S_IMODE(facts.st_mode) != wanted:
            yield _loose(path, facts, wanted)
        if path in names and stat.S_ISREG(facts.st_mode) and _decrypted(names[path], path) is None:
            agent = "" if path.parent == places.CREDENTIALS else f" --agent {path.parent.name}"
            what = f"this machine can't decrypt {path}: it is damaged, or was made on another machine"
            yield Finding(HOST, what, f"colony-agent credential set {path.name}{agent}")


def present(scene: Scene, resident: Resident) -> Findings:
    """Whether a thinker has a key at all."""
    scene.require_root()
    if resident.record and resident.record.runner == "claude":
        yield from required(resident.name, credentials.given(resident.name))


def required(name: str, given: Collection[str]) -> Findings:
    if not {*credentials.KEYS} & {*given}:
        what = "no key for the model's API is kept for it: without one its turns can't run"
        yield Finding(name, what, f"colony-agent credential set {credentials.KEYS[0]}")


def delivered(scene: Scene) -> Findings:
    """Whether the gate has what is kept: one that was changed by hand since it started it does not have."""
    scene.require_root()
    if scene.systemd.state(GATE).active != "active":
        return
    for name, file in credentials.loaded().items():
        kept = _decrypted(name, file)
        if kept is not None and kept != _running(name):
            yield Finding(HOST, f"the gate runs without the {name} that is kept now", f"colony-server install; systemctl restart {GATE}")


def _loose(path: Path, facts: os.stat_result, wanted: int) -> Finding:
    mode, owner = stat.S_IMODE(facts.st_mode), writers.user_name(facts.st_uid)
    what = f"{path} is {mode:04o} and belongs to {owner}: it must be {wanted:04o} and root's"
    acts: tuple[Act, ...] = (Run(("chown", "--no-dereference", "root:root", str(path))), Run(("chmod", f"{wanted:o}", str(path))))
    if wanted == FOLDER_MODE:
        acts = (Folder(path, FOLDER_MODE),)
    return Finding(HOST, what, f"chown root:root {path}; chmod {wanted:o} {path}", fix=Step("credentials", f"{path} for root alone", acts))


def _decrypted(name: str, file: Path) -> bytes | None:
    """None where that can't be done. It never leaves this process."""
    argv = ["systemd-creds", "decrypt", f"--name={name}", str(file), "-"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=PATIENCE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unseen(f"systemd-creds: {error}") from error
    return None if done.returncode else done.stdout


def _running(name: str) -> bytes | None:
    try:
        return (RUNNING / GATE / name).read_bytes()
    except FileNotFoundError:
        return None
