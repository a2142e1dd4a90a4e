"""Reads what a machine has of a colony's host, before something is changed."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from colony import errors, operations, schema
from provisioning import credentials, found, local, places
from provisioning.apply import run
from provisioning.facts import account, group
from provisioning.found import Entry
from provisioning.host import files, settings
from provisioning.host.settings import ServerSettings
from provisioning.steps import Link
from provisioning.systemd import Systemd

THIS_RELEASE = Path(__file__).resolve().parents[2]
MIGRATION_DUE = 10  # the exit code of `colony-server migrate --check`
RESTRICTION = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
PROFILES = Path("/etc/apparmor.d")


@dataclass(frozen=True)
class Account:
    home: Path
    is_system: bool


@dataclass(frozen=True)
class Host:
    release: Path  # the code that is to be the host's
    settings: ServerSettings
    entries: Mapping[Path, Entry] = field(default_factory=dict)  # what lies where something of ours is wanted, or is from before
    server_account: Account | None = None
    gate_account: Account | None = None
    credentials: Mapping[str, Path] = field(default_factory=dict)  # that the gate loads
    groups: frozenset[str] = frozenset()  # those of ours that are there
    active: frozenset[str] = frozenset()  # units
    enabled: frozenset[str] = frozenset()
    members: frozenset[str] | None = None  # the colony's users; None while its server is down
    is_migration_due: bool = False
    needs_profile: bool = False  # bubblewrap may do nothing here without one
    is_port_free: bool = True
    releases: frozenset[Path] = frozenset()
    kept_releases: frozenset[Path] = frozenset()  # those that agents run
    claudes: Mapping[Path, frozenset[Path]] = field(default_factory=dict)  # the releases that need it
    free_bytes: int = 2**40

    @property
    def current(self) -> Path | None:
        """The release that new agents get."""
        return self._linked(places.CURRENT)

    @property
    def previous(self) -> Path | None:
        """The one before that."""
        return self._linked(places.PREVIOUS)

    @property
    def is_server_active(self) -> bool:
        return files.SERVER in self.active

    def _linked(self, path: Path) -> Path | None:
        link = self.entries.get(path)
        return path.parent / link.text if link and link.kind == "link" else None


def read(systemd: Systemd, default: ServerSettings, release: Path = THIS_RELEASE) -> Host:
    """`default` is for a host that has no settings yet. Raises `Invalid` for settings that the server can't use, or a newer database."""
    known = settings.read() or default
    _require_usable_settings(release)
    entries = found.look(files.paths())
    names = files.unit_names()
    states = {unit: systemd.state(unit).active for unit in names}
    active = frozenset(unit for unit, state in states.items() if state == "active")
    is_active = files.SERVER in active
    releases = frozenset(places.RELEASES.glob("*")) if places.RELEASES.is_dir() else frozenset()
    return Host(
        release=release,
        settings=known,
        entries=entries,
        server_account=_account(places.SERVER_USER),
        gate_account=_account(places.GATE_USER),
        credentials=credentials.loaded(),
        groups=frozenset(name for name in (places.AGENTS_GROUP, places.SERVER_USER) if group(name)),
        active=active,
        enabled=frozenset(unit for unit in names if systemd.is_enabled(unit)),
        members=_members() if is_active else None,
        is_migration_due=not (is_active and _is_current(entries, release)) and _is_migration_due(release, known),
        needs_profile=_needs_profile(),
        is_port_free=states[files.SERVER] not in ("inactive", "failed") or not known.port or _is_free(known.port),
        releases=releases,
        kept_releases=files.agent_releases(),
        claudes=_claudes(releases),
        free_bytes=_free_bytes(places.DATA),
    )


def _account(name: str) -> Account | None:
    user = account(name)
    return Account(Path(user.pw_dir), user.pw_uid < 1000) if user else None


def _members() -> frozenset[str] | None:
    try:
        with local.client() as client:
            return frozenset(user.username for user in client.call(operations.USERS, schema.ListUsers()).users)
    except errors.ColonyError:  # a server that is active and doesn't answer: the plan begins it anew
        return None


def _is_current(entries: Mapping[Path, Entry], release: Path) -> bool:
    return found.is_so(Link(places.CURRENT, release), entries)


def _require_usable_settings(release: Path) -> None:
    """As this release's code reads them. As root: who else may read them is set right later."""
    if places.SERVER_SETTINGS.exists():
        _asked(release, "check-settings", raises=errors.Invalid)


def _is_migration_due(release: Path, known: ServerSettings) -> bool:
    """Whether this release's code wants another schema than the database has."""
    file = known.database_file
    if _account(places.SERVER_USER) is None or not places.SERVER_SETTINGS.exists() or (file and not file.exists()):
        return False
    return _asked(release, "migrate", "--check", user=places.SERVER_USER, raises=errors.Unavailable) == MIGRATION_DUE


def _asked(release: Path, *words: str, raises: type[errors.ColonyError], user: str = "root") -> int:
    """The exit code of a release's `colony-server`. What it says when it refuses is raised."""
    done = run((f"{release}/.venv/bin/colony-server", "--config", str(places.SERVER_SETTINGS), *words), user=user)
    if done.returncode not in (0, MIGRATION_DUE):
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"colony-server {' '.join(words)} failed"]
        raise raises(said[-1].removeprefix("colony-server: "))
    return done.returncode


def _needs_profile() -> bool:
    """Ubuntu lets unprivileged programs make no namespaces unless a profile says so."""
    try:
        is_restricted = RESTRICTION.read_text().strip() == "1"
    except FileNotFoundError:
        return False
    ours = files.PROFILE
    others = (path for path in PROFILES.glob("*") if path.is_file() and path != ours)
    return is_restricted and not any("/usr/bin/bwrap" in path.read_text(errors="replace") for path in others)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _claudes(releases: frozenset[Path]) -> dict[Path, frozenset[Path]]:
    links = {release: release / ".venv/bin/claude" for release in releases}
    needed = {release: link.readlink().parent for release, link in links.items() if link.is_symlink()}
    present = [path for path in places.CLAUDE.glob("*") if path.is_dir()] if places.CLAUDE.is_dir() else []
    return {path: frozenset(release for release, claude in needed.items() if claude == path) for path in present}


def _free_bytes(path: Path) -> int:
    while not path.exists():
        path = path.parent
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize
