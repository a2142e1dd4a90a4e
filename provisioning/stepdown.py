"""Does one thing as another user, in a child process that can't come back."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from typing import Any

from colony import errors

FAILED = 1  # the child's exit code


def as_user(user: str, work: Callable[[], object]) -> Any:
    """What the work gives, as JSON has it. Not for a process with threads.

    Raises the `ColonyError` that the work raised; anything else is an `Unavailable`.
    """
    account = pwd.getpwnam(user)
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        _do(account, work, sending)
    os.close(sending)
    with open(receiving, "rb") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if said and status == FAILED:
        code, detail = json.loads(said)
        raise errors.BY_CODE[code](detail)
    if status:
        raise errors.Unavailable(f"what was done as {user} ended with code {status}")
    return json.loads(said)


def become(account: pwd.struct_passwd) -> None:
    """This process is that user from now on, in its home."""
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.umask(0o077)
    os.environ.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)
    os.chdir(account.pw_dir if os.access(account.pw_dir, os.X_OK) else "/")


def _do(account: pwd.struct_passwd, work: Callable[[], object], sending: int) -> None:
    code = FAILED
    try:
        become(account)
        _say(sending, work())
        code = 0
    except Exception as error:
        kind = type(error) if isinstance(error, errors.ColonyError) else errors.Unavailable
        _say(sending, [kind.code, str(error) or type(error).__name__])
    finally:
        os._exit(code)


def _say(sending: int, what: object) -> None:
    with open(sending, "w", closefd=False) as pipe:
        pipe.write(json.dumps(what))
