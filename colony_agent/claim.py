"""Asks the server for a turn, with the standard library alone: the colony's client is loaded while the runner's program starts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from colony import config, errors
from colony_agent import worker
from colony_agent.settings import Home

if TYPE_CHECKING:
    from colony import schema

ANSWER_SECONDS = 30.0
MAX_ANSWER_BYTES = 64 * 2**20  # twenty messages and their context are far below


@dataclass(frozen=True)
class Claimed:
    """A turn as the server has handed it out: `document` is the JSON of a `schema.Turn`, the others are what its start needs of it."""

    id: int
    attempt: int
    kind: schema.TurnKind
    channel: str | None
    document: dict[str, Any]

    @property
    def reference(self) -> str:
        return f"{self.id}.{self.attempt}"

    @property
    def budget_usd(self) -> float:
        """The most it may cost; 0: no limit."""
        return float(self.document.get("reserved_usd") or 0.0)

    @property
    def environment(self) -> dict[str, str]:
        """What stands for its secrets, by their names, and those that it may hold."""
        return {**self._named("environment"), **self._named("secrets")}

    @property
    def secrets(self) -> list[str]:
        """What it holds, and nobody else is to read."""
        return list(self._named("secrets").values())

    @property
    def honeytoken(self) -> str:
        """What lies in the sandbox to be stolen; empty: nothing."""
        return str(self.document.get("honeytoken") or "")

    @property
    def author_kinds(self) -> set[str]:
        """Of whom it hears: in what it is to answer, and in what was said before."""
        heard = [*(item["message"] for item in self.document.get("items") or ()), *(self.document.get("context") or ())]
        return {str(message["author_kind"]) for message in heard}

    def _named(self, field: str) -> dict[str, str]:
        return {str(name): str(value) for name, value in (self.document.get(field) or {}).items()}

    @cached_property
    def turn(self) -> schema.Turn:
        """All of it. Takes a while: to be asked for only once the runner's program has been started."""
        from colony import schema

        return schema.Turn.model_validate(self.document)


def claim(home: Home, kind: schema.TurnKind) -> Claimed | str:
    """The agent's next turn, or why there is none. The caller must know that no other process of the agent lives.

    Whatever the server still calls running is handed out again. Raises `ColonyError`.
    """
    fields = {"lease_seconds": home.agent.lease_seconds, "kind": kind, "take_over": True}
    if home.agent.runner == "command":
        fields["takes_secrets"] = True
    try:
        status, answer = _asked(home, fields)
    except OSError as error:
        raise errors.Unavailable(config.nobody_at(home.colony.url, error.strerror or error)) from error
    except (ValueError, IndexError) as error:
        raise errors.Invalid(f"{home.colony.url!r} is no colony's address: {error}") from error
    if status != "200":
        raise errors.BY_CODE.get(answer.get("code", ""), errors.Unavailable)(answer.get("detail", f"claim: HTTP {status}"))
    try:
        found = answer["turn"]
        return str(answer["reason"]) if found is None else Claimed(found["id"], found["attempt"], found["kind"], found["channel"], found)
    except (KeyError, TypeError) as error:
        raise errors.Unavailable(f"{home.colony.url} answered claim with something that is not a colony's answer") from error


def _asked(home: Home, fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    received = bytearray()
    with worker.ask(home.colony.url, home.colony.token, "/api/turns", fields) as connection:
        connection.settimeout(ANSWER_SECONDS)
        while len(received) < MAX_ANSWER_BYTES and (chunk := connection.recv(2**16)):
            received += chunk
    return worker.understood(bytes(received))
