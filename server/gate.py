"""The one way in: authenticate → parse → authorise → handle → audit → commit → wake, for every face and every operation."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from time import monotonic, perf_counter
from typing import Any, NoReturn

from pydantic import ValidationError
from sqlalchemy import Connection, Row

from colony import errors, schema
from colony.failpoints import reach
from colony.operations import OPERATIONS, Operation, Q, R
from server import keyring
from server.censor import Censor
from server.config import ServerConfig
from server.database import Database
from server.identity import Caller, Credentials, Identities, Known
from server.metrics import Metrics
from server.models import alarm, approval, audit, base, ending, turn
from server.models.posting import Author, Posted
from server.presence import Presence
from server.refusals import Refusals
from server.rights import Rights, require_kind, scope_of
from server.waiters import OneByOne, Seats, Topic, Waiters

EVENTS = "events"  # the topic of those who want to know of everything
EVERYBODY = "everybody"  # whatever they wait for
EGRESS = "egress"  # the topic of those who want to know what agents may reach
MAX_HOPS = 10**6  # more can't be; a number that the database couldn't hold would keep the turn from ever ending
ACL = "acl"  # the topic of those who remember who may do what
LOOKS = 2  # at once, of those who were woken: a crowd that wakes together would fight for the interpreter
log = logging.getLogger(__name__)


@dataclass
class Call:
    """One operation on its way: what a handler may know and use."""

    connection: Connection
    caller: Caller
    now: datetime
    config: ServerConfig
    database: Database
    rights: Rights
    turn: Row[tuple[object, ...]] | None = None  # the turn the caller speaks for, past the fence
    concerns: int | None = None  # the id of a turn that the audit shall name, beside the one that the caller speaks for
    room: int | None = None  # the id of the private channel that the operation is about: only who sees that is told of the deed
    wakes: list[Topic] = field(default_factory=list)

    @property
    def viewer_id(self) -> int | None:
        """Whom channels and what is in them must be there for; None: an administrator sees all."""
        return None if self.caller.is_admin else self.caller.id

    @property
    def author(self) -> Author:
        hops = min(self.turn.hops, MAX_HOPS) + 1 if self.turn else int(self.caller.kind == "agent")
        caller, turn_id = self.caller, self.turn.id if self.turn else None
        return Author(caller.id, caller.username, caller.kind, turn_id, hops, sees_all=caller.is_admin)

    def may_read(self, message: schema.Message) -> bool:
        """Whether the caller may see it, wherever it is shown."""
        return self.may_read_in(message.channel)

    def may_read_in(self, channel: str) -> bool:
        """Whether the caller may see what is said in that channel."""
        return self.rights.may_read(self.connection, self.caller, channel, in_turn=self.turn is not None)

    def wake(self, *topics: Topic) -> None:
        """Wake these waiters once the operation is committed."""
        self.wakes += topics

    def ask_again(self) -> None:
        """Somebody's identity has ended: everybody is asked again who they are, those who wait, too."""
        self.wake("identities", EVERYBODY)

    def announce(self, posted: list[Posted]) -> None:
        """Wake everyone that the messages concern."""
        self.wake(*_topics(posted))


@dataclass(frozen=True)
class Wait:
    """A handler's answer when there is no news: ask `again` when the topic is woken, or at `not_after`; else give `answer`.

    `of_oneself`: it tells callers nothing but how they are themselves, and so also that they are nobody any more.
    """

    topic: Topic
    seconds: float
    answer: schema.Response
    again: Callable[[Call], schema.Response | Wait]
    not_after: datetime | None = None
    of_oneself: bool = False


Handler = Callable[[Call, Any], schema.Response | Wait]
Judge = Callable[[Call], None]
HANDLERS: dict[str, Handler] = {}


def handles(operation: Operation[Q, R]) -> Callable[[Callable[[Call, Q], R | Wait]], Callable[[Call, Q], R | Wait]]:
    """Make the function the one handler of `operation`."""

    def register(handler: Callable[[Call, Q], R | Wait]) -> Callable[[Call, Q], R | Wait]:
        assert operation.name not in HANDLERS, f"{operation.name} has a handler already"
        HANDLERS[operation.name] = handler
        return handler

    return register


