"""What agents use of the model, as the colony's server is told: before it goes out, while it goes on, and when it is over."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from colony import errors, operations, schema
from colony.client import Client
from egress.answer import Answer
from egress.aside import Seats
from egress.head import Headers
from egress.prices import Prices, Tokens
from egress.question import Question
from egress.refusals import Idle, Refusal, Resting, Spent, Unreachable

log = logging.getLogger(__name__)

LEAST_TOKENS = 2048  # of an answer that is worth asking for; the API takes no fewer than 1024 for thinking
ENOUGH_TOKENS = 16_384  # for nearly every answer: of what is left above that, half is for what the turn asks meanwhile
THREADS = 32  # that wait for the server to book at once
PER_AGENT = 4  # of them
BOOKING_SECONDS = 30.0  # that a booking may take, until it has a seat among these
PAUSE_SECONDS = 1.0  # before a server that is away is told again
OK = 200
_PLAIN = (b"", b"identity")


class Meter:
    """The server's side of it: it alone knows what a turn may cost, and refuses what would be more."""

    def __init__(self, client: Client, prices: Prices, most: int) -> None:
        self._client, self.prices, self._most = client, prices, most
        self._seats = Seats(THREADS, PER_AGENT)
        self._settled: deque[schema.Meter] = deque()
        self._news = threading.Condition()
        self._stops = False
        self._thread = threading.Thread(target=self._go_on, name="meter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    async def book(self, request: schema.Meter) -> float | None:
        """Take it from what the running turn may cost, and give what is left of that; None: it may cost anything.

        Raises `Spent`, `Idle` where no turn runs, and `Resting` while the server is away or too slow. Whoever is cancelled meanwhile, or
        found it too slow, may have booked all the same.
        """
        try:
            async with asyncio.timeout(BOOKING_SECONDS):
                return (await self._seats.run(request.linux_user, lambda: self._client.call(operations.METER, request))).left_usd
        except errors.BudgetSpent as error:
            raise Spent(error.detail) from error
        except (errors.StaleTurn, errors.NotFound) as error:
            raise Idle(error.detail) from error
        except TimeoutError as error:
            raise Resting("the colony is too slow to say what the turn may cost; ask again, and fewer things at once") from error
        except errors.ColonyError as error:
            raise Resting(f"the colony can't say what the turn may cost: {error.detail}") from error
        except OSError as error:
            raise Resting("the gate can't ask the colony what the turn may cost; ask again") from error

    async def require_turn(self, user: str, model: str) -> None:
        """Raises as `book` does where the agent may ask nothing now. Nothing is counted."""
        nothing = schema.Meter(id=str(uuid.uuid4()), linux_user=user, model=model, cost_usd=0.0)
        await self.book(nothing)
        self.settle(nothing.model_copy(update={"is_final": True}))

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
    _booked: Tokens | None = None
    _booking: asyncio.Task[None] | None = None
    _answer: Answer | None = None  # None: it has said nothing yet, or that it won't answer
    _is_asked: bool = False  # it has gone out, so that it may cost something
    _is_refused: bool = False

    @asynccontextmanager
    async def booked(self) -> AsyncIterator[None]:
        """Books the most that it may cost, for which `question` may become one for fewer tokens; settles what it was, however it ends.

        Raises as `Meter.book` does.
        """
        try:
            await self._book_most()
            yield
        except (Spent, Idle):
            if self._booked:
                self._settle()
            raise
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
                self._booking = asyncio.create_task(self._book_more())

    def heard(self) -> None:
        if self._answer:
            self._answer.end()

    def _settle(self) -> None:
        if self._booking and not self._booking.done():
            self._booking.cancel()  # it is on its way all the same; after what is told now it changes nothing
        self.meter.settle(self._final())

    async def _book_most(self) -> None:
        asked = self.question.max_tokens
        try:
            await self._book(asked)
        except Spent:
            if asked <= LEAST_TOKENS:
                raise
            left_usd = await self._book(LEAST_TOKENS)
            most = asked if left_usd is None else min(asked, self._share(left_usd))
            with suppress(Spent):  # what the turn asked meanwhile has taken it: the least is booked
                await self._book(most)
            self.question = self.question.lowered(self._booked_out)

    def _share(self, left_usd: float) -> int:
        """So many tokens of an answer may it be, if so much is left beside the least."""
        payable = LEAST_TOKENS + int(left_usd / (self._usd(Tokens(output=1)) or 1e-9))
        return max(min(payable, ENOUGH_TOKENS), payable // 2)

    def _exceeds(self) -> bool:
        """Whether it is more than is booked. What was read is only known for sure once the answer begins."""
        return self._usd(self._estimate(self._booked_out)) > self._usd(self._booked or Tokens())

    async def _book_more(self) -> None:
        try:
            await self._book(self._booked_out)
        except Refusal as error:
            self.cut(error.detail)

    async def _book(self, most_out: int) -> float | None:
        tokens = self._estimate(most_out)
        left_usd = await self.meter.book(self._request(tokens))
        self._booked = tokens
        return left_usd

    def _estimate(self, most_out: int) -> Tokens:
        """What it may come to, for all that is known by now."""
        known = self._answer.tokens if self._answer else None
        if known is None:
            return replace(Tokens(output=most_out), **{self.question.counts_as: self.question.tokens_in})
        return replace(known, output=max(known.output, most_out))

    def _final(self) -> schema.Meter:
        """Without a word of the API it is what was booked: a model may go on thinking where nobody listens."""
        if self._is_refused or not self._is_asked:
            return self._request(Tokens(), is_final=True)
        if self._answer and self._answer.is_told and self._answer.tokens:
            return self._request(self._answer.tokens, is_final=True)
        return self._request(self._estimate(self._booked_out), is_final=True)

    @property
    def _booked_out(self) -> int:
        return self._booked.output if self._booked else 0

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
