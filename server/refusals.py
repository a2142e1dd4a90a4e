"""Which refusals are written down. The audit is kept for ever: who is refused again and again could fill the disk with it."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from datetime import datetime

A_MINUTE = 100  # of one user, and of all strangers together; /metrics counts the others, too
log = logging.getLogger(__name__)


class Refusals:
    """Counts those of the present minute, by who was refused; None is whoever has no account."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._minute: datetime | None = None
        self._counts: Counter[int | None] = Counter()

    def has_room(self, user_id: int | None, now: datetime) -> bool:
        """Whether one more of theirs is written down."""
        minute = now.replace(second=0, microsecond=0)
        with self._mutex:
            if minute != self._minute:
                self._minute, self._counts = minute, Counter()
            self._counts[user_id] += 1
            count = self._counts[user_id]
        if count == A_MINUTE + 1:
            log.warning("refusals are not written down until the minute ends user_id=%s", user_id)
        return count <= A_MINUTE