class Gate:
    def __init__(self, database: Database, config: ServerConfig, clock: Callable[[], datetime] = base.now) -> None:
        missing = OPERATIONS.keys() - HANDLERS.keys()
        assert not missing, f"no handler for {missing}"
        self.database = database
        self.waiters = Waiters()
        self.config = config
        self.clock = clock
        self.metrics = Metrics()
        self.presence = Presence(database, clock)
        self._seats, self._reads = Seats(config.max_waits), OneByOne()
        self.rights = Rights()
        self._refusals = Refusals()
        self._identities = Identities(database, clock)
        self._censor = Censor(database, config.secret_keys)
        self._looks = threading.Semaphore(LOOKS)
        database.subscribe(self._hear)

    def speak(self, say: Callable[[Connection, datetime], list[Posted]]) -> None:
        """Let the colony itself post what `say` does, in one transaction, and wake everyone it concerns."""

        def work(connection: Connection) -> list[Topic]:
            return _topics(say(connection, self.clock()))

        if topics := self.database.write(work):
            self._tell([*topics, EVENTS])

    def perform(
        self,
        operation: Operation[Any, Any],
        credentials: Credentials,
        path: Mapping[str, Any],
        sent: Callable[[], Mapping[str, Any]],
        turn_header: str | None,
        surface: str,
    ) -> schema.Response:
        """Run one operation for whoever holds the credentials. `path` holds the fields of its path, `sent` reads the others.

        One that mutates leaves exactly one audit row: in its own transaction when it succeeds, alone when it is refused or crashes.
        Of somebody's refusals within a minute the first hundred leave one.
        Raises `ColonyError`.
        """
        caller: Caller | None = None
        began = perf_counter()
        moment, era = self.waiters.moment, self._identities.era  # before anything is looked up: what changes from now on is noticed
        try:
            caller = self._identities.identify(credentials)
            require_kind(operation, caller)
            reference = turn.Reference.parse(turn_header) if turn_header is not None else None
            request = _parse(operation, {**sent(), **path})  # only now: a stranger's body is not even read
            if self._censor.is_betrayed(caller, request):
                self._alarm(operation, caller, reference)
            request = self._censor.covered(caller, request)
            if operation.is_sign_of_life:
                self.presence.heard(caller.id, has_just_come=not request.wait)
            judge = partial(_judge, operation, request)
            if operation.mutates:
                result = self._write(operation, caller, request, reference, surface)
            else:
                with self._reads.of(caller.id):
                    result = self._read(caller, reference, judge, lambda call: HANDLERS[operation.name](call, request))
        except Exception as error:
            self.metrics.performed(operation.name, _code(error), perf_counter() - began)
            # For want of space nothing is written down: what little is left is for leases and answers.
            if operation.mutates and operation.is_audited and not isinstance(error, errors.StorageFull):
                self._audit_refusal(operation, caller, path, surface, error)
            raise
        self.metrics.performed(operation.name, "ok", perf_counter() - began)
        settled = self._settled(result, Known(caller, credentials, era), reference, judge, moment)
        with self._reads.of(caller.id):
            return self._censor.shown(operation, caller, settled)

    def identify(self, credentials: Credentials) -> Caller:
        """For what is no operation. Raises `Unauthenticated`."""
        return self._identities.identify(credentials)

    def _write(
        self, operation: Operation[Any, Any], caller: Caller, request: schema.Request, reference: turn.Reference | None, surface: str
    ) -> schema.Response | Wait:
        params = _params(operation, request) if operation.is_audited else ""

        def work(connection: Connection) -> tuple[schema.Response | Wait, list[Topic], ending.Endings]:
            call, ended = self._call(connection, caller), ending.begin(connection)
            if reference:
                call.turn = turn.fenced(connection, caller.id, reference, may_be_closed=operation.closes_turn)
            _judge(operation, request, call)
            result = HANDLERS[operation.name](call, request)
            if operation.is_audited:
                target, turn_id = _target(operation, request.__dict__), reference.id if reference else call.concerns
                audit.record(
                    connection,
                    call.now,
                    operation.name,
                    surface,
                    actor_id=caller.id,
                    target=target,
                    turn_id=turn_id,
                    params=params,
                    channel_id=call.room,
                )
                call.wake(EVENTS)
            reach("server.before_commit", operation.name)
            return result, call.wakes, ended

        try:
            result, wakes, ended = self.database.write(work)
        except errors.Held as held:
            raise self._held(operation, caller, request, reference) from held
        reach("server.before_wake", operation.name)
        if ended:
            self.metrics.ended(ended)
        self._tell(wakes)
        reach("server.before_answer", operation.name)
        return result

    def _alarm(self, operation: Operation[Any, Any], caller: Caller, reference: turn.Reference | None) -> NoReturn:
        """Raises `StaleTurn` where a turn speaks, which is over then, else `Forbidden`."""
        what = f"the honeytoken of {caller.username} stands in this {operation.name}"

        def work(connection: Connection) -> list[Posted]:
            return alarm.sound(connection, caller.id, f"with `{operation.name}`", str(reference) if reference else None, self.clock())

        posted = self.database.write(work)
        self._tell([*_topics(posted), ("user", caller.id), ("turn", caller.id), EVENTS])
        raise errors.StaleTurn(f"{what}: the turn is over") if reference else errors.Forbidden(f"{what}: it goes nowhere")

    def _held(
        self, operation: Operation[Any, Any], caller: Caller, request: schema.Request, reference: turn.Reference | None
    ) -> errors.Held:
        """Write down that the call waits for approval, and tell #ops. Raises `LimitReached` for one too many."""
        wanted = approval.Wanted(caller.id, operation.name, request, keyring.begun(self.config.secret_keys))

        def work(connection: Connection) -> tuple[errors.Held, list[Posted]]:
            about = connection, caller, operation, request
            scope, room_id = scope_of(*about), self.rights.room(*about)
            return approval.ask(connection, wanted, reference.id if reference else None, scope, room_id, self.clock())

        held, posted = self.database.write(work)
        if posted:
            self._tell([*_topics(posted), EVENTS])
        return held

    def _tell(self, topics: Sequence[Topic]) -> None:
        """These have news, by a commit of this server; others hear of it, too."""
        if topics:
            self._hear(topics)
            self.database.publish(topics)

    def _hear(self, topics: Sequence[Topic] | None) -> None:
        """These have news, by a commit of this server or of another one; None: perhaps all of them."""
        if topics is None or "identities" in topics:
            self._identities.forget()
            self.presence.forget()
        if topics is None or EGRESS in topics:
            self._censor.forget()
        if topics is None or ACL in topics or "identities" in topics:
            self.rights.forget()
        if topics is None or EVERYBODY in topics:
            self.waiters.wake_all()
        else:
            self.waiters.wake(*topics)

    def _read(
        self, caller: Caller, reference: turn.Reference | None, judge: Judge, ask: Callable[[Call], schema.Response | Wait]
    ) -> schema.Response | Wait:
        with self.database.read() as connection:
            call = self._call(connection, caller)
            if reference:
                call.turn = turn.fenced(connection, caller.id, reference, may_be_closed=False)
            judge(call)
            return ask(call)

    def _settled(
        self, result: schema.Response | Wait, known: Known, reference: turn.Reference | None, judge: Judge, moment: int
    ) -> schema.Response:
        """The answer, waited for as long as the handler asks; no connection is held meanwhile.

        Raises `LimitReached` for who waits very often at once.
        """
        if not isinstance(result, Wait):
            return result
        with self._seats.taken(known.caller.id):
            return self._waited_for(result, known, reference, judge, moment)

    def _waited_for(
        self, result: schema.Response | Wait, known: Known, reference: turn.Reference | None, judge: Judge, moment: int
    ) -> schema.Response:
        """Raises `Unauthenticated` for who has become nobody, unless the answer is about just that; `Forbidden` for who may no more."""
        deadline: float | None = None
        while isinstance(result, Wait):
            deadline = deadline or monotonic() + result.seconds
            until = deadline
            if result.not_after:
                until = min(deadline, monotonic() + max(0.0, (result.not_after - self.clock()).total_seconds()))
            woken = self.waiters.wait(result.topic, moment, until)
            is_over = not woken and until >= deadline
            if self.waiters.is_closed or (is_over and self.database.writer):  # where one writes for all, no news came unheard
                return result.answer
            moment = self.waiters.moment
            is_still = self._identities.is_still(known)
            if not is_still and not result.of_oneself:
                raise errors.Unauthenticated()
            if not self._looks.acquire(timeout=max(0.0, deadline - monotonic())):
                return result.answer
            try:
                result = self._read(known.caller, reference, judge, result.again)  # at the deadline, too, for the news of other servers
            finally:
                self._looks.release()
            if isinstance(result, Wait) and (is_over or not is_still):
                return result.answer
        return result

    def _call(self, connection: Connection, caller: Caller) -> Call:
        return Call(connection, caller, self.clock(), self.config, self.database, self.rights)

    def _audit_refusal(
        self, operation: Operation[Any, Any], caller: Caller | None, path: Mapping[str, Any], surface: str, error: Exception
    ) -> None:
        code, actor_id = _code(error), caller.id if caller else None
        if not self._refusals.has_room(actor_id, self.clock()):
            return
        target = self._censor.target(caller, _target(operation, path))

        def work(connection: Connection) -> None:
            audit.record(connection, self.clock(), operation.name, surface, actor_id=actor_id, target=target, error_code=code)

        try:
            self.database.write(work)
        except errors.Unavailable as unavailable:
            log.warning("no audit row for a refusal operation=%s error=%s", operation.name, unavailable.code)
        except Exception:  # the refusal itself must still reach the caller
            log.exception("no audit row for a refusal operation=%s", operation.name)


