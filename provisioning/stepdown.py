"""Does one thing as another user, in a child process that can't come back."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from typing import TypeVar

from colony import errors

T = TypeVar("T")


def as_user(user: str, work: Callable[[], T]) -> T:
    """What the work returns, which must be JSON's. Not for a process with threads.

    Raises the `ColonyError` that the work raised; anything else is an `Unavailable`.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise errors.Unavailable(f"there is no Linux user {user}; colony-agent doctor says what helps") from None
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        _do(account, work, sending)
    os.close(sending)
    with open(receiving, "rb") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = json.loads(said or "{}")
    if "code" in found:
        raise errors.BY_CODE[found["code"]](found["detail"])
    if status:
        raise errors.Unavailable(f"what was done as {user} ended with code {status}")
    done: T = found["done"]
    return done


def become(account: pwd.struct_passwd) -> None:
    """This process is that user from now on, in its home."""
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.umask(0o077)
    os.environ.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)
    os.chdir(account.pw_dir if os.access(account.pw_dir, os.X_OK) else "/")


def _do(account: pwd.struct_passwd, work: Callable[[], object], sending: int) -> None:
    code = 1
    try:
        with open(sending, "w") as pipe:
            pipe.write(_outcome(account, work))
        code = 0
    finally:
        os._exit(code)


def _outcome(account: pwd.struct_passwd, work: Callable[[], object]) -> str:
    try:
        become(account)
        return json.dumps({"done": work()})
    except Exception as error:
        kind = type(error) if isinstance(error, errors.ColonyError) else errors.Unavailable
        return json.dumps({"code": kind.code, "detail": str(error) or type(error).__name__})
