"""What agents use of the model, as the colony's server is told: before it goes out, while it goes on, and when it is over."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from colony import errors, operations, schema
from colony.client import Client
from egress import aside
from egress.answer import Answer
from egress.head import Headers
from egress.prices import Prices, Tokens
from egress.question import Question
from egress.refusals import Idle, Refusal, Resting, Spent, Unreachable

log = logging.getLogger(__name__)

STEP_TOKENS = 1024  # of output that are booked ahead, where an answer comes bit by bit
PAUSE_SECONDS = 1.0  # before a server that is away is told again
OK = 200
_PLAIN = (b"", b"identity")


class Meter:
    """The server's side of it: it alone knows what a turn may cost, and refuses what would be more."""

    def __init__(self, client: Client, prices: Prices, most: int) -> None:
        self._client, self.prices, self._most = client, prices, most
        self._settled: deque[schema.Meter] = deque()
        self._news = threading.Condition()
        self._stops = False
        self._thread = threading.Thread(target=self._go_on, name="meter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    async def book(self, request: schema.Meter) -> None:
        """Take it from what the running turn may cost. Raises `Spent`, `Idle` where no turn runs, and `Resting` while the server is away.

        Whoever is cancelled meanwhile has booked all the same.
        """
        try:
            await asyncio.shield(aside.begin(lambda: self._client.call(operations.METER, request)))
        except errors.BudgetSpent as error:
            raise Spent(error.detail) from error
        except (errors.StaleTurn, errors.NotFound) as error:
            raise Idle(error.detail) from error
        except (errors.ColonyError, OSError) as error:
            raise Resting(f"the colony can't say what the turn may cost: {error}") from error

    def settle(self, request: schema.Meter) -> None:
        """Tell the server what it was, as soon as it listens."""
        with self._news:
            self._settled.append(request)
            if len(self._settled) > self._most:
                lost = self._settled.popleft()
                log.warning("a use of the model stays as it was estimated id=%s user=%s", lost.id, lost.linux_user)
            self._news.notify()

    def close(self, seconds: float) -> None:
        """Tell what is left, for at most so long."""
        with self._news:
            self._stops = True
            self._news.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)
        if self._settled:
            log.warning("uses of the model stay as they were estimated count=%d", len(self._settled))

    def _go_on(self) -> None:
        trouble = ""
        while True:
            with self._news:
                while not self._settled and not self._stops:
                    self._news.wait()
                if not self._settled:
                    return
                request = self._settled[0]
            try:
                self._client.call(operations.METER, request)
            except (errors.Invalid, errors.NotFound, errors.Conflict) as error:
                log.warning("the server takes no settlement id=%s user=%s: %s", request.id, request.linux_user, error.detail)
            except Exception as error:  # a thread that ended would settle nothing any more
                if str(error) != trouble:
                    log.warning("settlements wait for the server: %s", error, exc_info=not isinstance(error, errors.ColonyError))
                trouble = str(error)
                with self._news:
                    if self._stops:
                        return
                    self._news.wait(PAUSE_SECONDS)
                continue
            trouble = ""
            with self._news:
                if self._settled and self._settled[0] is request:
                    self._settled.popleft()


@dataclass
class Use:
    """One question to the model, and what it comes to. It hears the answer as it passes by; `cut` ends it where it becomes too much."""

    user: str
    question: Question
    meter: Meter
    cut: Callable[[str], None]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    _booked_out: int = 0  # tokens
    _booked_usd: float = 0.0
    _booking: asyncio.Task[None] | None = None
    _answer: Answer | None = None  # None: it has said nothing yet, or that it won't answer
    _is_asked: bool = False  # it has gone out, so that it may cost something
    _is_refused: bool = False

    @asynccontextmanager
    async def booked(self) -> AsyncIterator[None]:
        """Books what it costs at least, and settles what it was, however it ends. Raises as `Meter.book` does."""
        most = self.question.max_tokens
        self._booked_out = min(most, STEP_TOKENS) if self.question.is_streamed else most
        try:
            await self._book()
            yield
        except (Spent, Idle):
            raise  # nothing was booked
        except BaseException:
            self._settle()
            raise
        self._settle()

    def asked(self) -> None:
        self._is_asked = True

    def answered(self, status: int, headers: Headers) -> None:
        """Raises `Unreachable` for an answer that can't be read."""
        if status != OK:
            self._is_refused = True
            return
        if any(name == b"content-encoding" and value.strip().lower() not in _PLAIN for name, value in headers):
            raise Unreachable("the model's answer is encoded, though that was not asked for, and so can't be counted")
        kind = next((value for name, value in headers if name == b"content-type"), b"")
        self._answer = Answer(is_streamed=kind.startswith(b"text/event-stream"))

    def hear(self, data: bytes) -> None:
        if self._answer:
            self._answer.hear(data)
            if self._exceeds() and (self._booking is None or self._booking.done()):
                self._booked_out = self._answer.tokens_out + STEP_TOKENS
                self._booking = asyncio.create_task(self._book_more())

    def heard(self) -> None:
        if self._answer:
            self._answer.end()

    def _settle(self) -> None:
        if self._booking and not self._booking.done():
            self._booking.cancel()  # it is on its way all the same; after what is told now it changes nothing
        self.meter.settle(self._final())

    def _exceeds(self) -> bool:
        """Whether it is more than is booked. What was read is only known for sure once the answer begins."""
        assert self._answer
        tokens = self._answer.tokens
        return self._answer.tokens_out > self._booked_out or (tokens is not None and self._usd(tokens) > self._booked_usd)

    async def _book_more(self) -> None:
        try:
            await self._book()
        except Refusal as error:
            self.cut(error.detail)

    async def _book(self) -> None:
        tokens = self._estimate()
        self._booked_usd = self._usd(tokens)
        await self.meter.book(self._request(tokens))

    def _estimate(self) -> Tokens:
        known = self._answer.tokens if self._answer else None
        if known is None:
            return Tokens(input=self.question.tokens_in, output=self._booked_out)
        return Tokens(**{**vars(known), "output": max(known.output, self._booked_out)})

    def _final(self) -> schema.Meter:
        if self._is_refused or not self._is_asked:
            return self._request(Tokens(), is_final=True)
        known = self._answer.tokens if self._answer else None
        return self._request(known or self._estimate(), is_final=True)

    def _usd(self, tokens: Tokens) -> float:
        return self.meter.prices.usd(self.question.model, tokens, is_fast=self.question.is_fast)

    def _request(self, tokens: Tokens, *, is_final: bool = False) -> schema.Meter:
        return schema.Meter(
            id=self.id,
            linux_user=self.user,
            model=self.question.model,
            tokens_in=tokens.all_in,
            tokens_out=tokens.output,
            cost_usd=self._usd(tokens),
            is_final=is_final,
        )
