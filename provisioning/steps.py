"""What can be done to a machine. A plan is a list of steps, made by looking and thinking only; `apply` carries them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colony import errors, schema
from colony.operations import Operation


@dataclass(frozen=True)
class Run:
    """A program with its arguments, no shell; as root, or as a Linux user. What it says is shown if it fails."""

    argv: tuple[str, ...]
    stdin: bytes | None = field(default=None, repr=False)
    user: str = "root"


@dataclass(frozen=True)
class Folder:
    """A folder with this mode and owner; made where it is missing, set right where it differs."""

    path: Path
    mode: int = 0o755
    user: str = "root"
    group: str = "root"


@dataclass(frozen=True)
class Write:
    """A file with this text, replaced as a whole; it never has another mode or owner, not for a moment."""

    path: Path
    text: str = field(repr=False)
    mode: int = 0o644
    user: str = "root"
    group: str = "root"


@dataclass(frozen=True)
class Link:
    """A symbolic link, replaced as a whole."""

    path: Path
    target: Path


@dataclass(frozen=True)
class Remove:
    """The file or link, or the folder with all that is in it, is gone; other file systems below it stay."""

    path: Path


@dataclass(frozen=True)
class Settle:
    """An agent's home has all that it begins with; see `home.prepare`. Done as the agent: what lies there can do no more than it may.

    `is_first`: the agent has never run. Else git, which does what it finds in a home, is left out of it.
    `archive`: it first gets what is in there, in the place of all that it holds.
    """

    path: Path
    user: str
    soul: str = field(repr=False)
    connection: Mapping[str, str]
    agent: Mapping[str, object]
    repo: str | None = None
    is_first: bool = True
    archive: Path | None = None


@dataclass(frozen=True)
class WriteAs:
    """A file in a user's own folder, written as that user; links on the way are not followed, but put aside.

    `in_place`: what is mounted over it in a sandbox stays there, which another file in its place would uncover.
    """

    user: str
    folder: Path
    name: str  # relative to the folder
    text: str = field(repr=False)
    in_place: bool = False


@dataclass(frozen=True)
class PutBack:
    """The newest copy that `colony-server backup` has made in a folder takes the place of the database, as it is. Done as the user."""

    folder: Path
    database: Path
    user: str


@dataclass(frozen=True)
class Ask:
    """An operation of the colony's server; as root, or as a Linux user. Where it says that this is so already, that is as good."""

    operation: Operation[Any, Any]
    request: schema.Request
    user: str = "root"
    settles: type[errors.ColonyError] | None = None  # the refusal that says so


@dataclass(frozen=True)
class Reload:
    """systemd reads its unit files again."""


@dataclass(frozen=True)
class Enable:
    units: tuple[str, ...]


@dataclass(frozen=True)
class Disable:
    """They are not started at boot any more; also where there are no such units."""

    units: tuple[str, ...]


@dataclass(frozen=True)
class Start:
    """They are active in the end."""

    units: tuple[str, ...]
    restart: bool = False  # what runs is ended first


@dataclass(frozen=True)
class Stop:
    """They are not active in the end; also where there are no such units."""

    units: tuple[str, ...]


Act = Run | Folder | Write | Link | Remove | Settle | WriteAs | PutBack | Ask | Reload | Enable | Disable | Start | Stop


@dataclass(frozen=True)
class Step:
    """A part of a plan that people hear of. It can be repeated: an interruption in the middle does no harm."""

    name: str  # a word
    says: str  # what it brings about, as a part of a sentence
    acts: tuple[Act, ...]
