"""People who ask: each posts one message after the other and insists until the colony has acknowledged it, as `colony post` does."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, replace

from colony import errors, operations, schema
from colony.client import Client
from prove.house import CHANNELS, House

PAUSE_SECONDS = (0.2, 1.2)  # between an ape's messages
OUTAGE_SECONDS = 120.0  # after which an ape gives up
TRY_AGAIN_SECONDS = 0.1


@dataclass(frozen=True)
class Asked:
    """What an ape wanted to say; with the message's id and number once the colony acknowledged it."""

    author: str
    channel: str
    body: str
    mentions: frozenset[str]
    id: int | None = None
    seq: int | None = None


class Load:
    """All apes, from the start until `stop`; what they said is in `asked`."""

    def __init__(self, house: House, seed: int, at_least: int) -> None:
        self.failure: Exception | None = None
        self._house, self._seed, self._at_least = house, seed, at_least
        self._over = threading.Event()
        self._asked: list[list[Asked]] = [[] for _ in house.ape_tokens]  # by ape: each has a thread of its own
        self._threads = [threading.Thread(target=self._live, args=[number], daemon=True) for number in range(len(house.ape_tokens))]

    @property
    def asked(self) -> list[Asked]:
        return [each for asked in self._asked for each in asked]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each end what it is about, or go on until enough was said. Raises what went wrong for one of them."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self.failure:
            raise self.failure

    def _live(self, number: int) -> None:
        chance = random.Random(f"{self._seed} ape {number}")
        asked, share = self._asked[number], -(-self._at_least // len(self._threads))
        with Client(self._house.url, self._house.ape_tokens[number]) as client:
            while not (self._over.is_set() and len(asked) >= share) and not self.failure:
                asked.append(self._next(chance, f"ape{number + 1}", len(asked)))  # before it is sent: it may be stored and no answer come
                try:
                    message = _insist(client, asked[-1], f"{number}:{len(asked)}")
                except Exception as error:  # whatever it was, the run is no proof
                    self.failure = error
                    return
                asked[-1] = replace(asked[-1], id=message.id, seq=message.seq)
                time.sleep(chance.uniform(*PAUSE_SECONDS))

    def _next(self, chance: random.Random, author: str, number: int) -> Asked:
        names = sorted(agent.name for agent in self._house.agents)
        mentions = chance.sample(names, min(len(names), chance.choices((0, 1, 2), (1, 7, 2))[0]))
        body = " ".join([*(f"@{name}" for name in mentions), f"{author} says {number}"])
        return Asked(author, chance.choice(CHANNELS), body, frozenset(mentions))


def _insist(client: Client, asked: Asked, client_id: str) -> schema.Message:
    request = schema.PostMessage(channel=asked.channel, body=asked.body, client_id=client_id)
    deadline = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            return client.call(operations.POST, request)
        except errors.Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(TRY_AGAIN_SECONDS)
