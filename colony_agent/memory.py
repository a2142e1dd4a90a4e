"""How an agent's memory came to be what it is: its dreams' commits, what changed, and the way back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from colony import errors, files, show
from colony_agent import dream, overflow, repository
from colony_agent.lock import the_only_process
from colony_agent.overflow import MEMORY
from colony_agent.runner import RunnerFailed
from colony_agent.settings import Home

MAX_COMMITS = 500
MAX_DIFF_BYTES = 2**20
MAX_MEMORY_BYTES = 16 * 2**20  # of which the diff tells
_REVISION = re.compile(r"[0-9a-f]{4,40}|HEAD(~[0-9]{1,6})?")


@dataclass(frozen=True)
class Commit:
    id: str
    at: datetime
    subject: str


def log(home: Home) -> list[Commit]:
    """The commits that changed the memory, newest first; what they say is the agent's own word. Raises `NotFound` without any."""
    said = _git(home, "log", f"--max-count={MAX_COMMITS}", "--no-show-signature", "--format=%H %ct %s", "HEAD", "--", MEMORY)
    lines = re.findall(r"^([0-9a-f]{40,64}) ([0-9]{1,11}) (.*)$", said.decode(errors="replace"), re.MULTILINE)
    return [Commit(commit, datetime.fromtimestamp(int(at), UTC), show.line(subject)) for commit, at, subject in lines]


def diff(home: Home, revision: str = "HEAD") -> str:
    """What has changed in the memory since that revision, fit for a terminal. Raises `Invalid` or `NotFound`."""
    commit = _resolved(home, revision)
    now = _git(home, "hash-object", "-w", "--stdin", "--no-filters", stdin=_now(home)).decode().strip()
    said = _git(home, "diff", "--no-color", "--no-ext-diff", "--no-textconv", "--text", f"{commit}:{MEMORY}", now)
    return show.clean(said[:MAX_DIFF_BYTES].decode(errors="replace"))


def revert(home: Home, revision: str) -> None:
    """Make the memory what it was at that revision, and commit that; the present one is kept in memory/dreams.

    Raises `Conflict` while a turn or a dream of the agent runs, `Invalid` or `NotFound` for a revision that has no memory.
    """
    with the_only_process(home) as is_alone:
        if not is_alone:
            raise errors.Conflict(f"{home.agent.name} is in a turn; wait for its end, or pause it, and try again")
        commit = _resolved(home, revision)
        then = _git(home, "cat-file", "blob", f"{commit}:{MEMORY}")
        now = datetime.now(UTC)
        try:
            dream.keep(home, overflow.read(home, now), now)
            files.write(home.path, MEMORY, then)
        except OSError as error:
            raise errors.Conflict(f"the memory in {home.path} stays as it is, since it can't be kept: {error}") from error
        overflow.settle(home, now)
        repository.commit(home, f"Memory as it was at {commit[:12]}")


def _resolved(home: Home, revision: str) -> str:
    if not _REVISION.fullmatch(revision):
        raise errors.Invalid(f"{revision[:60]!r} is no revision; give a commit as `log` shows it, HEAD, or HEAD~N")
    commit = _git(home, "rev-parse", "--verify", f"{revision}^{{commit}}").decode(errors="replace").strip()
    if not re.fullmatch("[0-9a-f]{40,64}", commit):
        raise errors.Unavailable(f"the repository in {home.path} doesn't say what {revision} is")
    return commit


def _now(home: Home) -> bytes:
    try:
        return files.read_bytes(home.path, MEMORY, MAX_MEMORY_BYTES)
    except OSError as error:
        raise errors.Conflict(f"the memory in {home.path} can't be read: {error}") from error


def _git(home: Home, *words: str, stdin: bytes = b"") -> bytes:
    if not files.exists(home.path, ".git/HEAD"):  # the folder alone may only cover the name
        raise errors.NotFound(f"{home.path} has no history yet; the agent's first dream begins it")
    try:
        ended, said = repository.git(home, *words, stdin=stdin)
    except RunnerFailed as failed:
        raise errors.Unavailable(f"git in {home.path}: {show.line(failed.detail)}") from failed
    if ended.returncode:
        raise errors.NotFound(f"{home.path} has no such history: git says {show.line(ended.last_words)}")
    return said
