"""One turn: claim → prompt → runner in the sandbox → finish, or fail. A short-lived process that the worker starts.

The colony's client and schema are slow to import, and Claude Code is slow to start. So that both happen at
once, this module and what it imports do without them, and functions that need them import them: they run once the program has been
started, or when all is over.
"""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING

from colony import errors, failures, files
from colony.config import STATE_FILE
from colony.failpoints import reach
from colony_agent import journal, prompt, provenance, sandbox, state, worker
from colony_agent.claim import Claimed, claim
from colony_agent.lease import Lease
from colony_agent.lock import the_only_process
from colony_agent.runner import Answer, Brief, Runner, RunnerFailed, Task
from colony_agent.runner.claude import ClaudeRunner
from colony_agent.settings import Home
from colony_agent.state import Finished
from colony_agent.tool_socket import ToolSocket

if TYPE_CHECKING:
    from colony import schema
    from colony.client import Client

log = logging.getLogger(__name__)

DELIVERY_SECONDS = 60  # how long a finished turn tries to reach its server before it leaves the journal to the next process
HEARTBEAT_MAX_BYTES = 16_384
MAX_RETRY_SECONDS = 86_400  # what one failure may ask for; after it the API is asked again
PULSE_SESSION = "(pulse)"  # no channel's name


class Exit(IntEnum):
    DONE = 0
    FAILED = worker.FAILED  # the turn was handed back; the server says when it is due again
    NOTHING = worker.NOTHING  # nothing to do now, or somebody else does it


def run(home: Home, kind: schema.TurnKind = "answer", *, if_new: bool = False) -> Exit:
    """Do the agent's next turn, if there is one; with `if_new` no dream of what the last one was of.

    Raises `ColonyError` when the colony is out of reach.
    """
    journal.mark(agent=home.agent.name)
    with the_only_process(home) as is_alone:
        if not is_alone:
            return nothing(kind, "a turn or a dream of it runs")
        memory = state.load(home.path, STATE_FILE)
        if memory.unsettled:  # a turn died before its notes were looked at, or there was no room for their marks
            _settle(home, memory)
        if memory.finished:
            _deliver(home, memory)
        if if_new and not _is_new(home, memory):
            return nothing(kind, "nothing is new since the last dream" if memory.dreamt else "there is nothing to dream of yet")
        stop = _StopSignals()
        reach("turn.before_claim")
        claimed = claim(home, kind)  # alone in this home: whatever the server still calls running is gone
        reach("turn.claimed")
        if isinstance(claimed, str):
            return nothing(kind, claimed)
        journal.mark(turn=claimed.id, channel=claimed.channel)
        try:
            return _Turn(home, memory, claimed, stop).run()
        finally:  # whatever came of it: the sandbox is gone
            from colony_agent import overflow

            overflow.settle(home, datetime.now(UTC))


def nothing(kind: schema.TurnKind, why: str) -> Exit:
    """Say why no turn is done; of a dream, which is a service of its own, systemd is told, too: people ask it."""
    log.info("no turn: %s", why)
    if kind == "dream":
        worker.notify(f"STATUS={' '.join(why.split())}")  # in one line: what stands in another would be an order to systemd
    return Exit.NOTHING


def _is_new(home: Home, memory: state.State) -> bool:
    from colony_agent import dream

    try:
        return dream.matter(home) not in ("", memory.dreamt)
    except OSError:  # something odd lies in the place of the memory: the dream will say so
        return True


