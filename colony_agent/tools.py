"""The agent's tools: the colony's operations marked as such, called with the turn's identity."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from colony import errors, operations, schema
from colony.client import Client
from colony.operations import OPERATIONS, Operation

TOOLS: dict[str, Operation[Any, Any]] = {name: operation for name, operation in OPERATIONS.items() if operation.is_tool}
_NOT_THE_AGENTS = frozenset({"client_id", "wait", "user"})  # fields that the turn sets, or that only make sense outside of one


@dataclass(frozen=True)
class Result:
    text: str
    is_error: bool = False


class Toolbox:
    """The tools of one turn."""

    def __init__(self, client: Client, turn_id: int) -> None:
        self._client = client
        self._turn_id = turn_id
        self._posts = itertools.count()

    def call(self, name: str, arguments: Mapping[str, Any]) -> Result:
        """The operation's response as JSON, or what was wrong, in words for the model."""
        operation = TOOLS.get(name)
        if operation is None:
            return Result(f"no tool {name}; there are {', '.join(TOOLS)}", is_error=True)
        if odd := _NOT_THE_AGENTS & arguments.keys():
            return Result(f"{', '.join(sorted(odd))}: not a field of {name}", is_error=True)
        fields = {key: _bare(key, value) for key, value in arguments.items()}
        if operation is operations.POST:
            fields["client_id"] = f"{self._turn_id}:{next(self._posts)}"
        try:
            response = self._client.call(operation, operation.request.model_validate(fields))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return Result(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", is_error=True)
        except errors.ColonyError as error:
            return Result(error.detail, is_error=True)
        if isinstance(response, schema.Message) and response.duplicate:
            return Result(f"An earlier attempt of this turn has posted this instead: {response.model_dump_json()}")
        return Result(response.model_dump_json())


def described(operation: Operation[Any, Any]) -> dict[str, Any]:
    """Name, description and input schema, as MCP wants them."""
    fields = operation.request.model_json_schema()
    fields["properties"] = {name: value for name, value in fields.get("properties", {}).items() if name not in _NOT_THE_AGENTS}
    return {"name": operation.name, "description": operation.summary, "inputSchema": fields}


def _bare(field: str, value: Any) -> Any:
    """Models like to write #general."""
    return value.removeprefix("#") if field == "channel" and isinstance(value, str) else value
