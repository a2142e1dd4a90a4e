"""What an agent's machine remembers between turns: its sessions, and the journal of an answer that is not delivered yet."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colony import files
from colony_agent.runner import Session

if TYPE_CHECKING:
    from colony import schema

log = logging.getLogger(__name__)

MAX_BYTES = 16 * 2**20
ROOM_BYTES = 2**16  # of which each state takes a multiple
SESSIONS_KEPT = 200


@dataclass(frozen=True)
class Finished:
    """A turn whose runner has ended, noted before the server is told: after a crash it is delivered, not thought again."""

    turn_id: int
    attempt: int
    reply: str
    tokens_in: int
    tokens_out: int
    cost_usd: float | None  # None: not known
    session_id: str | None
    prompt_characters: int = 0  # absent in journals of older versions, as the next
    tools: dict[str, int] = field(default_factory=dict)

    @property
    def request(self) -> schema.FinishTurn:
        from colony import schema

        usage = schema.Usage.model_validate({name: getattr(self, name) for name in schema.Usage.model_fields})
        return schema.FinishTurn(id=self.turn_id, reply=self.reply, usage=usage, session_id=self.session_id)

    @property
    def reference(self) -> str:
        return f"{self.turn_id}.{self.attempt}"


@dataclass
class State:
    sessions: dict[str, Session] = field(default_factory=dict)  # by channel; the newest last
    seen: dict[str, int] = field(default_factory=dict)  # by channel: up to which message its session knows what was said
    outside: list[str] = field(default_factory=list)  # the channels whose sessions have heard people outside of the colony
    finished: Finished | None = None
    dreamt: str = ""  # of what the last dream was, as `dream.matter` names it
    unsettled: dict[str, Any] | None = None  # what was noted before a turn that hears people outside, as `provenance.Notes` packs it

    def remember(self, channel: str, session: Session | None, seen: int, *, is_outside: bool = False) -> None:
        self.sessions.pop(channel, None)
        if is_outside and channel not in self.outside:
            self.outside.append(channel)
        if session:
            self.sessions[channel] = session
            self.seen[channel] = seen
        while len(self.sessions) > SESSIONS_KEPT:
            del self.sessions[next(iter(self.sessions))]
        self.seen = {name: self.seen.get(name, 0) for name in self.sessions}
        self.outside = [name for name in self.outside if name in self.sessions]


def load(home: Path, name: str) -> State:
    """The state; a new one where there is none. One that can't be read is put aside, so that the agent lives on."""
    try:
        text = files.read(home, name, MAX_BYTES)
        return _parsed(json.loads(text)) if text.strip() else State()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.error("state put aside file=%s error=%s", home / name, error)
        files.put_aside(home, name, f"{name}.broken")
        return State()


def _parsed(found: dict[str, Any]) -> State:
    sessions = {channel: Session(str(session["id"]), float(session["total_cost_usd"])) for channel, session in found["sessions"].items()}
    seen = {channel: int(seq) for channel, seq in found.get("seen", {}).items()}
    finished = Finished(**found["finished"]) if found["finished"] else None
    if finished:
        _ = finished.request  # raises for what the server would refuse
    outside = [str(channel) for channel in found.get("outside", [])]
    return State(sessions, seen, outside, finished, str(found.get("dreamt", "")), found.get("unsettled"))


def save(home: Path, name: str, state: State) -> None:
    """Replace the state, durably. Only while nothing of the agent's runs: a replaced file is uncovered in a running sandbox.

    It takes more room than it needs, so that on a disk that the agent has filled there is room for the next one, in place.
    """
    text = json.dumps(asdict(state))
    files.rewrite(home, name, text.ljust(-(-len(text) // ROOM_BYTES) * ROOM_BYTES))
