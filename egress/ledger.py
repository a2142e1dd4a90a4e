"""What is noted of each connection, and how the server comes to know it: in batches, and bounded while it is away."""

from __future__ import annotations

import itertools
import logging
import threading
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from colony import errors, operations, schema
from colony.client import Client
from egress.folds import Folds
from egress.refusals import Gone, Refusal
from egress.visit import Visit

log = logging.getLogger(__name__)

BATCH = 200  # contacts; even the longest fit in a request that the server takes
EVERY_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0
TOLD_SECONDS = 60.0  # until what goes on is told of again; well below the silence after which the server takes it for lost


class _Waiting:
    """What waits for the server, of one agent: what was refused apart from the rest, since that can be any number at no cost."""

    def __init__(self) -> None:
        self._lines: dict[bool, dict[str, tuple[int, schema.Contact]]] = {False: {}, True: {}}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def put(self, number: int, contact: schema.Contact) -> None:
        """What is newer about one that waits already takes its place."""
        line = self._lines[contact.verdict == "denied"]
        other = self._lines[contact.verdict != "denied"].pop(contact.id, None)
        known = line.get(contact.id) or other
        line[contact.id] = known[0] if known else number, contact

    def pop(self) -> schema.Contact:
        """The oldest."""
        line = min(filter(None, self._lines.values()), key=lambda line: next(iter(line.values()))[0])
        return line.pop(next(iter(line)))[1]

    def drop(self) -> None:
        """The oldest that was refused, or else the oldest; what can't be done without is the last to go."""
        line = self._lines[True] or self._lines[False]
        ids = (id for id, (_, contact) in line.items() if not contact.holds_honeytoken)
        del line[next(ids, next(iter(line)))]


class Ledger:
    """Keeps contacts until the server has them, from a thread of its own. What goes on is told of, too, at its beginning and now and then.

    Where there are more than `most`, one of the agent that has most of them is dropped: nobody hides behind another's noise, nor behind
    what they were refused themselves.
    """

    def __init__(self, client: Client, most: int, every_seconds: float = EVERY_SECONDS, clock: Callable[[], float] = monotonic) -> None:
        self._client, self._most, self._every_seconds, self._clock = client, most, every_seconds, clock
        self._mutex = threading.Lock()
        self._folds = Folds(clock)
        self._waiting: dict[str, _Waiting] = {}
        self._on_its_way: list[schema.Contact] = []
        self._numbers = itertools.count()
        self._visits: dict[str, tuple[Visit, float | None]] = {}  # those that go on, and when each was told of last
        self._dropped = 0
        self._stops = threading.Event()
        self._trouble = ""
        self._thread = threading.Thread(target=self._go_on, name="ledger", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def note(self, visit: Visit) -> None:
        """One that is over."""
        visit.is_over()
        with self._mutex:
            self._put(self._folds.folded(visit).contact())

    @contextmanager
    def noting(self, visit: Visit) -> Iterator[None]:
        """Notes the connection while its work goes on, and when that is over, however it ends."""
        with self._mutex:
            self._visits[visit.id] = visit, None
        try:
            yield
        except Refusal as error:
            visit.refused(error)
            error.is_noted = True
            raise
        except Gone:
            visit.ended("allowed", "the agent hung up")
            raise
        except CancelledError:
            visit.ended("failed", "the gate was stopped")
            raise
        except Exception:
            visit.ended("failed", "broken off")
            raise
        finally:
            with self._mutex:
                _, told_at = self._visits.pop(visit.id)
                visit.is_over()
                # What the server has heard of already is no other one's to count.
                self._put((visit if told_at is not None else self._folds.folded(visit)).contact())

    def close(self, seconds: float) -> None:
        """Send what is left, for at most so long."""
        self._stops.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        if self.count or self._dropped:
            log.warning("contacts are lost kept=%d dropped=%d", self.count, self._dropped)

    @property
    def count(self) -> int:
        return sum(map(len, self._waiting.values()))

    def owes(self, user: str) -> bool:
        """Whether there is something of that agent that the server has not heard of."""
        with self._mutex:
            return user in self._waiting or any(contact.linux_user == user for contact in self._on_its_way)

    def _go_on(self) -> None:
        pause = self._every_seconds
        while not self._stops.wait(pause):
            pause = self._every_seconds if self._send() else min(2 * pause, LONGEST_PAUSE_SECONDS)
        self._send()

    def _send(self) -> bool:
        """Whether all that was there is the server's now."""
        self._look()
        while batch := self._taken():
            try:
                self._deliver(batch)
            except Exception as error:  # a thread that ended would note nothing any more
                self._give_back(batch)
                self._on_its_way = []
                self._tell(str(error), is_known=isinstance(error, errors.ColonyError))
                return False
        self._trouble = ""
        self._tell_dropped()
        return True

    def _deliver(self, batch: list[schema.Contact]) -> None:
        """Raises `Unavailable`. What the server refuses would be refused for ever: it is dropped, and nothing else with it."""
        try:
            self._client.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=batch))
        except errors.Unavailable:
            raise
        except errors.ColonyError as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                self._deliver(batch[:middle])
                self._deliver(batch[middle:])
                return
            log.error("the server refuses a contact id=%s error=%s", batch[0].id, error)
            with self._mutex:
                self._dropped += 1

    def _look(self) -> None:
        """Tell of what goes on, once it has reached something, and again from time to time."""
        now = self._clock()
        with self._mutex:
            for visit, told_at in list(self._visits.values()):
                if visit.is_there and (told_at is None or now - told_at >= TOLD_SECONDS):
                    self._visits[visit.id] = visit, now
                    self._put(visit.contact())

    def _taken(self) -> list[schema.Contact]:
        """Of each agent in turn, so that the quiet ones need not wait for the loud."""
        batch: list[schema.Contact] = []
        with self._mutex:
            while self._waiting and len(batch) < BATCH:
                for user in list(self._waiting)[: BATCH - len(batch)]:
                    batch.append(self._waiting[user].pop())
                    self._forget_if_empty(user)
            self._on_its_way = batch
        return batch

    def _give_back(self, batch: list[schema.Contact]) -> None:
        """Before what has come since, which may be newer words about the same."""
        with self._mutex:
            newer = [waiting.pop() for waiting in self._waiting.values() for _ in range(len(waiting))]
            self._waiting.clear()
            for contact in (*batch, *newer):
                self._put(contact)

    def _put(self, contact: schema.Contact) -> None:
        self._waiting.setdefault(contact.linux_user, _Waiting()).put(next(self._numbers), contact)
        if self.count > self._most:
            user = max(self._waiting, key=lambda user: len(self._waiting[user]))
            self._waiting[user].drop()
            self._forget_if_empty(user)
            self._dropped += 1

    def _forget_if_empty(self, user: str) -> None:
        if not self._waiting[user]:
            del self._waiting[user]

    def _tell(self, trouble: str, *, is_known: bool) -> None:
        if trouble != self._trouble:
            log.warning("contacts wait for the server: %s", trouble, exc_info=not is_known)
        self._trouble = trouble

    def _tell_dropped(self) -> None:
        with self._mutex:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            log.warning("contacts were dropped count=%d", dropped)
