"""What a command does while the colony does not answer: a few more tries, or waiting until it is back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from colony import errors
from colony.show import note

R = TypeVar("R")

TRIES = 4  # after the first, over about two seconds: enough for a server that restarts
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0


def repeated(call: Callable[[], R], seconds: float | None = None) -> R:
    """The call's answer, after a few more tries if need be, or for so long; only for calls that are safe to repeat."""
    try:
        return call()
    except errors.Unavailable:
        from tenacity import stop_after_attempt, stop_after_delay

        return _retry(call, stop_after_attempt(TRIES) if seconds is None else stop_after_delay(seconds))


def until_answered(call: Callable[[], R], seconds: float = math.inf) -> R:
    """The call's answer, however long that takes up to `seconds`; people are told of an outage once, and of its end."""
    try:
        return call()
    except errors.Unavailable as error:
        from tenacity import stop_before_delay

        note(f"{error}; trying again until it answers")
        answer = _retry(call, stop_before_delay(seconds))
        note("the colony answers again")
        return answer


def _retry(call: Callable[[], R], stop: Callable[..., bool]) -> R:
    # Imported only after a failure: 20 ms that a call that succeeds need not pay.
    from tenacity import Retrying, retry_if_exception_type, wait_exponential_jitter

    pause = wait_exponential_jitter(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS, jitter=FIRST_PAUSE_SECONDS)
    return Retrying(retry=retry_if_exception_type(errors.Unavailable), stop=stop, wait=pause, reraise=True)(call)
