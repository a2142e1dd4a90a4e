"""People who ask two agents, one message after the other, and insist on each until the colony has taken it."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace

from colony import errors, operations, schema
from colony.client import Client
from prove.load import Asked
from tests.host.settlement import AGENTS, CHANNELS, Settlement

PAUSE_SECONDS = (0.1, 0.4)  # between a person's messages
TRY_AGAIN_SECONDS = 0.2
INSISTS_SECONDS = 900.0


class Talk:
    """They talk while the block lasts; then each brings to an end what it wanted to say. All of it is in the settlement's `asked`."""

    def __init__(self, settlement: Settlement) -> None:
        self._settlement = settlement
        self._over = threading.Event()
        self._told = threading.Condition()
        self._taken = 0
        self._failure: Exception | None = None
        self._threads = [threading.Thread(target=self._live, args=[person], daemon=True) for person in settlement.tokens]

    def __enter__(self) -> Talk:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._failure:
            raise self._failure

    def await_messages(self, count: int, seconds: float) -> None:
        """Until so many more messages were taken than until now."""
        with self._told:
            wanted = self._taken + count
            assert self._told.wait_for(lambda: self._taken >= wanted or self._failure, seconds), f"nobody can post for {seconds:.0f} s"

    def _live(self, person: str) -> None:
        chance = random.Random(person)
        while not self._over.is_set() and not self._failure:
            try:
                self._say(person, chance)
            except Exception as error:  # whatever it was, this is no proof
                self._failure = error
            with self._told:
                self._taken += 1
                self._told.notify_all()
            time.sleep(chance.uniform(*PAUSE_SECONDS))

    def _say(self, person: str, chance: random.Random) -> None:
        place = len(asked := self._settlement.asked)  # only a hint: others append, too
        mentions = chance.sample(AGENTS, chance.choice((1, 1, 2)))
        body = " ".join([*(f"@{agent}" for agent in mentions), f"{person} says {place} {time.monotonic_ns()}"])
        said = Asked(person, chance.choice(CHANNELS), body, frozenset(mentions))
        asked.append(said)  # before it is sent: it may be stored and no answer come
        message = self._insist(person, said)
        asked[asked.index(said)] = replace(said, id=message.id, seq=message.seq)

    def _insist(self, person: str, said: Asked) -> schema.Message:
        request = schema.PostMessage(channel=said.channel, body=said.body, client_id=said.body)
        deadline = time.monotonic() + INSISTS_SECONDS
        while True:
            try:
                with Client(self._settlement.url, self._settlement.tokens[person]) as client:
                    return client.call(operations.POST, request)
            except errors.Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(TRY_AGAIN_SECONDS)
