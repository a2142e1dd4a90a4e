"""What many checks want to know, read once. What can't be known here raises `Unseen` for who asks, and is in nobody else's way."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from colony import errors, operations, schema
from provisioning import local, places
from provisioning.checks.finding import Unseen
from provisioning.host import settings
from provisioning.host.facts import THIS_RELEASE
from provisioning.host.settings import ServerSettings
from provisioning.systemd import Systemd

T = TypeVar("T")


@dataclass(frozen=True)
class Colony:
    """What its server says."""

    users: Mapping[str, schema.User]
    agents: Mapping[str, schema.Agent]


@dataclass(frozen=True)
class Scene:
    release: Path  # the one that is the host's
    is_root: bool
    accounts: Mapping[str, pwd.struct_passwd] = field(default_factory=dict)
    excuses: Mapping[str, errors.ColonyError] = field(default_factory=dict)  # why one of the three below is absent, by its name
    bus: Systemd | None = None
    answer: Colony | None = None
    configured: ServerSettings | None = None

    @property
    def systemd(self) -> Systemd:
        return self._known("bus", self.bus)

    @property
    def colony(self) -> Colony:
        return self._known("answer", self.answer)

    @property
    def settings(self) -> ServerSettings:
        return self._known("configured", self.configured)

    def require_root(self) -> None:
        if not self.is_root:
            raise Unseen("only root may look")

    def require_own_code(self) -> None:
        """What a unit should be is known to the release that makes it."""
        if self.release != THIS_RELEASE:
            raise Unseen(f"only the host's own release knows: {places.CURRENT}/.venv/bin/colony-agent doctor")

    def _known(self, name: str, value: T | None) -> T:
        if value is None:
            raise Unseen(self.excuses[name].detail)
        return value


@contextmanager
def read() -> Iterator[Scene]:
    """As far as this caller may see, and as what is asked answers."""
    excuses: dict[str, errors.ColonyError] = {}

    def known(name: str, look: Callable[[], T]) -> T | None:
        try:
            return look()
        except errors.ColonyError as error:
            excuses[name] = error
            return None

    with ExitStack() as stack:
        yield Scene(
            release=places.CURRENT.resolve(),
            is_root=os.geteuid() == 0,
            accounts={account.pw_name: account for account in pwd.getpwall()},
            excuses=excuses,
            bus=known("bus", lambda: stack.enter_context(Systemd())),
            answer=known("answer", _ask),
            configured=known("configured", _settings),
        )


def _ask() -> Colony:
    with local.client() as client:
        users = client.call(operations.USERS, schema.ListUsers()).users
        agents = client.call(operations.AGENTS, schema.ListAgents()).agents
    return Colony({user.username: user for user in users}, {agent.username: agent for agent in agents})


def _settings() -> ServerSettings:
    try:
        return settings.read() or ServerSettings()
    except PermissionError as error:
        raise errors.Forbidden(f"only root may read {places.SERVER_SETTINGS}") from error
