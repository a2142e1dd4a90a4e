"""The gate at its socket: takes connections, asks the kernel who calls, gives out seats, and says why where there is none."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable

from colony import errors
from egress import caller, descriptors
from egress.client import Client
from egress.head import Head
from egress.ledger import Ledger
from egress.limits import Limits, Rate, Throttle
from egress.policy import Policy
from egress.proxy import Proxy
from egress.refusals import Blind, Gone, Refusal, Stranger, TooMany
from egress.settings import Bounds
from egress.visit import Visit

log = logging.getLogger(__name__)

TURNED_AWAY = 16  # who are told why at the same time; others are just hung up on
TURNED_AWAY_PER_UID = 4  # of these
ALARM_SECONDS = 5.0  # for the colony to hear of what can't wait
KNOCKS_PER_REQUEST = 4  # connections that a uid may ask for, answered or not; whoever knocks more often is hung up on unheard
KNOCKS_PER_ROUND = 32  # that are taken in one round of the loop; those that are there already are served in it, too
PAUSE_SECONDS = 0.1  # when this process may open no more files
Identify = Callable[[socket.socket], str | None]


class Gate:
    """Serves one socket in one event loop. `identify` gives the Linux user at a connection's other end, `uid` the number."""

    def __init__(
        self,
        bounds: Bounds,
        policy: Policy,
        proxy: Proxy,
        ledger: Ledger,
        identify: Identify = caller.linux_user,
        uid: Callable[[socket.socket], int] = caller.uid,
    ) -> None:
        self._bounds, self._policy, self._proxy, self._ledger = bounds, policy, proxy, ledger
        self._identify, self._uid = identify, uid
        self._limits, self._throttle = Limits(bounds), Throttle()
        self._knocks = Rate(KNOCKS_PER_REQUEST * bounds.requests_per_second)
        self._is_wary = True
        self._turned_away: Counter[int] = Counter()  # by uid: who has no name has a uid all the same
        self._guests: set[asyncio.Task[None]] = set()

    async def serve(self, listening: socket.socket) -> None:
        """Take connections until this is cancelled; those that are open then end, too."""
        loop = asyncio.get_running_loop()
        self._is_wary = not descriptors.decline(listening)
        knocks = 0
        try:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listening)
                except OSError as error:
                    if self._throttle.passes("") is not None:
                        log.error("no connection can be taken error=%s", error.strerror)
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                self._welcome(connection)
                knocks += 1
                if knocks % KNOCKS_PER_ROUND == 0:  # else nobody is served while one more is there
                    await asyncio.sleep(0)
        finally:
            guests = list(self._guests)
            for guest in guests:
                guest.cancel()
            await asyncio.gather(*guests, return_exceptions=True)

    @property
    def held(self) -> int:
        """Connections that are open."""
        return len(self._guests)

    def _welcome(self, connection: socket.socket) -> None:
        client, uid = Client(connection, self._is_wary), self._uid(connection)
        if not caller.is_house(uid) and not self._knocks.takes(uid):
            client.close()
            return
        guest = asyncio.create_task(self._attend(client))
        self._guests.add(guest)
        guest.add_done_callback(self._guests.discard)

    async def _attend(self, client: Client) -> None:
        try:
            user = self._require_agent(client.socket)
            with self._limits.seat(user):
                await self._answer(client, user)
        except TooMany as error:
            self._tell(user, error)
            await self._turn_away(client, error)
        except Stranger as error:
            await self._turn_away(client, error)
        finally:
            client.close()

    def _require_agent(self, connection: socket.socket) -> str:
        """The caller's Linux user. Raises `Stranger`; while the rules aren't known, anyone but root could be an agent."""
        user = self._identify(connection)
        try:
            self._policy.rules(user)
        except Blind:
            pass  # each request is told so
        except Stranger as error:
            if user:  # else it is the gate itself, which asks whether it answers
                self._tell(user, error)
            raise
        assert user
        return user

    async def _answer(self, client: Client, user: str) -> None:
        """One request. Nothing in it may end the gate."""
        head: Head | None = None
        try:
            if asked := await client.head(self._bounds.head_seconds):
                head, raw = asked
                await self._proxy.serve(client, user, head, raw)
        except Refusal as error:
            self._tell(user, error)
            if error.is_betrayal:
                await self._until_told(user)
            await client.refuse(error, has_body=head is None or head.method != "HEAD", for_model=bool(head and head.is_for_model))
        except (Gone, OSError):
            pass  # the agent's end is gone
        except Exception:
            log.exception("the work on a request broke user=%s", user)
            await client.refuse(errors.ColonyError("the gate could not handle this; its log says why"))

    async def _until_told(self, user: str) -> None:
        """Whoever gives its honeytoken away hears of it when the colony has: by then its turn is over."""
        end = asyncio.get_running_loop().time() + ALARM_SECONDS
        while self._ledger.owes(user) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.05)

    async def _turn_away(self, client: Client, error: Refusal) -> None:
        """Who has no seat must not hold one by listening slowly to why.

        The gate's own question is answered beside all of them: were it not, whoever holds their places would have systemd end the gate.
        """
        uid = self._uid(client.socket)
        if caller.is_house(uid):
            await client.refuse(error)
        elif self._turned_away.total() < TURNED_AWAY and self._turned_away[uid] < TURNED_AWAY_PER_UID:
            self._turned_away[uid] += 1
            try:
                await client.refuse(error)
            finally:
                self._turned_away[uid] -= 1
                self._turned_away += Counter()  # forgets whoever is at zero

    def _tell(self, user: str, error: Refusal) -> None:
        if not error.is_noted:  # it has named no host yet
            visit = Visit(user, "connect", "", 0)
            visit.refused(error)
            self._ledger.note(visit)
        held_back = self._throttle.passes(user)
        if held_back is not None:
            log.info("refused user=%s code=%s held_back=%d: %s", user, error.code, held_back, error.detail)
