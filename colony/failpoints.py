"""Named points of the code at which `colony prove`, or a test, ends or stops the process: whatever happens there must do no harm.

COLONY_FAILPOINTS names a folder. A file in it arms the point of its name, once: the process that renames it is the one that goes
down, and what it was renamed to tells who that was. Without the variable a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Literal, NamedTuple

Action = Literal["crash", "stop"]

VARIABLE = "COLONY_FAILPOINTS"
EXIT_CODE = 137  # as after kill -9
_HIT = ".hit."

_TURN = (
    *("turn.before_claim", "turn.claimed", "turn.prompted", "turn.before_spawn", "turn.spawned", "turn.first_output"),
    *("turn.before_post", "turn.posted", "turn.before_renew", "turn.renewed", "turn.runner_ended"),
    *("turn.before_journal", "turn.journaled", "turn.before_finish", "turn.finish_answered", "turn.before_exit"),
    *("turn.before_fail", "turn.fail_answered"),
)
_DATABASE = ("database.before_commit", "database.committed")
_OPERATIONS = tuple(
    f"server.{moment}.{operation}"
    for operation in ("post", "claim", "renew", "finish", "fail")
    for moment in ("before_commit", "before_wake", "before_answer")
)
POINTS: tuple[str, ...] = _TURN + _DATABASE + _OPERATIONS


class Hit(NamedTuple):
    """A point that was reached while it was armed, and the process that reached it."""

    point: str
    pid: int
    at: int  # by the monotonic clock, in nanoseconds: a pid comes back


def reach(point: str, operation: str = "") -> None:
    """Here the process ends as by kill -9, or stops as by SIGSTOP, if the point is armed."""
    if _folder is not None:
        _fire(_folder, f"{point}.{operation}" if operation else point)


def arm(folder: str | os.PathLike[str], point: str, action: Action = "crash") -> None:
    """Let the next process that reaches the point go down. Raises `FileExistsError` while it is armed already."""
    assert point in POINTS, point
    draft = os.path.join(folder, f".{point}")
    with open(draft, "w") as file:
        file.write(action)
    try:
        os.link(draft, os.path.join(folder, point))
    finally:
        os.unlink(draft)


def disarm(folder: str | os.PathLike[str], point: str) -> None:
    """Nothing happens there any more."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, point))


def hits(folder: str | os.PathLike[str]) -> set[Hit]:
    """Every point that was hit so far."""
    found = (name.partition(_HIT) for name in os.listdir(folder))
    return {Hit(point, *map(int, who.split("."))) for point, hit, who in found if hit}


def _fire(folder: str, point: str) -> None:
    armed = os.path.join(folder, point)
    try:
        with open(armed) as file:
            action = file.read()
        os.rename(armed, f"{armed}{_HIT}{os.getpid()}.{time.monotonic_ns()}")
    except FileNotFoundError:
        return
    if action == "stop":
        signal.raise_signal(signal.SIGSTOP)  # to this very thread: sent to the process, it would let this one run on for a moment
    else:
        os._exit(EXIT_CODE)


_folder = os.environ.get(VARIABLE)
