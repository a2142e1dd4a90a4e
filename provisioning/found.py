"""What lies at a path, so that a plan can tell what is missing or differs."""

from __future__ import annotations

import grp
import pwd
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from provisioning.steps import Folder, Link, Write

MAX_BYTES = 2**20


@dataclass(frozen=True)
class Entry:
    kind: Literal["folder", "file", "link", "other"]
    mode: int
    user: str
    group: str
    text: str = ""  # of a file; a link's target


Found = Mapping[Path, Entry]


def look(paths: Iterable[Path]) -> dict[Path, Entry]:
    """What there is at those paths where there is anything; no link is followed."""
    entries = {path: _entry(path) for path in paths}
    return {path: entry for path, entry in entries.items() if entry}


def is_so(act: Folder | Write | Link, found: Found) -> bool:
    """Whether the act would change nothing."""
    entry = found.get(act.path)
    if entry is None:
        return False
    match act:
        case Link():
            return entry.kind == "link" and entry.text == str(act.target)
        case Folder():
            return entry.kind == "folder" and _owned(act) == (entry.mode, entry.user, entry.group)
        case Write():
            return entry.kind == "file" and entry.text == act.text and _owned(act) == (entry.mode, entry.user, entry.group)


def _owned(act: Folder | Write) -> tuple[int, str, str]:
    return act.mode, act.user, act.group


def _entry(path: Path) -> Entry | None:
    try:
        facts = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    owned = (stat.S_IMODE(facts.st_mode), _user(facts.st_uid), _group(facts.st_gid))
    if stat.S_ISLNK(facts.st_mode):
        return Entry("link", *owned, str(path.readlink()))
    if stat.S_ISDIR(facts.st_mode):
        return Entry("folder", *owned)
    if stat.S_ISREG(facts.st_mode) and facts.st_size <= MAX_BYTES:
        return Entry("file", *owned, path.read_text(errors="replace"))
    return Entry("other", *owned)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
