"""Reads what there is of an agent: on this machine, and in the colony."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from colony import errors, operations, schema
from colony.config import PROJECT_FILE
from provisioning import archives, credentials, local, places, record, units
from provisioning.record import Record
from provisioning.systemd import Systemd

if TYPE_CHECKING:
    from colony.client import Client

COMMENT = "Colony agent"  # in the account, by which it is known as ours


@dataclass(frozen=True)
class Facts:
    """What there is of one agent before something is changed."""

    name: str
    release: Path  # that new units shall run
    record: Record | None
    has_record: bool  # be it one that can't be read
    member: schema.User | None  # who has this name in the colony
    apes: Mapping[str, str | None]  # the colony's people, with their Linux users
    channels: frozenset[str]
    has_account: bool
    is_foreign: bool  # the Linux user or group of this name is somebody else's
    has_home: bool
    is_home_complete: bool
    unit_files: Mapping[str, str]  # those that are there
    enabled: frozenset[str]
    active: frozenset[str]
    credentials: Mapping[str, Path]  # what may be given to it
    backups: tuple[Path, ...] = ()  # of its home

    @property
    def is_born(self) -> bool:
        """Whether a birth was completed, and no death has begun."""
        lives = self.member is not None and self.member.status not in ("provisioning", "dead")
        return lives and self.record is not None and self.record.is_born

    @property
    def resident(self) -> Record:
        """The record of an agent that lives here. Raises `NotFound` for any other."""
        if self.record is None or not self.is_born:
            raise errors.NotFound(f"{self.name} does not live on this machine; colony-agent birth brings it to life")
        return self.record


def read(name: str, systemd: Systemd, *, for_death: bool = False) -> Facts:
    """Raises `Unavailable` when the colony doesn't answer, and `Invalid` for a record that can't be read, unless it is to go anyway."""
    known = None if for_death else record.read(name)
    members, channels = _colony(name)
    linux_user, linux_group = account(name), group(name)
    home = places.HOMES / name
    found = units.names(name)
    return Facts(
        name=name,
        release=places.CURRENT.resolve(),
        record=known,
        has_record=record.path(name).exists(),
        member=next((user for user in members if user.username == name), None),
        apes={user.username: user.linux_user for user in members if user.kind == "ape" and user.status != "dead"},
        channels=channels,
        has_account=linux_user is not None,
        is_foreign=not is_ours(linux_user) if linux_user else linux_group is not None,
        has_home=home.is_dir(),
        is_home_complete=(home / PROJECT_FILE).exists(),
        unit_files={unit: (places.UNITS / unit).read_text() for unit in found if (places.UNITS / unit).exists()},
        enabled=frozenset(unit for unit in found if systemd.is_enabled(unit)),
        active=frozenset(unit for unit in found if systemd.state(unit).active == "active"),
        credentials=credentials.given(name),
        backups=(*archives.living(name), *filter(Path.exists, [archives.staged(name)])),
    )


def require_root() -> None:
    """Raises `Forbidden`."""
    if os.geteuid() != 0:
        raise errors.Forbidden("users, homes and services of this machine are root's: only root may; try sudo")


def watchable(client: Client, agent: str) -> frozenset[str]:
    """The channels that are there for the agent, as an administrator sees them."""

    def is_there(channel: schema.Channel) -> bool:
        if not channel.is_private:
            return True
        members = client.call(operations.MEMBERS, schema.ListMembers(channel=channel.name)).members
        return agent in {member.username for member in members}

    return frozenset(channel.name for channel in client.call(operations.CHANNELS, schema.ListChannels()).channels if is_there(channel))


def account(name: str) -> pwd.struct_passwd | None:
    """The Linux user of that name, if there is one."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def group(name: str) -> grp.struct_group | None:
    try:
        return grp.getgrnam(name)
    except KeyError:
        return None


def is_ours(account: pwd.struct_passwd) -> bool:
    """Whether a Linux user is an agent's."""
    return account.pw_gecos == COMMENT and Path(account.pw_dir) == places.HOMES / account.pw_name


def _colony(agent: str) -> tuple[list[schema.User], frozenset[str]]:
    with local.client() as client:
        return client.call(operations.USERS, schema.ListUsers()).users, watchable(client, agent)
