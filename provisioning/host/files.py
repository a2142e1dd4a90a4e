"""What an install puts on a host besides the code: units, folders, commands, a profile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from provisioning import places, units
from provisioning.host.settings import ServerSettings
from provisioning.steps import Folder, Link

SERVER = "colony-server.service"
GATE = "colony-egress.service"
LASTING = (SERVER, GATE)  # besides the timers
BACKUP = ("colony-backup.service", "colony-backup.timer")
PROFILE = Path("/etc/apparmor.d/colony-bwrap")
PROFILE_TEXT = """\
# Lets agents' sandboxes be made: bubblewrap needs namespaces, which Ubuntu leaves to programs that have a profile.
abi <abi/4.0>,
include <tunables/global>

profile colony-bwrap /usr/bin/bwrap flags=(unconfined) {
  userns,
  include if exists <local/colony-bwrap>
}
"""
FOLDERS = (
    Folder(places.DATA, 0o750, places.SERVER_USER, places.SERVER_USER),
    Folder(places.HOMES, 0o711),
    Folder(places.SETTINGS, 0o750, "root", places.SERVER_USER),
    Folder(places.RECORDS, 0o755),
    Folder(places.CREDENTIALS, 0o700),
    Folder(places.ARCHIVE, 0o700),
)
LINKS = tuple(Link(places.COMMANDS / name, places.CURRENT / ".venv/bin" / name) for name in ("colony", "colony-agent", "colony-server"))


def unit_names() -> list[str]:
    """The names of all units that a host may have."""
    return sorted(path.name.removesuffix(".j2") for path in units.TEMPLATES.glob("colony*"))


def render(release: Path, settings: ServerSettings, credentials: Mapping[str, Path]) -> dict[str, str]:
    """The units that a host with these settings has, by their names. `credentials` are the encrypted files that the gate loads."""
    values = {
        "release": release,
        "settings": places.SERVER_SETTINGS,
        "gate_settings": places.GATE_SETTINGS,
        "credentials": credentials,
        "data": places.DATA,
        "homes": places.HOMES,
        "archive": places.ARCHIVE,
        "locks": places.LOCKS.name,
        "is_sqlite": settings.is_sqlite,
        "database_host": settings.database_host,
    }
    wanted = [name for name in unit_names() if settings.is_sqlite or name not in BACKUP]
    return {name: units.write(_template(name), values) for name in wanted}


def paths() -> list[Path]:
    """Where an install puts something."""
    own = [folder.path for folder in FOLDERS] + [link.path for link in LINKS]
    own += [places.SERVER_SETTINGS, places.GATE_SETTINGS, places.CURRENT, places.PREVIOUS, PROFILE]
    return [*own, *(places.UNITS / name for name in unit_names())]


def agent_units() -> tuple[str, ...]:
    """The names of all agents' units that are there; known by the code that they run, or that they begin to."""
    present = [path for path in sorted(places.UNITS.glob("agent-*.*")) if path.is_file()]
    stems = {path.stem for path in present if str(places.RELEASES) in path.read_text(errors="replace")}
    return tuple(path.name for path in present if path.stem in stems)


def agent_releases() -> frozenset[Path]:
    """The releases that agents' units name."""
    texts = [(places.UNITS / name).read_text(errors="replace") for name in agent_units()]
    return frozenset(Path(match) for text in texts for match in re.findall(rf"{places.RELEASES}/[^/\s]+", text))


def _template(name: str) -> str:
    return name if (units.TEMPLATES / name).exists() else f"{name}.j2"
