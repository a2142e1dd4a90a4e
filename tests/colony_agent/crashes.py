"""Ends a process right before a thing that it does to its files: the first, the second, and so on until it has done them all."""

from __future__ import annotations

import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterator

DEEDS = {"open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.truncate"}  # as Python's audit events are called
CRASHED = 137


def crashes(act: Callable[[], object]) -> Iterator[None]:
    """Act in a child process that ends at its first deed, then in one that ends at its second, …, until one comes to its end."""
    for number in itertools.count(1):
        if not _crash(act, number):
            return
        yield


def _crash(act: Callable[[], object], number: int) -> bool:
    """Whether it came to that deed."""
    pid = os.fork()
    if pid == 0:
        _act(act, number)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, CRASHED)
    return code == CRASHED


def _act(act: Callable[[], object], number: int) -> None:
    numbers = itertools.count(1)

    def look(event: str, arguments: object) -> None:
        if event in DEEDS and next(numbers) == number:
            os._exit(CRASHED)

    try:
        sys.addaudithook(look)
        act()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
