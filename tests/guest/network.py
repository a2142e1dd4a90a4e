"""What a test opens in the network of a machine."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.guest.commands import Commands

T = TypeVar("T")
CLONE_NEWNET = 0x40000000  # as sched.h has it


def made_inside(machine: Commands, make: Callable[[], T]) -> T:
    """What `make` gives. A socket that it opens belongs to the machine's network, and can be used by this process."""
    with ThreadPoolExecutor(1) as alone:  # each thread has a network; this one ends with it
        alone.submit(_enter, machine).result()
        return alone.submit(make).result()


def _enter(machine: Commands) -> None:
    with Path(f"/proc/{machine.leader}/ns/net").open() as network:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(network.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
