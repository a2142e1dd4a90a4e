"""The server: whether it runs, answers, and can be reached by all who should."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from colony import errors
from provisioning import places
from provisioning.checks import socket_file, trial, writers
from provisioning.checks.finding import HOST, Finding, Findings
from provisioning.checks.scene import Scene
from provisioning.host.files import SERVER
from provisioning.steps import Run, Step

_COMMAND = (f"{places.CURRENT}/.venv/bin/colony-server", "--config", str(places.SERVER_SETTINGS))


def answer(scene: Scene) -> Findings:
    """Whether it answers and its database can be read. Who is a stranger to it has been answered, too."""
    error = scene.excuses.get("answer")
    if isinstance(error, errors.StorageDamaged):
        restore = f"runuser -u {places.SERVER_USER} -- colony-server restore --force {places.DATA}/backups/FILE"
        remedy = f"systemctl stop {SERVER}; {restore}; systemctl start {SERVER}"
        yield Finding(HOST, f"the server says: {error.detail}", remedy)
    elif error and not isinstance(error, errors.Unauthenticated | errors.Forbidden):
        what = f"the server does not answer: {error.detail}; journalctl -u {SERVER} says more"
        yield Finding(HOST, what, f"systemctl restart {SERVER}")


def settings(scene: Scene) -> Findings:
    """Whether the server would begin with its settings once more: its own code says so."""
    scene.require_own_code()
    is_there = places.SERVER_SETTINGS.exists()  # that it is missing is said already
    if scene.settings and is_there and (said := trial.complaint((*_COMMAND, "check-settings"), "root", scene.is_root)):
        yield Finding(HOST, said.removeprefix("colony-server: "), f"mend {places.SERVER_SETTINGS}; then systemctl restart {SERVER}")


def socket(scene: Scene) -> Findings:
    """Whether agents and people can reach it."""
    return socket_file.judged(places.SOCKET, SERVER, places.SERVER_USER, "not everybody can reach the server")


def database(scene: Scene) -> Findings:
    """Whether its files are its own: what root has made there by accident, the server can't write."""
    file = scene.settings.database_file
    if not file:
        return
    scene.require_root()
    for path in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
        if path.exists():
            yield from _judged(path, path.stat())


def keys(scene: Scene) -> Findings:
    """Whether the keys of secrets are the server's alone, and open what is sealed. Backups of the database hold none."""
    file = (scene.settings.database_file or places.DATA / "any").parent / "secret-keys"
    scene.require_root()
    odd = list(_judged(file, file.stat())) if file.exists() else []
    yield from odd
    if odd or any(database(scene)):
        return  # what can't be read can't be opened either
    scene.require_own_code()
    said = trial.complaint((*_COMMAND, "secret-key", "check"), places.SERVER_USER, scene.is_root)
    if str(file) in said:  # what keeps it from looking is said by others
        yield Finding(HOST, said.removeprefix("colony-server: "), f"put back the {file} of before, or set them anew: colony secret set")


def _judged(path: Path, facts: os.stat_result) -> Findings:
    owner, mode = writers.user_name(facts.st_uid), stat.S_IMODE(facts.st_mode)
    if owner != places.SERVER_USER:
        remedy = f"chown {places.SERVER_USER}: {path}; systemctl restart {SERVER}"
        yield Finding(HOST, f"{path} belongs to {owner}: the server can't write it", remedy)
    elif mode & 0o077:
        mended = Run(("chmod", "go-rwx", str(path)), user=places.SERVER_USER)
        step = Step("database", f"the mode of {path}", (mended,))
        yield Finding(HOST, f"others than the server can read or write {path}: it has the mode {mode:04o}", f"chmod 600 {path}", fix=step)
