"""The host's own folders, files, users and groups: there, and whose they should be."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Iterable, Mapping

from provisioning import found, places
from provisioning.checks import writers
from provisioning.checks.finding import HOST, Finding, Findings
from provisioning.checks.scene import Scene
from provisioning.found import Entry
from provisioning.host import files
from provisioning.steps import Folder, Run, Step

ALSO = (Folder(places.BACKUPS, 0o700), Folder(places.LOCKS, 0o700))  # made when they are needed
SETTINGS_MODE = 0o640  # of server.toml, in which the database's password may be
RECORD_MODE = 0o644
INSTALL = "colony-server install"


def folders(scene: Scene) -> Findings:
    """Those that an install makes, and what leads to them."""
    entries = found.look(folder.path for folder in (*files.FOLDERS, *ALSO))
    for folder in (*files.FOLDERS, *ALSO):
        yield from judged(folder, entries.get(folder.path), may_lack=folder in ALSO)
    for path in {above for folder in files.FOLDERS for above, _ in writers.above(folder.path)}:
        if path != places.SETTINGS and (how := writers.besides_root(path.stat())):
            what = f"{path}, which leads to the colony's folders, is not root's alone: {how}"
            yield Finding(HOST, what, f"chown root: {path}; chmod go-w {path}")


def judged(folder: Folder, entry: Entry | None, *, may_lack: bool = False, subject: str = HOST) -> Findings:
    """Whether it is there and has its mode and owner."""
    fix = Step("folder", f"{folder.path} as it should be", (folder,))
    remedy = f"install -d -m {folder.mode:o} -o {folder.user} -g {folder.group} {folder.path}"
    wanted = f"{folder.mode:04o} {folder.user}:{folder.group}"
    if entry is None:
        if not may_lack:
            yield Finding(subject, f"the folder {folder.path} is missing", remedy, fix=fix)
    elif entry.kind != "folder":
        yield Finding(subject, f"{folder.path} is no folder", f"mv {folder.path} {folder.path}.old; {remedy}")
    elif (entry.mode, entry.user, entry.group) != (folder.mode, folder.user, folder.group):
        yield Finding(subject, f"{folder.path} is {entry.mode:04o} {entry.user}:{entry.group}, not {wanted}", remedy, fix=fix)


def settings(scene: Scene) -> Findings:
    """The server's settings file: there, readable for the server, and sound."""
    path, error = places.SERVER_SETTINGS, scene.excuses.get("configured")
    entry = found.look([path]).get(path)
    if entry is None:
        yield Finding(HOST, f"{path} is missing: the server can't start", INSTALL)
        return
    if (entry.mode, entry.user, entry.group) != (SETTINGS_MODE, "root", places.SERVER_USER):
        yield _settings_of_others(entry)
    if error:
        yield Finding(HOST, error.detail, f"mend {path}; then systemctl restart {files.SERVER}")


def records(scene: Scene) -> Findings:
    """What the host knows of each agent: readable, and for root alone to write."""
    paths = sorted(places.RECORDS.glob("*.toml"))
    for path, entry in found.look(paths).items():
        if entry.kind != "file" or (entry.mode, entry.user) != (RECORD_MODE, "root"):
            remedy = f"chown root: {path}; chmod {RECORD_MODE:o} {path}"
            acts = (Run(("chown", "--no-dereference", "root:root", str(path))), Run(("chmod", f"{RECORD_MODE:o}", str(path))))
            fix = Step("record", f"{path} as it should be", acts) if entry.kind == "file" else None
            yield Finding(path.stem, f"the record {path} is {entry.mode:04o} and belongs to {entry.user}", remedy, fix=fix)


def accounts(scene: Scene) -> Findings:
    """The server's user and the agents' group, and who is in it without being an agent."""
    account = scene.accounts.get(places.SERVER_USER)
    groups = {group.gr_name: group for group in grp.getgrall()}
    gate = scene.accounts.get(places.GATE_USER)
    if account is None or gate is None or places.AGENTS_GROUP not in groups:
        user = places.SERVER_USER if account is None else places.GATE_USER if gate is None else ""
        lost = f"the user {user}" if user else f"the group {places.AGENTS_GROUP}"
        yield Finding(HOST, f"{lost} is missing", INSTALL)
    elif account.pw_dir != str(places.DATA) or account.pw_uid >= 1000:
        remedy = f"rename that user, then {INSTALL}"
        yield Finding(HOST, f"the user {places.SERVER_USER} is not the server's: uid {account.pw_uid}, home {account.pw_dir}", remedy)
    if places.AGENTS_GROUP in groups:
        yield from _strangers(groups[places.AGENTS_GROUP].gr_mem, scene.accounts)


def _strangers(members: Iterable[str], accounts: Mapping[str, pwd.struct_passwd]) -> Findings:
    for name in members:
        account = accounts.get(name)
        if account is None or account.pw_dir != str(places.HOMES / name):
            remedy = f"gpasswd -d {name} {places.AGENTS_GROUP}"
            yield Finding(HOST, f"{name} is in the group {places.AGENTS_GROUP} and is no agent", remedy, "warning")


def _settings_of_others(entry: Entry) -> Finding:
    path, owner = str(places.SERVER_SETTINGS), f"root:{places.SERVER_USER}"
    acts = (Run(("chown", "--no-dereference", owner, path)), Run(("chmod", f"{SETTINGS_MODE:o}", path)))
    fix = Step("settings", f"{path} as it should be", acts) if entry.kind == "file" else None
    what = f"{path} is {entry.mode:04o} {entry.user}:{entry.group}, not {SETTINGS_MODE:04o} {owner}"
    return Finding(HOST, what, f"chown {owner} {path}; chmod {SETTINGS_MODE:o} {path}", fix=fix)
