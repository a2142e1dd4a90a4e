"""Which reply answers which request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from tests.standin.replies import Reply, text
from tests.standin.requests import Request, last_user_text

Script = Callable[[Request], Reply]


def echo(request: Request) -> Reply:
    """Repeat the user's last words."""
    return text(f"echo: {last_user_text(request)}")


def sequence(replies: Iterable[Reply]) -> Script:
    """Give the replies one after another; the last one answers everything after."""
    pending = list(replies)
    if not pending:
        raise ValueError("a script needs at least one reply")
    lock = threading.Lock()

    def reply(_: Request) -> Reply:
        with lock:
            return pending.pop(0) if len(pending) > 1 else pending[0]

    return reply
