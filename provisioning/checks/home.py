"""An agent's home: whole, its own, and closed to everybody else."""

from __future__ import annotations

import shlex
from pathlib import Path

from colony import files
from colony.config import PROJECT_FILE
from provisioning import found, home, places
from provisioning.checks import folders
from provisioning.checks.finding import Finding, Findings, Unseen
from provisioning.checks.resident import Resident
from provisioning.checks.scene import Scene
from provisioning.steps import Folder, Step, WriteAs
from provisioning.watch import measure, sizes


def folder(scene: Scene, resident: Resident) -> Findings:
    """Its folder, which nobody else may enter."""
    name, path = resident.name, resident.home
    if resident.account is None:
        raise Unseen("its Linux user is missing")
    entry = found.look([path]).get(path)
    if entry is None:
        remedy = f"colony-agent birth {name} --from {places.BACKUPS}/{name}-….tar.gz, or: colony-agent death {name}"
        yield Finding(name, f"its home {path} is missing", remedy)
    elif entry.kind == "folder" and entry.user != name:
        # What is in it belongs to somebody else, too, and that is not for a machine to decide.
        yield Finding(name, f"its home {path} belongs to {entry.user}", f"chown -R {name}: {path}; chmod 700 {path}")
    else:
        yield from folders.judged(Folder(path, 0o700, name, name), entry, subject=name)


def contents(scene: Scene, resident: Resident) -> Findings:
    """Whether it holds what an agent can't do without, and what is in it belongs to it."""
    scene.require_root()
    if not resident.has_home:
        return
    name, path = resident.name, resident.home
    remedy = f"colony-agent birth {name} --soul FILE, with the soul that it was born from"
    if not files.exists(path, PROJECT_FILE):
        yield Finding(name, f"its home lacks {PROJECT_FILE}, which says what it runs", remedy)
    elif not _is_file(path, PROJECT_FILE):
        yield Finding(name, f"{path}/{PROJECT_FILE} is no file", f"rm -r {path}/{PROJECT_FILE}; then {remedy}")
    if _is_blank(path, home.SOUL_FILE):
        yield Finding(name, f"its home lacks {home.SOUL_FILE}, its soul", f"colony-agent soul set {name} FILE, with its soul")
    if resident.account:
        yield from _foreign(name, path, resident.account.pw_uid)


def size(scene: Scene, resident: Resident) -> Findings:
    """Whether it holds no more than it may. It is measured now only where the watch has not found that lately: that can take long."""
    scene.require_root()
    if not resident.has_home or resident.record is None:
        return
    last = sizes.last()
    known = last.sizes.get(resident.name) if last else None
    if known is None or known.fullness > 1:
        known = measure.sizes_of({resident.home: resident.record.home_max_bytes}).get(resident.home)
    if known and known.fullness > 1:
        remedy = f"du -ah {resident.home} | sort -h | tail; remove what it does not need; colony-agent resume {resident.name}"
        yield Finding(resident.name, f"its home holds {known.shown}", remedy, "warning")


def rules(scene: Scene, resident: Resident) -> Findings:
    """Whether it reads the rules of this release."""
    scene.require_root()
    scene.require_own_code()
    if not resident.has_home or resident.account is None or resident.release != scene.release:
        return
    if home.rules_in(resident.home) != home.RULES:  # be it something odd: it is replaced
        fix = Step("rules", "its rules", (WriteAs(resident.name, resident.home, home.RULES_FILE, home.RULES),))
        yield Finding(resident.name, "its rules are not those of its release", f"colony-agent upgrade {resident.name}", "warning", fix)


def _is_file(folder: Path, name: str) -> bool:
    try:
        files.read_bytes(folder, name, 1)
    except OSError:
        return False
    return True


def _is_blank(folder: Path, name: str) -> bool:
    """Whether it is missing, or as empty as a sandbox makes what it has to cover."""
    try:
        return not files.read_bytes(folder, name, 1)
    except OSError:  # something odd
        return False


def _foreign(name: str, path: Path, uid: int) -> Findings:
    """What root has left there by accident, the agent can't use."""
    for entry in sorted(path.iterdir()):
        if entry.lstat().st_uid != uid:
            yield Finding(name, f"{entry} does not belong to it", f"chown -Rh {name}: {shlex.quote(str(entry))}", "warning")
