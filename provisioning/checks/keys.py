"""What an agent proves itself with: there, closed, and really in its services."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Collection
from pathlib import Path

from provisioning import credentials, places, units
from provisioning.checks import writers
from provisioning.checks.finding import HOST, Finding, Findings, Unseen
from provisioning.checks.resident import Resident
from provisioning.checks.scene import Scene
from provisioning.steps import Act, Folder, Run, Step

FILE_MODE, FOLDER_MODE = 0o600, 0o700
RUNNING = Path("/run/credentials")  # where systemd puts what it has decrypted, a folder for each service
PATIENCE_SECONDS = 20
_NAMED = re.compile(r"^LoadCredentialEncrypted=(\w+):(\S+)$", re.MULTILINE)


def stored(scene: Scene) -> Findings:
    """Those that are kept: for root's eyes alone, and such that this machine can decrypt them."""
    scene.require_root()
    for path, facts in writers.below(places.CREDENTIALS):
        if path == places.CREDENTIALS:
            continue
        wanted = FOLDER_MODE if stat.S_ISDIR(facts.st_mode) else FILE_MODE
        if facts.st_uid != 0 or stat.S_IMODE(facts.st_mode) != wanted:
            yield _loose(path, facts, wanted)
        if path.name in credentials.KNOWN and stat.S_ISREG(facts.st_mode) and _decrypted(path) is None:
            agent = "" if path.parent == places.CREDENTIALS else f" --agent {path.parent.name}"
            what = f"this machine can't decrypt {path}: it is damaged, or was made on another machine"
            yield Finding(HOST, what, f"colony-agent credential set {path.name}{agent}")


def present(scene: Scene, resident: Resident) -> Findings:
    """Whether a thinker has a key at all, and what its units name is there."""
    scene.require_root()
    if not _needs_none(resident):
        yield from required(resident.name, credentials.given(resident.name), lost(resident))


def required(name: str, given: Collection[str], lost: Collection[str]) -> Findings:
    if not {*credentials.KEYS} & {*given}:
        what = "no key for the model's API is kept for it: without one its turns can't run"
        yield Finding(name, what, f"colony-agent credential set {credentials.KEYS[0]}; colony-agent upgrade {name}")
    elif lost:
        what = f"its worker could not start again: its unit names {', '.join(lost)}, and that credential is gone"
        yield Finding(name, what, f"colony-agent upgrade {name}")


def wanted(resident: Resident) -> dict[str, Path]:
    """The files that its units should name. What is gone is not theirs to forget: it may come back, or another may."""
    known = {**lost(resident), **credentials.given(resident.name)}
    return {name: known[name] for name in credentials.KNOWN if name in known}


def lost(resident: Resident) -> dict[str, Path]:
    """What its worker's unit names and nobody keeps any more."""
    named = _NAMED.findall(resident.unit_files.get(units.worker(resident.name), ""))
    return {name: Path(file) for name, file in named if not Path(file).exists()}


def delivered(scene: Scene, resident: Resident) -> Findings:
    """Whether its worker has what is kept for it: one that was changed since it started it does not have."""
    scene.require_root()
    if _needs_none(resident) or not resident.is_born:
        return
    worker = units.worker(resident.name)
    if scene.systemd.state(worker).active != "active":
        return
    for name, file in credentials.given(resident.name).items():
        kept = _decrypted(file)
        if kept is not None and kept != _running(worker, name):
            what = f"its worker runs without the {name} that is kept for it now"
            yield Finding(resident.name, what, f"colony-agent upgrade {resident.name}; colony-agent restart {resident.name}")


def _needs_none(resident: Resident) -> bool:
    return resident.record is None or resident.record.runner != "claude"


def _loose(path: Path, facts: os.stat_result, wanted: int) -> Finding:
    mode, owner = stat.S_IMODE(facts.st_mode), writers.user_name(facts.st_uid)
    what = f"{path} is {mode:04o} and belongs to {owner}: it must be {wanted:04o} and root's"
    acts: tuple[Act, ...] = (Run(("chown", "--no-dereference", "root:root", str(path))), Run(("chmod", f"{wanted:o}", str(path))))
    if wanted == FOLDER_MODE:
        acts = (Folder(path, FOLDER_MODE),)
    return Finding(HOST, what, f"chown root:root {path}; chmod {wanted:o} {path}", fix=Step("credentials", f"{path} for root alone", acts))


def _decrypted(file: Path) -> bytes | None:
    """None where that can't be done. It never leaves this process."""
    argv = ["systemd-creds", "decrypt", f"--name={file.name}", str(file), "-"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=PATIENCE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unseen(f"systemd-creds: {error}") from error
    return None if done.returncode else done.stdout


def _running(service: str, name: str) -> bytes | None:
    try:
        return (RUNNING / service / name).read_bytes()
    except FileNotFoundError:
        return None
