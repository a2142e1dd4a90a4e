"""What is noted of each connection, and how the server comes to know it: in batches, and bounded while it is away."""

from __future__ import annotations

import logging
import threading
import uuid
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Literal

from colony import errors, operations, schema
from colony.client import Client
from egress.refusals import Gone, Refusal, Verdict

log = logging.getLogger(__name__)

BATCH = 200  # contacts; even the longest fit in a request that the server takes
EVERY_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0
MAX_REASON = 200  # characters

Kind = Literal["connect", "http", "model"]


@dataclass
class Visit:
    """One connection that an agent asked for, while it lasts."""

    user: str
    kind: Kind
    host: str
    port: int
    sent: int = 0  # bytes that came from the agent and went out
    received: int = 0
    verdict: Verdict = "allowed"
    reason: str = ""
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _began: float = field(default_factory=monotonic)

    def ended(self, verdict: Verdict, reason: str) -> None:
        self.verdict, self.reason = verdict, reason[:MAX_REASON]

    def contact(self) -> schema.Contact:
        return schema.Contact(
            id=str(uuid.uuid4()),
            linux_user=self.user,
            host=self.host,
            port=self.port,
            verdict=self.verdict,
            reason=self.reason,
            sent_bytes=self.sent,
            received_bytes=self.received,
            began_at=self.began_at,
            seconds=round(monotonic() - self._began, 3),
            kind=self.kind,
        )


class Ledger:
    """Keeps contacts until the server has them, from a thread of its own.

    Where there are more than `most`, the oldest of the agent that has most of them is dropped: nobody hides behind another's noise.
    """

    def __init__(self, client: Client, most: int, every_seconds: float = EVERY_SECONDS) -> None:
        self._client, self._most, self._every_seconds = client, most, every_seconds
        self._mutex = threading.Lock()
        self._kept: dict[str, deque[schema.Contact]] = {}
        self._count = self._dropped = 0
        self._stops = threading.Event()
        self._trouble = ""
        self._thread = threading.Thread(target=self._go_on, name="ledger", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def note(self, visit: Visit) -> None:
        contact = visit.contact()
        with self._mutex:
            self._put(contact, deque.append)

    @contextmanager
    def noting(self, visit: Visit) -> Iterator[None]:
        """Notes the connection when its work is over, however that ends."""
        try:
            yield
        except Refusal as error:
            visit.ended(error.verdict, error.detail)
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
            self.note(visit)

    def close(self, seconds: float) -> None:
        """Send what is left, for at most so long."""
        self._stops.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        if self._count or self._dropped:
            log.warning("contacts are lost kept=%d dropped=%d", self._count, self._dropped)

    @property
    def count(self) -> int:
        return self._count

    def _go_on(self) -> None:
        pause = self._every_seconds
        while not self._stops.wait(pause):
            pause = self._every_seconds if self._send() else min(2 * pause, LONGEST_PAUSE_SECONDS)
        self._send()

    def _send(self) -> bool:
        """Whether all that was there is the server's now."""
        while batch := self._taken():
            try:
                self._deliver(batch)
            except Exception as error:  # a thread that ended would note nothing any more
                self._give_back(batch)
                self._tell(str(error), is_known=isinstance(error, errors.ColonyError))
                return False
        self._trouble = ""
        self._tell_dropped()
        return True

    def _deliver(self, batch: list[schema.Contact]) -> None:
        """Raises `Unavailable`. What the server refuses would be refused for ever: it is dropped, and nothing else with it."""
        try:
            self._client.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=batch))
        except errors.Invalid as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                self._deliver(batch[:middle])
                self._deliver(batch[middle:])
                return
            log.error("the server refuses a contact id=%s error=%s", batch[0].id, error)
            with self._mutex:
                self._dropped += 1

    def _taken(self) -> list[schema.Contact]:
        """Of each agent in turn, so that the quiet ones need not wait for the loud."""
        batch: list[schema.Contact] = []
        with self._mutex:
            while self._kept and len(batch) < BATCH:
                for user in list(self._kept)[: BATCH - len(batch)]:
                    batch.append(self._pop(user))
        return batch

    def _give_back(self, batch: list[schema.Contact]) -> None:
        with self._mutex:
            for contact in reversed(batch):
                self._put(contact, deque.appendleft)

    def _put(self, contact: schema.Contact, how: Callable[[deque[schema.Contact], schema.Contact], None]) -> None:
        how(self._kept.setdefault(contact.linux_user, deque()), contact)
        self._count += 1
        if self._count > self._most:
            self._pop(max(self._kept, key=lambda user: len(self._kept[user])))
            self._dropped += 1

    def _pop(self, user: str) -> schema.Contact:
        contacts = self._kept[user]
        contact = contacts.popleft()
        self._count -= 1
        if not contacts:
            del self._kept[user]
        return contact

    def _tell(self, trouble: str, *, is_known: bool) -> None:
        if trouble != self._trouble:
            log.warning("contacts wait for the server: %s", trouble, exc_info=not is_known)
        self._trouble = trouble

    def _tell_dropped(self) -> None:
        with self._mutex:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            log.warning("contacts were dropped count=%d", dropped)
