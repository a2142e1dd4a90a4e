"""The attempts: what is tried, by whom, what refuses it, and for whom the very same succeeds, so that a slip never counts as a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from tests.host.apart.guards import Guard

Call = tuple[str, ...]  # a function of the probe and its arguments; $names are filled in from the stage's facts
Refusal = tuple[str, Guard]  # the outcome, and what has refused


class Who(Enum):
    """From where something is tried. Scout attacks, rook is the other agent."""

    SERVICE = "an agent's service, outside of the sandbox"
    TURN = "an agent's turn, in its sandbox"
    STRANGER = "an ordinary user of the machine"
    SERVER = "the colony's server"
    GATE = "the gate, if it were fooled"


class By(Enum):
    """For whom it must succeed."""

    ROOT = "root"
    ROOK = "the other agent"
    STRANGER = "an ordinary user"
    SCOUT = "the agent's service"
    TURN = "the agent's turn"
    MACHINE = "root of the machine below"  # the root of a guest may do less


@dataclass(frozen=True)
class Attempt:
    says: str
    call: Call
    refused: Mapping[Who, Refusal]
    works_for: By = By.ROOT
    works_as: Call | None = None  # if not as `call`

    @property
    def proof(self) -> Call:
        return self.works_as or self.call


@dataclass(frozen=True)
class Open:
    """What succeeds, and why it is left so."""

    says: str
    call: Call
    who: Who
    because: str