def _code(error: Exception) -> str:
    return error.code if isinstance(error, errors.ColonyError) else "crashed"


def _topics(posted: list[Posted]) -> list[Topic]:
    return [topic for each in posted for topic in (("channel", each.channel_id), *(("user", user_id) for user_id in each.woken))]


def _judge(operation: Operation[Any, Any], request: schema.Request, call: Call) -> None:
    """Raises `Forbidden` and `NotFound` for what the caller may not do to that target, and `Held` for what nobody has approved yet."""
    if not call.rights.require(call.connection, call.caller, operation, request, in_turn=call.turn is not None):
        return
    wanted = approval.Wanted(call.caller.id, operation.name, request, keyring.load(call.config.secret_keys))
    if not approval.use(call.connection, wanted, call.now):
        raise errors.Held()


def _parse(operation: Operation[Q, R], fields: Mapping[str, Any]) -> Q:
    try:
        # Bodies say what they mean in JSON's own types; a query string only has text.
        return operation.request.model_validate(dict(fields), strict=operation.method in ("POST", "PUT"))
    except ValidationError as error:
        raise _invalid(operation, error) from None


def _invalid(operation: Operation[Any, Any], error: ValidationError) -> errors.Invalid:
    first = error.errors(include_url=False, include_input=False)[0]
    field_name = ".".join(map(str, first["loc"]))
    known = ", ".join(operation.request.model_fields) or "none"
    hint = f" (known fields: {known})" if first["type"] == "extra_forbidden" else ""
    message = first["msg"].removeprefix("Value error, ")
    return errors.Invalid(f"{field_name[:100]}: {message}{hint}" if field_name else message)


def _target(operation: Operation[Any, Any], fields: Mapping[str, Any]) -> str:
    target = " ".join(str(fields[name]) for name in operation.path_fields if name in fields)
    return target.replace("\0", "?").encode("utf-8", "replace").decode()  # what a database can't hold must not cost the row


def _params(operation: Operation[Any, Any], request: schema.Request) -> str:
    hidden = {*operation.request.unaudited, *operation.path_fields}
    return request.model_dump_json(exclude=hidden, exclude_defaults=True)
