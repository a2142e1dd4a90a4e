"""Carries out a plan: the only code that changes the machine."""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import partial
from typing import IO

from colony import errors, files
from colony.failpoints import reach
from provisioning import clone, home, local, stepdown, unpacking
from provisioning.steps import (
    Act,
    Ask,
    Disable,
    Enable,
    Folder,
    Link,
    PutBack,
    Reload,
    Remove,
    Run,
    Settle,
    Start,
    Step,
    Stop,
    Write,
    WriteAs,
)
from provisioning.systemd import Systemd

Tell = Callable[[Step], AbstractContextManager[None]]


def silently(step: Step) -> AbstractContextManager[None]:
    """Tells nobody."""
    return nullcontext()


def apply(steps: Sequence[Step], tell: Tell = silently) -> None:
    """Carry out the steps in their order, each within `tell`. Raises `ColonyError` that names the step."""
    with ExitStack() as stack:
        hand = _Hand(stack)
        for step in steps:
            try:
                with tell(step):
                    for act in step.acts:
                        hand.do(act)
            except OSError as error:
                raise errors.Unavailable(f"{step.says}: {error}") from error
            except errors.ColonyError as error:
                raise type(error)(f"{step.says}: {error.detail}") from error
            reach("host.step", step.name)


class _Hand:
    """Connections are opened when the first act needs them, and closed with the stack."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._systemd: Systemd | None = None

    def do(self, act: Act) -> None:
        match act:
            case Run():
                _run(act)
            case Folder():
                _folder(act)
            case Write():
                _write(act)
            case Link():
                _link(act)
            case Remove():
                _remove(act)
            case Settle():
                _settle(act)
            case WriteAs():
                stepdown.as_user(act.user, partial(_write_as, act))
            case PutBack():
                stepdown.as_user(act.user, partial(_put_back, act))
            case Ask(user="root"):
                _ask(act)
            case Ask():
                stepdown.as_user(act.user, partial(_ask, act))
            case Reload():
                self.systemd.reload()
            case Enable():
                self.systemd.enable(act.units)
            case Disable():
                self.systemd.disable(act.units)
            case Start():
                self.systemd.start(act.units, restart=act.restart)
            case Stop():
                self.systemd.stop(act.units)

    @property
    def systemd(self) -> Systemd:
        if self._systemd is None:
            self._systemd = self._stack.enter_context(Systemd())
        return self._systemd


def _run(act: Run) -> None:
    done = run(act.argv, act.stdin or b"", act.user)
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise errors.Unavailable(f"{act.argv[0]}: {words[-1] if words else f'it ended with code {done.returncode}'}")


def run(argv: Sequence[str], stdin: bytes = b"", user: str = "root", seconds: float | None = None) -> subprocess.CompletedProcess[bytes]:
    """A program's end; as root, or as a user in a clean environment. After `seconds` it is killed, and `TimeoutExpired` raised."""
    if user == "root":
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=seconds)
    account = pwd.getpwnam(user)
    environ = {"HOME": account.pw_dir, "USER": user, "LOGNAME": user, "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    groups = os.getgrouplist(user, account.pw_gid)
    return subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        timeout=seconds,
        user=user,
        group=account.pw_gid,
        extra_groups=groups,
        env=environ,
        cwd="/",
        umask=0o077,
    )


def _folder(act: Folder) -> None:
    with suppress(FileExistsError):
        act.path.mkdir(mode=0o700)
    descriptor = os.open(act.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, *_owner(act))
        os.fchmod(descriptor, act.mode)
    finally:
        os.close(descriptor)


def _write(act: Write) -> None:
    staged = act.path.with_name(f".{act.path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w") as file:
            file.write(act.text)
            file.flush()
            os.fchown(descriptor, *_owner(act))
            os.fchmod(descriptor, act.mode)
            os.fsync(descriptor)
        staged.rename(act.path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def _link(act: Link) -> None:
    staged = act.path.with_name(f".{act.path.name}.{secrets.token_hex(4)}")
    staged.symlink_to(act.target)
    staged.rename(act.path)


def _remove(act: Remove) -> None:
    if act.path.is_symlink() or not act.path.is_dir():
        act.path.unlink(missing_ok=True)
    else:
        # An agent can nest folders deeper than Python goes.
        _run(Run(("rm", "--recursive", "--force", "--one-file-system", "--", str(act.path))))


def _write_as(act: WriteAs) -> None:
    files.clear_way(act.folder, act.name)
    if act.in_place and files.exists(act.folder, act.name):
        files.overwrite(act.folder, act.name, act.text)
    else:
        files.write(act.folder, act.name, act.text)


def _settle(act: Settle) -> None:
    def work(archive: IO[bytes] | None, source: str | None, descriptors: Sequence[int]) -> None:
        if archive:
            unpacking.restore(act.path, archive, act.repo, source, descriptors)
        home.prepare(act.path, act.soul, act.connection, act.agent, act.repo, source, descriptors)
        if act.is_first:
            home.begin_history(act.path)

    with ExitStack() as stack:
        archive = stack.enter_context(act.archive.open("rb")) if act.archive else None
        source, descriptors = stack.enter_context(clone.readable(act.repo)) if act.repo else (None, ())
        stepdown.as_user(act.user, partial(work, archive, source, descriptors))


def _put_back(act: PutBack) -> None:
    newest = max(act.folder.glob("colony-*.db"), key=lambda path: path.name)
    staged = act.database.with_name(f".{act.database.name}.{secrets.token_hex(4)}")
    shutil.copyfile(newest, staged)
    for beside in ("-wal", "-shm"):
        act.database.with_name(f"{act.database.name}{beside}").unlink(missing_ok=True)
    staged.rename(act.database)


def _owner(act: Folder | Write) -> tuple[int, int]:
    return pwd.getpwnam(act.user).pw_uid, grp.getgrnam(act.group).gr_gid


def _ask(act: Ask) -> None:
    from colony.patience import repeated

    with local.client() as client:
        try:
            repeated(lambda: client.call(act.operation, act.request))
        except errors.ColonyError as error:
            if act.settles is None or not isinstance(error, act.settles):
                raise
