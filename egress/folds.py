"""What is alike, or too much, becomes one contact that counts: an agent that hammers fills no log, and hides nothing in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from egress.visit import Visit

FOLD_SECONDS = 10.0  # in which refusals that are alike are one contact: short, so that it belongs to one turn
HOUR_SECONDS = 3600.0
MOST_REFUSED = 200  # contacts of an agent in an hour; what is beyond is counted only
MOST_OTHERS = 1000
REMEMBERED = 4096  # contacts that more could be counted to
BEYOND = "and more than are told one by one within an hour"

_Key = tuple[str, ...]


@dataclass
class _Hour:
    """An agent's."""

    began: float
    told: Counter[bool] = field(default_factory=Counter)  # by whether they were refused


class Folds:
    """For one thread."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._hours: dict[str, _Hour] = {}
        self._open: dict[_Key, tuple[float, Visit]] = {}  # until when a visit counts what is like it

    def folded(self, visit: Visit) -> Visit:
        """The visit itself, or an earlier one that counts it from now on."""
        if visit.is_betrayal:  # never among others
            return visit
        now = self._clock()
        is_refused = visit.verdict == "denied"
        if is_refused and (found := self._counting(_likeness(visit), now)):
            found.count(visit)
            return found
        hour = self._hour(visit.user, now)
        if hour.told[is_refused] < (MOST_REFUSED if is_refused else MOST_OTHERS):
            hour.told[is_refused] += 1
            if is_refused:
                self._keep(_likeness(visit), now + FOLD_SECONDS, visit)
            return visit
        key = visit.user, visit.kind, visit.verdict
        found = self._counting(key, now)
        if found is None:
            found = Visit(visit.user, visit.kind, "", 0, verdict=visit.verdict, reason=BEYOND, times=0)
            self._keep(key, hour.began + HOUR_SECONDS, found)
        found.count(visit)
        return found

    def _counting(self, key: _Key, now: float) -> Visit | None:
        until, visit = self._open.get(key, (0.0, None))
        return visit if now < until else None

    def _keep(self, key: _Key, until: float, visit: Visit) -> None:
        if len(self._open) >= REMEMBERED:
            now = self._clock()
            self._open = {known: found for known, found in self._open.items() if now < found[0]}
        self._open[key] = until, visit

    def _hour(self, user: str, now: float) -> _Hour:
        found = self._hours.get(user)
        if found is None or now - found.began >= HOUR_SECONDS:
            self._hours = {name: hour for name, hour in self._hours.items() if now - hour.began < HOUR_SECONDS}
            found = self._hours[user] = _Hour(now)
        return found


def _likeness(visit: Visit) -> _Key:
    return visit.user, visit.kind, visit.host, str(visit.port), visit.verdict, visit.reason