@dataclass
class _Turn:
    home: Home
    memory: state.State
    claimed: Claimed
    stop: _StopSignals
    is_outside: bool = False  # people outside of the colony have been heard, in this turn or before in its session
    notes: provenance.Notes | None = None  # as they were before it heard anything
    hears: threading.Lock = field(default_factory=threading.Lock)  # tools answer in threads of their own

    def run(self) -> Exit:
        log.info("turn begins turn=%s kind=%s channel=%s", self.reference, self.claimed.kind, self.claimed.channel)
        self.is_outside = self.session_key in self.memory.outside or not provenance.OUTSIDE.isdisjoint(self.claimed.author_kinds)
        if self.is_outside:
            self._remember_notes()
        with ExitStack() as stack:
            try:
                tools = stack.enter_context(ToolSocket(self.home.path)) if self.has_tools else None
                runner = self._runner(tools)
                with Lease(self.home, self.claimed, runner):
                    self.stop.reach(runner)
                    try:
                        answer = self._think(runner, tools, stack)
                    finally:
                        self._settle_notes()
                reach("turn.runner_ended")
            except RunnerFailed as failed:
                return self._hand_back(failed)
            except Exception as error:  # whatever it was, the turn is handed back and not just lost
                from colony import schema

                log.exception("turn broke turn=%s", self.reference)
                unknown = schema.Usage(cost_usd=None)
                return self._hand_back(RunnerFailed(failures.CRASHED, f"{type(error).__name__}: {error}", usage=unknown))
        return self._finish(answer)

    @property
    def turn(self) -> schema.Turn:
        return self.claimed.turn

    @property
    def reference(self) -> str:
        return self.claimed.reference

    @property
    def session_key(self) -> str:
        return self.claimed.channel or PULSE_SESSION

    @property
    def _newest(self) -> int:
        return max((item.message.seq for item in self.turn.items), default=0)

    @property
    def has_tools(self) -> bool:
        return self.claimed.kind != "dream"  # where nobody is spoken to

    def _runner(self, tools: ToolSocket | None) -> Runner:
        confined = sandbox.for_home(self.home, tools.binds if tools else (), self.claimed.honeytoken)
        if self.home.agent.runner == "command":
            from colony_agent.runner.command import CommandRunner

            return CommandRunner(self.home, confined, tools.path if tools else None, self.claimed.environment)
        return ClaudeRunner(self.home, confined, tools.argv if tools else None, environment=self.claimed.environment)

    def _think(self, runner: Runner, tools: ToolSocket | None, stack: ExitStack) -> Answer:
        if self.claimed.kind == "dream":
            from colony_agent import dream

            return dream.dream(self.home, self.turn, runner)

        @cache
        def brief() -> Brief:
            if tools:
                self._serve(tools, stack)
            written = self._brief()
            reach("turn.prompted")
            return written

        session = self.memory.sessions.get(self.session_key)
        task = Task(brief, session, self.home.agent.turn_timeout_seconds, self.claimed.budget_usd)
        return runner.run(task, lambda text: log.info("progress turn=%s %s", self.reference, text))

    def _serve(self, tools: ToolSocket, stack: ExitStack) -> None:
        from colony_agent import mcp_server
        from colony_agent.tools import Toolbox

        mcp_server.serve(tools.listener, Toolbox(stack.enter_context(self._client()), self.turn, self._hear))

    def _hear(self, document: str) -> None:
        """A tool's answer, before the agent reads it: from then on what it notes is to be marked, even if the turn is killed."""
        if provenance.holds_outside(document):
            with self.hears:
                if not self.is_outside:
                    self._remember_notes()
                self.is_outside = True

    def _remember_notes(self) -> None:
        """Keep what was noted before, for who settles it."""
        self.notes = self.notes or provenance.noted(self.home)
        self.memory.unsettled = self.notes.packed()
        _save(self.home, self.memory)

    def _settle_notes(self) -> None:
        if self.notes and self.is_outside:
            self.memory.unsettled = None if provenance.settle(self.home, self.notes) else self.notes.packed()

    def _brief(self) -> Brief:
        heartbeat = files.read(self.home.path, "heartbeat.md", HEARTBEAT_MAX_BYTES) if self.turn.kind == "pulse" else ""
        now = datetime.now(UTC)
        self.notes = self.notes or provenance.noted(self.home)
        seen = self.memory.seen.get(self.session_key, 0)
        if any(item.message.seq <= seen for item in self.turn.items):
            seen = 0  # the numbers may have begun again, from a backup: better told twice than not at all
        whole, rest = (prompt.render(self.turn, heartbeat, now, known, is_outside=self.is_outside) for known in (0, seen))
        return Brief(rest, self.turn, afresh=whole)

    def _client(self) -> Client:
        from colony.client import Client

        return Client(self.home.colony.url, self.home.colony.token, turn=self.reference)

    def _finish(self, answer: Answer) -> Exit:
        # The sandbox is gone: only now the state may be replaced.
        if self.claimed.kind == "dream":
            from colony_agent import dream

            self.memory.dreamt = dream.matter(self.home)
        else:
            self.memory.remember(self.session_key, answer.session, self._newest, is_outside=self.is_outside)
        self.memory.finished = _finished(self.turn, answer)
        reach("turn.before_journal")
        _save(self.home, self.memory)
        reach("turn.journaled")
        _deliver(self.home, self.memory)
        log.info("turn done turn=%s cost_usd=%s", self.reference, answer.usage.cost_usd)
        reach("turn.before_exit")
        return Exit.DONE

    def _hand_back(self, failed: RunnerFailed) -> Exit:
        from colony import operations, schema
        from colony.patience import repeated
        from colony.traces import cover, written
        from colony_agent.runner.reply import storable

        detail = cover(failed.detail, written(self.claimed.secrets))
        log.warning("turn failed turn=%s code=%s detail=%s", self.reference, failed.failure.code, detail)
        request = schema.FailTurn(
            id=self.claimed.id,
            code=failed.failure.code,
            detail=storable(detail)[:500],
            usage=failed.usage or schema.Usage(),
            retry_in_seconds=None if failed.retry_in_seconds is None else min(failed.retry_in_seconds, MAX_RETRY_SECONDS),
        )
        if self.claimed.kind != "dream":
            self.memory.remember(self.session_key, failed.session, self.memory.seen.get(self.session_key, 0), is_outside=self.is_outside)
            _save(self.home, self.memory)
        reach("turn.before_fail")
        try:
            with self._client() as client:
                repeated(lambda: client.call(operations.FAIL, request), DELIVERY_SECONDS)
        except errors.StaleTurn:
            log.warning("turn had been taken away turn=%s", self.reference)
        reach("turn.fail_answered")
        return Exit.FAILED


