"""What the tests of the events and of their stream share."""

from __future__ import annotations

import time
from collections.abc import Callable

START = "0.0"
LONG = 40.0


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {LONG} s"
        time.sleep(0.01)
