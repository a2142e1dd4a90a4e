"""An agent's request, led out: as a tunnel, as plain HTTP, or to the model. Each is judged before anything is reached."""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from egress import question, refusals, resolver, target
from egress.aside import Seats
from egress.client import Client
from egress.exchange import Exchange
from egress.head import Head, Headers, end_to_end, require_same_host
from egress.ledger import Ledger
from egress.limits import Room, Rounds
from egress.mask import Mask
from egress.meter import Meter, Use
from egress.model import Endpoint, checked, is_counting, is_question, require_known_version
from egress.pipes import Pipes
from egress.policy import Policy
from egress.question import Question
from egress.reading import Reader
from egress.refusals import Betrayed, Blind, CutOff, Denied, Gone, Malformed, Refusal, Resting, Silent, Unasked, Unreachable
from egress.resolver import Resolver
from egress.settings import Bounds
from egress.target import HTTP_PORT, Target
from egress.tls import TlsClient
from egress.tunnel import Tunnel
from egress.vault import TLS_PORT, Bound, Vault
from egress.visit import Visit

BODY_SECONDS = 60.0  # until a question to the model is here
SMALL_BYTES = 32 * 1024  # of a question that is read at once; larger ones are read one after the other, in another process
USUAL_BYTES = 512 * 1024  # of a question that waits for no larger ones: these have a process of their own, and can take a second
# The kernel lets a buffer grow to 6 MB and more for who reads quickly. If they stop then, it is full, and counts as the gate's memory.
UNBOUNDED = 8  # connections of an agent for which it may
BUFFER_BYTES = 512 * 1024  # for all others; the kernel grants what net.core.rmem_max allows, and doubles it
# By these a host is asked for pieces of an answer, or for another encoding, in which nobody sees what must be covered.
DISGUISES = (b"accept-encoding", b"accept-charset", b"range", b"if-range")
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy:
    """Serves requests in one event loop."""

    def __init__(
        self,
        bounds: Bounds,
        policy: Policy,
        vault: Vault,
        ledger: Ledger,
        meter: Meter,
        names: Resolver,
        endpoint: Callable[[str], Endpoint],
        tls: ssl.SSLContext | None = None,
        model_fields: Collection[str] = (),
    ) -> None:
        """`endpoint` is that of a Linux user; `tls` is what proves who others are, by default what the system trusts.

        `model_fields` may stand in a question beside those that the gate knows.
        """
        self._vault, self._tls = vault, tls or ssl.create_default_context()
        self._bounds, self._policy, self._ledger, self._meter = bounds, policy, ledger, meter
        self._rounds, self._room = Rounds(), Room()
        self._usual, self._large = (Seats(1, 1), Reader()), (Seats(1, 1), Reader())
        self._names, self._endpoint, self._pipes = names, endpoint, Pipes()
        self._served: Counter[str] = Counter()  # requests that are under way, by agent
        self._model_fields = model_fields
        self._open: dict[Tunnel | Exchange, Callable[[], object]] = {}  # each with what raises a `Refusal` when it may be no longer

    async def serve(self, client: Client, user: str, head: Head, raw: bytes) -> None:
        """One request, to its end. Raises `Refusal` for what was not answered, `Gone`, `OSError`."""
        if not head.is_for_model:  # it may think of what it finds
            self._require_honest(user, head, raw)
        self._served[user] += 1
        try:
            if head.method == "CONNECT":
                await self._tunnel(client, user, head)
            elif head.is_for_model:
                await self._ask_model(client, user, head, raw)
            else:
                await self._forward(client, user, head, raw)
        finally:
            self._served[user] -= 1
            if not self._served[user]:
                del self._served[user]

    def judge_again(self) -> None:
        """The rules have changed: what they no longer allow is cut."""
        for way, judge in list(self._open.items()):
            try:
                judge()
            except Refusal as error:
                way.cut(f"no longer allowed: {error.detail}")

    def close(self) -> None:
        self._pipes.close()
        for _, reader in (self._usual, self._large):
            reader.close()

    async def _tunnel(self, client: Client, user: str, head: Head) -> None:
        to = target.authority(head.target)
        require_same_host(head, to, to.port)
        visit = Visit(user, "connect", to.host, to.port)
        with self._ledger.noting(visit), await self._reached(visit, to) as upstream:
            await client.send(ESTABLISHED)
            if bound := self._vault.bound(user, to.host, to.port):
                within = TlsClient(client, self._vault.authority.context(to.host), lambda: self._rounds.mine(user))
                await self._carry(within, upstream, visit, to, bound)
                return
            tunnel = Tunnel(client, upstream, visit, self._bounds, self._pipes, self._rounds)
            with self._judged(tunnel, lambda: self._require_still(visit)):
                if reason := await tunnel.run():
                    raise CutOff(reason)

    async def _carry(self, client: TlsClient, upstream: socket.socket, visit: Visit, to: Target, bound: list[Bound]) -> None:
        """One request over TLS that ends here, and begins anew to the host, with the agent's secrets for it in their places."""
        await client.shake(self._bounds.head_seconds)
        try:
            asked = await client.head(self._bounds.head_seconds)
            if asked is None:
                raise Gone()
            head, raw = asked
            require_same_host(head, to, TLS_PORT)
            self._require_honest(visit.user, head, raw)
            exchange = Exchange(client, raw, visit, self._bounds, self._rounds, self._bounds.idle_seconds, self._vault.trace(visit.user))
            path, headers = self._with_secrets(head, visit, bound)
            reader, writer = await self._secured(upstream, to.host)
            with self._judged(exchange, lambda: self._require_still(visit, bound)):
                try:
                    mask = Mask(form for each in bound for form in each.forms)
                    await exchange.run(reader, writer, path, [(b"host", to.authority(TLS_PORT).encode()), *headers], mask=mask)
                finally:
                    writer.transport.abort()
        except Refusal as error:
            await client.refuse(error)
            raise
        await client.finish()

    def _with_secrets(self, head: Head, visit: Visit, bound: list[Bound]) -> tuple[str, Headers]:
        if not head.target.startswith("/"):
            raise Malformed("within a tunnel, ask for a path: GET /path")
        dropped = (b"host", b"content-length", *DISGUISES)
        kept = [(name, value) for name, value in end_to_end(head.headers) if name not in dropped]
        path, headers, used = head.target, kept, []
        for each in bound:
            before = path, headers
            path, headers = each.put_into(path, headers)
            used += [each.name] if (path, headers) != before else []
        visit.secrets = tuple(used)
        visit.took = f"with {', '.join(used)}" if used else "without a secret: its placeholder stood nowhere that counts"
        return path, [*headers, (b"accept-encoding", b"identity")]  # what comes back must be readable to be covered

    def _require_still(self, visit: Visit, bound: Sequence[Bound] | None = None) -> None:
        """Raises `Refusal` for what the agent may reach no longer, by its name or by its address, or not with these secrets."""
        self._policy.require(visit.user, visit.host, visit.port)
        self._policy.require_addresses(visit.user, visit.host, visit.port, [visit.address] if visit.address else [])
        if bound is not None:
            self._vault.require(visit.user, visit.host, visit.port, bound)

    async def _secured(self, upstream: socket.socket, host: str) -> tuple[StreamReader, StreamWriter]:
        try:
            async with asyncio.timeout(self._bounds.connect_seconds):
                return await asyncio.open_connection(sock=upstream, ssl=self._tls, server_hostname=host)
        except TimeoutError as error:
            raise Silent("it does not answer to TLS") from error
        except ssl.SSLError as error:
            raise Unreachable(f"it does not prove who it is: {error.reason or 'TLS failed'}") from error
        except OSError as error:
            raise Unreachable(refusals.broken_off(error)) from error

    async def _forward(self, client: Client, user: str, head: Head, raw: bytes) -> None:
        to, path = target.absolute(head.target)
        require_same_host(head, to, HTTP_PORT)
        visit = Visit(user, "http", to.host, to.port)
        with self._ledger.noting(visit):
            exchange = Exchange(client, raw, visit, self._bounds, self._rounds, self._bounds.idle_seconds, self._vault.trace(user))
            kept = [(name, value) for name, value in end_to_end(head.headers) if name not in (b"host", b"content-length")]
            upstream = await self._reached(visit, to)
            reader, writer = await asyncio.open_connection(sock=upstream)
            try:
                with self._judged(exchange, lambda: self._require_still(visit)):
                    await exchange.run(reader, writer, path, [(b"host", to.authority(HTTP_PORT).encode()), *kept])
            finally:
                writer.transport.abort()

    async def _ask_model(self, client: Client, user: str, head: Head, raw: bytes) -> None:
        endpoint = self._endpoint(user)
        visit = Visit(user, "model", endpoint.host, endpoint.port)
        with self._ledger.noting(visit):
            try:
                self._policy.rules(user)
            except Blind as error:
                raise Resting(error.detail) from error
            checked(head.method, head.target)
            require_known_version(head)
            exchange = Exchange(client, raw, visit, self._bounds, self._rounds, self._bounds.model_seconds)
            with self._judged(exchange, lambda: self._policy.rules(user)):
                if is_question(head):
                    await self._ask_question(endpoint, exchange, visit, head)
                elif is_counting(head):
                    await self._ask_count(endpoint, exchange, visit, head)
                else:
                    await self._meter.require_turn(user, model="")
                    visit.is_there = True
                    await endpoint.ask(exchange, user, head)

    async def _ask_question(self, endpoint: Endpoint, exchange: Exchange, visit: Visit, head: Head) -> None:
        """One that costs something: it is read whole, judged and booked before it goes out, and settled however it ends."""
        with self._room.held(visit.user) as take:
            asked = await self._read(visit.user, await exchange.body(take, BODY_SECONDS))
            self._require_question(visit.user, asked)
            use = Use(visit.user, asked, self._meter, exchange.cut)
            async with use.booked():
                visit.is_there = True
                if use.question.max_tokens < asked.max_tokens:
                    visit.took = f"for at most {use.question.max_tokens} tokens, as many as the turn may cost"
                await endpoint.ask(exchange, visit.user, head, use.question.content, use)

    async def _ask_count(self, endpoint: Endpoint, exchange: Exchange, visit: Visit, head: Head) -> None:
        """How many tokens a question would have. It costs nothing, but the API may look things up for it as for the question itself."""
        with self._room.held(visit.user) as take:
            asked = await self._read(visit.user, await exchange.body(take, BODY_SECONDS), is_counted=True)
            self._require_question(visit.user, asked)
            await self._meter.require_turn(visit.user, asked.model)
            visit.is_there = True
            await endpoint.ask(exchange, visit.user, head, asked.content)

    async def _read(self, user: str, body: bytearray, *, is_counted: bool = False) -> Question:
        fields = self._model_fields
        if len(body) < SMALL_BYTES:
            return question.parsed(body, is_counted=is_counted, fields=fields)
        seats, reader = self._usual if len(body) < USUAL_BYTES else self._large
        return await seats.run(user, lambda: reader.read(body, is_counted=is_counted, fields=fields))

    def _require_question(self, user: str, asked: Question) -> None:
        """Raises `Unasked` for what would have the API reach for the agent what it may not reach itself."""
        for host, port in asked.hosts:
            try:
                if host == "*":
                    self._policy.require_everything(user)
                else:
                    self._policy.require(user, host, port)
            except Denied as error:
                what = "use tools of its own, or files" if host == "*" else f"look at {host}"
                raise Unasked(f"the model's API is asked to {what}: {error.detail}") from error

    def _require_honest(self, user: str, head: Head, raw: bytes) -> None:
        """Raises `Betrayed` where the agent's honeytoken stands in the head."""
        trace = self._vault.trace(user)
        if trace and (trace.is_in(raw) or trace.is_in_name(head.target)):
            raise Betrayed()

    @contextmanager
    def _judged(self, way: Tunnel | Exchange, judge: Callable[[], object]) -> Iterator[None]:
        self._open[way] = judge
        try:
            judge()  # the rules may have changed since they were asked
            yield
        finally:
            del self._open[way]

    async def _reached(self, visit: Visit, to: Target) -> socket.socket:
        """A connection there, if the agent may have it: to an address that was judged, whatever its name says a moment later."""
        self._policy.require(visit.user, to.host, to.port)
        addresses = await self._names.find(visit.user, to.host)
        self._policy.require_addresses(visit.user, to.host, to.port, addresses)
        visit.address, connection = await resolver.connect(addresses, to.port, self._bounds.connect_seconds)
        if self._served[visit.user] > UNBOUNDED:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        visit.is_there = True
        return connection
