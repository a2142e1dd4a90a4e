"""What is shown goes to a reader, who may leave: `head` has seen enough, a pager was quit. That is no error, and needs no words."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import click

from colony import errors

CLOSED = 141  # the exit code: what a shell reports after SIGPIPE


@contextmanager
def to_its_end() -> Iterator[None]:
    """All that is shown within has left this process at the end. Where its reader has left, the command ends with `CLOSED`."""
    try:
        yield
        flush()
    except OSError as error:
        _forget_unwritten()
        if isinstance(error, BrokenPipeError):
            raise click.exceptions.Exit(CLOSED) from error
        raise


def flush() -> None:
    """Raises OSError unless everything shown has left this process."""
    stdout().flush()


def stdout() -> TextIO:
    out: TextIO | None = sys.stdout
    if out is None:  # so it is when a process starts with it closed
        raise errors.Invalid("stdout is closed")
    return out


def _forget_unwritten() -> None:
    """So that it does not fail once again when the interpreter ends."""
    try:
        flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout().fileno())