class _StopSignals:
    """From now on a signal ends the thinking only: the answer, or the failure, is still delivered."""

    def __init__(self) -> None:
        self._came = False
        self._runner: Runner | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def reach(self, runner: Runner) -> None:
        """Let signals stop this runner, those too that came before."""
        self._runner = runner
        if self._came:
            runner.stop()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._came:  # the first one stops it; a second could find the runner's lock held by this very thread
            return
        self._came = True
        if self._runner:
            self._runner.stop()


def _deliver(home: Home, memory: state.State) -> None:
    """Tell the server what the journal holds, and close the journal. Raises what isn't the answer's fault; the journal then stays."""
    from colony import operations, schema
    from colony.client import Client
    from colony.patience import repeated

    finished = memory.finished
    assert finished
    reach("turn.before_finish")
    with Client(home.colony.url, home.colony.token, turn=finished.reference) as client:
        try:
            repeated(lambda: client.call(operations.FINISH, finished.request), DELIVERY_SECONDS)
        except (errors.StaleTurn, errors.NotFound):
            log.warning("answer came too late turn=%s", finished.reference)
        except errors.Invalid as error:
            log.error("answer refused turn=%s error=%s", finished.reference, error.detail)
            failure = schema.FailTurn(id=finished.turn_id, code=failures.CRASHED.code, detail=error.detail[:500])
            client.call(operations.FAIL, failure)
    reach("turn.finish_answered")
    memory.finished = None
    _save(home, memory)


def _settle(home: Home, memory: state.State) -> None:
    try:
        is_settled = provenance.settle(home, provenance.Notes.unpacked(memory.unsettled or {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        log.error("notes of a turn that died are not marked agent=%s error=%r", home.agent.name, error)
        is_settled = True
    if is_settled:
        memory.unsettled = None
    _save(home, memory)


def _save(home: Home, memory: state.State) -> None:
    """A disk that is full must not keep an answer from its channel: better an answer without a journal than none."""
    try:
        state.save(home.path, STATE_FILE, memory)
    except OSError as error:
        log.error("state not saved file=%s error=%s", home.path / STATE_FILE, error)


def _finished(turn: schema.Turn, answer: Answer) -> Finished:
    usage = answer.usage
    session_id = answer.session.id if answer.session else None
    return Finished(turn.id, turn.attempt, answer.reply, **usage.model_dump(), session_id=session_id)
