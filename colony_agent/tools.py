"""The agent's tools: the colony's operations marked as such, called with the turn's identity."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from colony import errors, operations, schema
from colony.client import Client
from colony.failpoints import reach
from colony.operations import OPERATIONS, Operation
from colony.patience import repeated

TOOLS: dict[str, Operation[Any, Any]] = {name: operation for name, operation in OPERATIONS.items() if operation.is_tool}
AT_ONCE = 4  # calls of one turn; more wait, since a hundred at once would make all the colony wait for the server
POST_SECONDS = 15  # how long a post insists while the server restarts; well below the runner's own limit for a tool
_NOT_THE_AGENTS = frozenset({"client_id", "wait", "user"})  # fields that the turn sets, or that only make sense outside of one


@dataclass(frozen=True)
class Result:
    text: str
    is_error: bool = False


class Toolbox:
    """The tools of one turn, with what its earlier attempts have posted: a post that repeats one of those is not made again.

    `hear` is given each response as the agent reads it.
    """

    def __init__(self, client: Client, turn: schema.Turn, hear: Callable[[str], None] = lambda _: None) -> None:
        self._client, self._hear = client, hear
        self._reference = f"{turn.id}:{turn.attempt}"
        self._numbers = itertools.count()
        self._at_once = threading.BoundedSemaphore(AT_ONCE)
        self._earlier = list(turn.posts)
        self._usable = TOOLS.keys() if turn.tools is None else TOOLS.keys() & set(turn.tools)
        self._unsure: dict[tuple[str, str], str] = {}  # posts whose fate is unknown: their client_ids by channel and body

    def described(self) -> list[dict[str, Any]]:
        """The tools that the agent may use. That it uses no other is the server's business, which judges each call."""
        return [described(operation) for name, operation in TOOLS.items() if name in self._usable]

    def call(self, name: str, arguments: Mapping[str, Any]) -> Result:
        """The operation's response as JSON, or what was wrong, in words for the model."""
        with self._at_once:
            return self._called(name, arguments)

    def _called(self, name: str, arguments: Mapping[str, Any]) -> Result:
        operation = TOOLS.get(name)
        if operation is None:
            return Result(f"no tool {name}; there are {', '.join(TOOLS)}", is_error=True)
        if odd := _NOT_THE_AGENTS & arguments.keys():
            return Result(f"{', '.join(sorted(odd))}: not a field of {name}", is_error=True)
        fields = {key: _bare(key, value) for key, value in arguments.items()}
        try:
            request = operation.request.model_validate(fields)
            if isinstance(request, schema.PostMessage):
                return self._post(request)
            response = self._client.call(operation, request).model_dump_json()
            self._hear(response)
            return Result(response)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return Result(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", is_error=True)
        except errors.ColonyError as error:
            return Result(error.detail, is_error=True)

    def _post(self, request: schema.PostMessage) -> Result:
        said = request.channel, request.body
        for message in self._earlier:
            if (message.channel, message.body) == said:
                self._earlier.remove(message)
                return Result(f"This was posted before the turn was interrupted: {message.model_dump_json()}")
        # A post that is tried again after its answer was lost, here or by the model, must not appear twice.
        key = self._unsure.setdefault(said, f"{self._reference}.{next(self._numbers)}")
        reach("turn.before_post")
        posted = repeated(lambda: self._client.call(operations.POST, request.model_copy(update={"client_id": key})), POST_SECONDS)
        reach("turn.posted")
        self._unsure.pop(said, None)
        return Result(posted.model_dump_json())


def described(operation: Operation[Any, Any]) -> dict[str, Any]:
    """Name, description and input schema, as MCP wants them."""
    fields = operation.request.model_json_schema()
    fields["properties"] = {name: value for name, value in fields.get("properties", {}).items() if name not in _NOT_THE_AGENTS}
    return {"name": operation.name, "description": operation.summary, "inputSchema": fields}


def _bare(field: str, value: Any) -> Any:
    """Models like to write #general."""
    return value.removeprefix("#") if field == "channel" and isinstance(value, str) else value
