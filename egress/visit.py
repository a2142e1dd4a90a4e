"""One connection that an agent asked for."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Literal

from colony import schema
from egress.refusals import Refusal, Verdict

MAX_REASON = 200  # characters

Kind = Literal["connect", "http", "model"]


@dataclass
class Visit:
    user: str
    kind: Kind
    host: str
    port: int
    sent: int = 0  # bytes that came from the agent and went out
    received: int = 0
    verdict: Verdict = "allowed"
    reason: str = ""
    took: str = ""  # which secrets, in words
    secrets: tuple[str, ...] = ()  # by their names
    times: int = 1  # how many of its like it stands for
    is_there: bool = False  # something has been reached
    is_betrayal: bool = False  # the agent's honeytoken was to go out
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    _began: float = field(default_factory=monotonic)
    _seconds: float | None = None  # that it lasted, once it is over

    def ended(self, verdict: Verdict, reason: str) -> None:
        self.verdict, self.reason = verdict, reason[:MAX_REASON]

    def refused(self, error: Refusal) -> None:
        self.ended(error.verdict, error.detail)
        self.is_betrayal = error.is_betrayal

    def is_over(self) -> None:
        self._seconds = self.seconds

    def count(self, other: Visit) -> None:
        """Stand for that one, too."""
        self.times += other.times
        self.sent += other.sent
        self.received += other.received
        self._seconds = (self._seconds or 0.0) + other.seconds

    @property
    def seconds(self) -> float:
        return monotonic() - self._began if self._seconds is None else self._seconds

    def contact(self) -> schema.Contact:
        """What is known of it by now."""
        return schema.Contact(
            id=self.id,
            linux_user=self.user,
            host=self.host,
            port=self.port,
            verdict=self.verdict,
            reason="; ".join(filter(None, (self.took, self.reason)))[:MAX_REASON],
            sent_bytes=self.sent,
            received_bytes=self.received,
            began_at=self.began_at,
            seconds=round(self.seconds, 3),
            kind=self.kind,
            times=self.times,
            is_open=self._seconds is None,
            holds_honeytoken=self.is_betrayal,
            secrets=list(self.secrets) if self.sent else [],
        )
