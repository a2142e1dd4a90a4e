"""An agent's Linux user: its own, and able to do nothing but what its services do."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from colony import files
from provisioning import places
from provisioning.checks.finding import Finding, Findings
from provisioning.checks.resident import Resident
from provisioning.checks.scene import Scene
from provisioning.facts import COMMENT

SHELLS = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false")
FIRST_HUMAN_UID = 1000
SHADOW = Path("/etc/shadow")
KEYS = (".ssh/authorized_keys", ".ssh/authorized_keys2")


@dataclass(frozen=True)
class Account:
    """What a machine says of a Linux user."""

    name: str
    uid: int
    comment: str
    home: str
    shell: str
    groups: frozenset[str]
    namesakes: tuple[str, ...] = ()  # other users with the same uid


def user(scene: Scene, resident: Resident) -> Findings:
    """Whether there is one, and what it is."""
    if resident.account is None:
        yield Finding(resident.name, f"its Linux user {resident.name} is missing", _made_again(resident.name))
        return
    yield from judged(_account(resident.account, scene.accounts.values()))


def judged(account: Account) -> Findings:
    name, home = account.name, str(places.HOMES / account.name)
    if account.comment != COMMENT:
        remedy = f"usermod --comment '{COMMENT}' {name}"
        yield Finding(name, f"its Linux user is not marked as an agent's: its comment is {account.comment!r}", remedy)
    if account.home != home:
        yield Finding(name, f"its Linux user has the home {account.home}, not {home}", f"usermod --home {home} {name}")
    if account.shell not in SHELLS:
        yield Finding(name, f"its Linux user has a shell: {account.shell}", f"usermod --shell {SHELLS[0]} {name}")
    if account.uid >= FIRST_HUMAN_UID:
        what = f"its Linux user has the uid {account.uid}: from {FIRST_HUMAN_UID} on machines take users for people"
        yield Finding(name, what, f"colony-agent death {name}, then birth it again", "warning")
    if account.uid == 0 or account.namesakes:
        what = f"its Linux user has the uid {account.uid}, as {', '.join(account.namesakes) or 'root'} has"
        yield Finding(name, what, f"colony-agent pause {name}; usermod --uid UID {name} with one that is free; chown -R {name}: {home}")
    yield from _groups(account)


def password(scene: Scene, resident: Resident) -> Findings:
    """Whether somebody could log in as the agent."""
    scene.require_root()
    if resident.account is None:
        return
    if has_password(SHADOW.read_text(errors="replace"), resident.name):
        yield Finding(resident.name, "its Linux user has a password", f"usermod --lock {resident.name}")
    for key in KEYS:
        if resident.has_home and _is_filled(resident.home, key):
            yield Finding(resident.name, f"somebody may log in as it: {resident.home}/{key}", f"rm {resident.home}/{key}")


def has_password(shadow: str, name: str) -> bool:
    """Whether the line of shadow(5) allows a password, be it none at all."""
    fields = next((line.split(":") for line in shadow.splitlines() if line.startswith(f"{name}:")), None)
    return fields is not None and len(fields) > 1 and not fields[1].startswith(("!", "*"))


def _is_filled(folder: Path, name: str) -> bool:
    try:
        return bool(files.read_bytes(folder, name, 1))
    except OSError:  # a link or the like, which sshd would follow
        return True


def _groups(account: Account) -> Iterator[Finding]:
    name = account.name
    if places.AGENTS_GROUP not in account.groups:
        yield Finding(name, f"its Linux user is not in the group {places.AGENTS_GROUP}", f"gpasswd -a {name} {places.AGENTS_GROUP}")
    for group in sorted(account.groups - {name, places.AGENTS_GROUP}):
        what = f"its Linux user is in the group {group}, which gives it more than an agent needs"
        yield Finding(name, what, f"gpasswd -d {name} {group}; colony-agent restart {name}")
    if name not in account.groups:
        yield Finding(name, "its Linux user has not its own group", f"groupadd --system {name}; usermod --gid {name} {name}")


def _account(found: pwd.struct_passwd, others: Collection[pwd.struct_passwd]) -> Account:
    return Account(
        name=found.pw_name,
        uid=found.pw_uid,
        comment=found.pw_gecos,
        home=found.pw_dir,
        shell=found.pw_shell,
        groups=frozenset(_groups_of(found)),
        namesakes=tuple(other.pw_name for other in others if other.pw_uid == found.pw_uid and other.pw_name != found.pw_name),
    )


def _groups_of(found: pwd.struct_passwd) -> Iterator[str]:
    for group in grp.getgrall():
        if group.gr_gid == found.pw_gid or found.pw_name in group.gr_mem:
            yield group.gr_name


def _made_again(name: str) -> str:
    """As a birth makes it."""
    home = places.HOMES / name
    made = f"useradd --system --user-group --groups {places.AGENTS_GROUP} --no-create-home --shell {SHELLS[0]}"
    return f"{made} --home-dir {home} --comment '{COMMENT}' {name}; chown -R {name}: {home}; colony-agent restart {name}"
