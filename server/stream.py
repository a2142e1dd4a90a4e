"""Server-sent events: a long poll that the server asks itself again and again, for as long as somebody reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import Any

from werkzeug import Response

from colony import errors, schema
from server.identity import Caller
from server.waiters import Seats

HEARTBEAT_SECONDS = 15.0  # of silence at most: proxies keep the line, and who has hung up is noticed
SHARE, LEAST = 4, 4  # one user has a quarter of all, or four: one whose reader has gone is noticed at its next heartbeat
PAGE = 100  # events, which is all that a stream holds in memory
REST_SECONDS = 0.1  # between two looks: on a busy day many events come together, and streams leave the others time

Fields = Mapping[str, Any]
Ask = Callable[[Callable[[], Fields]], schema.Events]  # performs the operation, and reads the fields once it is known who asks


class Streams:
    """Those that are open. Each holds a thread, so there are only so many."""

    def __init__(self, limit: int, is_over: Callable[[], bool]) -> None:
        self._limit, self._is_over = limit, is_over
        self._mutex = threading.Lock()
        self._seats = Seats(min(limit, max(LEAST, limit // SHARE)), "streams of events of yours are open already, as many as may")
        self.open = 0

    def respond(self, ask: Ask, sent: Callable[[], Fields], who: Callable[[], Caller]) -> Response:
        """An answer that goes on until the reader leaves or the server stops.

        Raises what the first question raises, `LimitReached` for who reads many already, and `Unavailable`.

        Without a position it begins now. A later failure ends it: whoever comes back with the last id misses nothing.
        """
        fields: dict[str, Any] = {}

        def begin() -> Fields:
            fields.update(_begin(sent()))
            return fields

        first = ask(begin)
        leave = self._enter(who().id)
        page = first if "since" in fields else first.model_copy(update={"events": []})
        response = Response(self._pieces(ask, page), mimetype="text/event-stream")
        response.headers |= {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response.call_on_close(leave)
        return response

    def _pieces(self, ask: Ask, page: schema.Events) -> Iterator[str]:
        fields: dict[str, Any] = {"limit": PAGE, "wait": HEARTBEAT_SECONDS}
        with suppress(errors.ColonyError):
            while True:
                yield _written(page)
                if self._is_over():
                    return
                if page.events:
                    time.sleep(REST_SECONDS)
                fields["since"] = page.position
                page = ask(lambda: fields)

    def _enter(self, user_id: int) -> Callable[[], None]:
        """Take one of the user's, and of all; gives what leaves it again."""
        with self._mutex, ExitStack() as stack:
            stack.enter_context(self._seats.taken(user_id))
            if self.open >= self._limit:
                raise errors.Unavailable(f"all {self._limit} streams of events are taken; ask for pages, or allow more with --threads")
            self.open += 1
            stack.callback(self._leave)
            return stack.pop_all().close

    def _leave(self) -> None:
        with self._mutex:
            self.open -= 1


def _begin(sent: Fields) -> Fields:
    for name in sent.keys() - {"since"}:
        raise errors.Invalid(f"{name}: is for a page of events, not for a stream; a page comes with Accept: application/json")
    return {**sent, "limit": PAGE if "since" in sent else 1}


def _written(page: schema.Events) -> str:
    """The events, and where to go on: an id without data counts, but is no event. What has nothing to tell is a heartbeat."""
    events = [f"id: {each.id}\nevent: {each.kind}\ndata: {each.model_dump_json(exclude_none=True)}\n\n" for each in page.events]
    return "".join(events) + f": heartbeat\nid: {page.position}\n\n"
