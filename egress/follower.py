"""Keeps what the gate knows as the server has it, from a thread for each kind of news."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from colony import errors, schema
from colony.client import Client
from colony.operations import Operation, Q, R

log = logging.getLogger(__name__)
News = TypeVar("News", contravariant=True)

WAIT_SECONDS = schema.MAX_WAIT_SECONDS
FIRST_PAUSE_SECONDS = 0.25  # before the server is asked again; doubled up to the longest
LONGEST_PAUSE_SECONDS = 5.0


class Listener(Protocol[News]):
    """Who is told what the server says."""

    @property
    def version(self) -> str | None:
        """Of what was heard last; None: nothing yet."""

    def hear(self, news: News) -> bool:
        """Whether that is news."""


class Follower(Generic[Q, R]):
    """Asks for one kind of news, `what`, for as long as the process lives; the operation's request has `known` and `wait`."""

    def __init__(
        self, what: str, operation: Operation[Q, R], listener: Listener[R], client: Client, on_news: Callable[[], None] = lambda: None
    ) -> None:
        self._what, self._operation, self._listener, self._client, self._on_news = what, operation, listener, client, on_news
        self._trouble = ""
        self._thread = threading.Thread(target=self._go_on, name=what, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _go_on(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                self._ask()
                pause = FIRST_PAUSE_SECONDS
            except Exception as error:  # a thread that ended would leave the gate with what it knew for ever
                self._tell(f"the server gives no {self._what}: {error}", is_known=isinstance(error, errors.ColonyError))
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _ask(self) -> None:
        known = self._listener.version
        fields: dict[str, Any] = {"known": known, "wait": WAIT_SECONDS} if known else {}
        is_news = self._listener.hear(self._client.call(self._operation, self._operation.request(**fields)))
        if self._trouble:
            log.info("the server gives %s again", self._what)
            self._trouble = ""
        if is_news:
            log.info("%s version=%s", self._what, self._listener.version)
            self._on_news()

    def _tell(self, trouble: str, *, is_known: bool) -> None:
        if trouble != self._trouble:
            log.warning("%s", trouble, exc_info=not is_known)
        self._trouble = trouble
