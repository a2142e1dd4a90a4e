"""Who may change what others rely on."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable, Container, Iterator
from pathlib import Path


def besides_root(facts: os.stat_result) -> str:
    """How somebody else than root may change it; empty where nobody may."""
    return _how(facts, lambda uid: uid != 0, lambda gid: gid != 0)


def among(facts: os.stat_result, uids: Container[int], gids: Container[int]) -> str:
    """How one of these users may change it; empty where none may."""
    return _how(facts, uids.__contains__, gids.__contains__)


def below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The folder and all that is in it, as far as it can be seen; no link is followed."""
    try:
        yield folder, folder.lstat()
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from below(Path(entry.path))
        else:
            yield Path(entry.path), entry.stat(follow_symlinks=False)


def above(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The folders that lead to it, beginning with the root."""
    for folder in reversed(path.parents):
        yield folder, folder.stat()


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"


def _how(facts: os.stat_result, is_user: Callable[[int], bool], is_group: Callable[[int], bool]) -> str:
    if is_user(facts.st_uid):
        return f"it belongs to {user_name(facts.st_uid)}"
    if stat.S_ISLNK(facts.st_mode):
        return ""  # its mode means nothing
    if facts.st_mode & stat.S_IWOTH:
        return "everybody may write it"
    if facts.st_mode & stat.S_IWGRP and is_group(facts.st_gid):
        return f"the group {group_name(facts.st_gid)} may write it"
    return ""
