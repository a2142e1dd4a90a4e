"""One at a time: two installs of one machine would be in each other's way."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from provisioning import places

LOCK = places.LOCKS / ".host"  # no agent's name begins like that
INHERITED = 9  # the descriptor in which bin/install holds it


@contextmanager
def alone() -> Iterator[None]:
    """Wait for another install or uninstall to end. bin/install hands its own lock on."""
    places.LOCKS.mkdir(mode=0o700, exist_ok=True)
    descriptor = _inherited() or os.open(LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        click.echo("another install is at work; waiting for it", err=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def _inherited() -> int | None:
    try:
        if not os.path.samestat(os.fstat(INHERITED), LOCK.stat()):
            return None
    except OSError:
        return None
    os.set_inheritable(INHERITED, False)
    return INHERITED
