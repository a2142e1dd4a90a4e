"""A repository that an agent is to get: asked for before anything is changed, and made readable for whoever clones it."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from colony import errors
from provisioning import home, places

ASK_SECONDS = 20
_QUIET = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}


def require_reachable(repo: str) -> None:
    """Raises `Unavailable` with git's reason. A repository on this machine is read as its owner, any other as nobody."""
    is_here = Path(repo).is_dir()
    argv = ["git", "-C", repo, "rev-parse", "HEAD"] if is_here else ["git", "ls-remote", "--quiet", "--", repo, "HEAD"]
    try:
        _git(argv, _owner(repo) if is_here else "nobody", repo)
    except subprocess.TimeoutExpired:
        raise errors.Unavailable(f"can't clone {repo}: no answer within {ASK_SECONDS} s") from None


@contextmanager
def readable(repo: str) -> Iterator[tuple[str, Sequence[int]]]:
    """What git can clone it from, and the descriptors that this takes.

    The agent may not read a repository in somebody's home, and git trusts none of another owner: so the owner packs it into a file
    that has no name.
    """
    if not Path(repo).is_dir():
        yield repo, ()
        return
    packed = os.open(places.HOMES, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _git(["git", "-C", repo, "bundle", "create", "--quiet", "-", "HEAD", "--branches", "--tags"], _owner(repo), repo, packed)
        os.fchmod(packed, 0o444)
        yield f"/proc/self/fd/{packed}", (packed,)
    finally:
        os.close(packed)


def _git(argv: Sequence[str], user: str, repo: str, stdout: int | None = None) -> None:
    account = pwd.getpwnam(user)
    done = subprocess.run(
        argv,
        stdout=subprocess.DEVNULL if stdout is None else stdout,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**_QUIET, "HOME": account.pw_dir},
        cwd="/",
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=os.getgrouplist(user, account.pw_gid),
        timeout=ASK_SECONDS if stdout is None else None,
    )
    if done.returncode:
        raise errors.Unavailable(f"can't clone {repo}: {home.reason(done.stderr.decode(errors='replace'))}")


def _owner(repo: str) -> str:
    uid = Path(repo).stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise errors.Unavailable(f"can't clone {repo}: it belongs to uid {uid}, who is no user of this machine") from None
