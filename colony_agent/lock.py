"""The lock that keeps an agent's turns, dreams and repairs apart."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from colony_agent.settings import Home


@contextmanager
def the_only_process(home: Home) -> Iterator[bool]:
    """Hold the agent's lock, if it is free; it ends with this process. The file it is on is the machine's and stays in place."""
    with open(home.config_file, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
