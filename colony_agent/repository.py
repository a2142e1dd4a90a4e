"""An agent's home as a git repository. Git runs in the sandbox, and is told what to record: it looks at nothing that the agent has made.

Else it would obey what lies there: filters, and the settings of another repository within the home.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

from colony import files
from colony.failures import CRASHED
from colony_agent import process
from colony_agent.overflow import MEMORY
from colony_agent.process import Exit
from colony_agent.runner import RunnerFailed
from colony_agent.sandbox import for_home
from colony_agent.settings import Home

log = logging.getLogger(__name__)

GIT_SECONDS = 30
STALE_SECONDS = 2 * GIT_SECONDS  # no git lives so long
COMMITTED = ("CLAUDE.md", "heartbeat.md", MEMORY)  # first of all; and what lies in these folders
FOLDERS = (".claude/rules", "memory")
MAX_BYTES = 16 * 2**20  # of all that is committed

# In its home an agent can hook programs to git, which would run where the history can be written.
ITS_OWN = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
HOOKLESS = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")


def commit(home: Home, message: str) -> None:
    """Record the home's text files. What the agent did to its repository can stop that, and costs the agent no more than its history."""
    try:
        _commit(home, message)
    except RunnerFailed as failed:
        log.warning("home not committed agent=%s: %s", home.agent.name, failed.detail)


def git(home: Home, *words: str, stdin: bytes = b"") -> tuple[Exit, bytes]:
    """How git ended and what it printed. Raises `RunnerFailed` when it takes too long or floods its output."""
    said = bytearray()
    command = for_home(home, keeps_history=True).confine(["git", *HOOKLESS, *words], ITS_OWN)
    ended = process.run(command, stdin, lambda line: said.extend(line + b"\n"), GIT_SECONDS, threading.Event())
    return ended, bytes(said)


def _commit(home: Home, message: str) -> None:
    _sweep(home)
    _do(home, "init", "--quiet")
    texts = dict(_texts(home))
    ended, listed = git(home, "ls-tree", "-r", "-z", "HEAD")
    is_first = ended.returncode != 0
    if not is_first and set(listed.removesuffix(b"\n").split(b"\0")) - {b""} == {_listed(name, text) for name, text in texts.items()}:
        return
    _do(home, "fast-import", "--quiet", stdin=_commands(home, message, texts, is_first=is_first))
    _do(home, "read-tree", "HEAD")  # so that `git status` knows them; it reads no other file


def _sweep(home: Home) -> None:
    """Delete what was left by a git that was killed or had no room: its locks would stop all others for good."""
    for name, facts in _below(home, ".git"):
        is_left = name.endswith(".lock") or name.rpartition("/")[2].startswith("tmp_")
        if is_left and time.time() - facts.st_mtime > STALE_SECONDS:
            with suppress(OSError):
                files.delete(home.path, name)


def _texts(home: Home) -> Iterator[tuple[bytes, bytes]]:
    """The files to record by name, as far as all of them have room."""
    below = (name for folder in FOLDERS for name, facts in _below(home, folder) if stat.S_ISREG(facts.st_mode))
    left = MAX_BYTES
    for name in dict.fromkeys(chain(COMMITTED, below)):
        try:
            text = files.read_bytes(home.path, name, left + 1) if files.exists(home.path, name) else None
        except OSError:  # something odd is in its place, or on the way
            continue
        if text is None or ".git" in name.lower().split("/"):
            continue
        if len(text) > left:
            log.warning("more is noted than is committed agent=%s bytes=%d", home.agent.name, MAX_BYTES)
            return
        left -= len(text)
        yield os.fsencode(name), text


def _below(home: Home, folder: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        yield from files.walk(home.path, folder)
    except OSError:
        return


def _listed(name: bytes, text: bytes) -> bytes:
    """As `git ls-tree -z` shows it."""
    id = hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest()
    return b"100644 blob %s\t%s" % (id.encode(), name)


def _commands(home: Home, message: str, texts: dict[bytes, bytes], *, is_first: bool) -> bytes:
    """The whole commit for git fast-import. Raises `RunnerFailed`."""
    branch = _branch(home)
    name = home.agent.name
    said = message.encode()
    lines = [f"commit {branch}", f"committer {name} <{name}@colony.invalid> {time.time():.0f} +0000", f"data {len(said)}"]
    stream = bytearray("\n".join(lines).encode() + b"\n" + said + b"\n")
    if not is_first:
        stream += f"from {branch}^0\n".encode()
    stream += b"deleteall\n"
    for path, text in texts.items():
        stream += b"M 100644 inline %s\ndata %d\n%s\n" % (_quoted(path), len(text), text)
    return bytes(stream)


def _branch(home: Home) -> str:
    try:
        named = re.fullmatch(r"ref: (refs/heads/[\w./-]+)\n", files.read(home.path, ".git/HEAD", 256))
    except OSError as error:
        raise RunnerFailed(CRASHED, f"the home's repository is odd: {error}") from error
    if not named:
        raise RunnerFailed(CRASHED, "the home's repository is on no branch")
    return named[1]


def _quoted(path: bytes) -> bytes:
    return b'"' + path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


def _do(home: Home, *words: str, stdin: bytes = b"") -> None:
    ended, _ = git(home, *words, stdin=stdin)
    if ended.returncode:
        raise RunnerFailed(CRASHED, f"git {words[0]} says {ended.last_words}")
