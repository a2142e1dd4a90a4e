"""Makes commands out of operations: arguments and options are the request's fields, the help is its docstring."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from colony import config, errors, operations, schema, show
from colony.operations import Operation, Q, R

if TYPE_CHECKING:
    from colony.client import Client

SIGILS = {  # what people write before such names
    **dict.fromkeys(("channel", "name"), "#"),
    **dict.fromkeys(("user", "username", "usernames", "agent", "owner", "principal"), "@"),
}
MAX_QUOTED = 60  # characters of a refused value that its error repeats


@dataclass
class Caller:
    """One run of a command: who calls which colony, and how the answer is shown."""

    connect: Callable[[config.Settings], Client]
    url: str | None = None
    token: str | None = None
    is_json: bool = False
    is_verbose: bool = False
    _client: Client | None = field(default=None, init=False)

    def call(self, operation: Operation[Q, R], **fields: object) -> R:
        """The operation's response. Raises `Invalid` for fields that the schema refuses, before anything is sent."""
        request = build(operation.request, fields)
        return self._connected().call(operation, request)

    def events(self, since: str) -> Iterator[schema.Event]:
        """What happens after this position, without end; people are told of an outage once, and of its end."""
        is_away = False

        def tell(error: errors.Unavailable | None) -> None:
            nonlocal is_away
            if error and not is_away:
                show.note(f"{error}; trying again until it answers")
            elif is_away and not error:
                show.note("the colony answers again")
            is_away = bool(error)

        return self._connected().events(since, tell)

    def whoami(self, settings: config.Settings) -> schema.User:
        """Who one is to the colony of these settings, whatever the caller's own are."""
        with self.connect(settings) as client:
            return client.call(operations.WHOAMI, schema.Whoami())

    def show(self, answer: schema.Response) -> None:
        show.show(answer, self.is_json)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _connected(self) -> Client:
        if self._client is None:
            self._client = self.connect(config.load(self.url, self.token))
        return self._client


def command(
    operation: Operation[Any, Any], *arguments: str, name: str | None = None, without: tuple[str, ...] = (), help: str | None = None
) -> Callable[[Callable[..., None]], click.Command]:
    """A decorator: `run(caller, **fields)` becomes the operation's command.

    The fields of the path and those named in `arguments` are arguments, the others options; `without` leaves fields out.
    """

    def make(run: Callable[..., None]) -> click.Command:
        own: list[click.Parameter] = list(reversed(getattr(run, "__click_params__", [])))
        made = [
            _parameter(key, info, key in arguments or key in operation.path_fields)
            for key, info in operation.request.model_fields.items()
            if key not in without
        ]
        return click.Command(
            name or operation.name.replace("_", "-"),
            callback=click.pass_obj(run),
            params=[*made, *own, _switch("--json", "is_json", "Print the response as one JSON document."), verbose()],
            help=help or operation.summary,
            short_help=re.split(r"(?<=\.)\s", help or operation.summary)[0],
        )

    return make


def examples(*lines: str) -> str:
    """The end of a help text: lines that can be typed as they are."""
    return "\n\n\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def plain(operation: Operation[Any, Any], *arguments: str, name: str | None = None) -> click.Command:
    """The command that is nothing but the operation."""

    def run(caller: Caller, **fields: object) -> None:
        caller.show(caller.call(operation, **fields))

    return command(operation, *arguments, name=name)(run)


def build(request: type[Q], fields: Mapping[str, object]) -> Q:
    """The request with the fields that were given. Raises `Invalid` in one line that names what is wrong."""
    given = {key: _bare(key, value) for key, value in fields.items() if value is not None}
    try:
        return request.model_validate(given)
    except ValidationError as error:
        raise errors.Invalid("; ".join(_complaint(request, dict(problem)) for problem in error.errors())) from error


def verbose() -> click.Option:
    return _switch("-v", "is_verbose", "Show the traceback of an error.")


def _switch(flag: str, attribute: str, help: str) -> click.Option:
    def note(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            setattr(context.find_object(Caller), attribute, True)

    return click.Option([flag, attribute], is_flag=True, expose_value=False, callback=note, help=help)


def _parameter(name: str, info: FieldInfo, is_argument: bool) -> click.Parameter:
    kind, is_list = _kind(info.annotation)
    if is_argument:
        kind = _Number() if kind is click.INT else kind
        return click.Argument([name], type=kind, required=info.is_required(), nargs=-1 if is_list else 1)
    if kind is click.BOOL:
        return click.Option([f"--{name.replace('_', '-')}", name], is_flag=True, default=None, help=info.description)
    default = "" if info.is_required() or info.default in (None, "") else f"[default: {info.default}]"
    help = " ".join(filter(None, (info.description, default))) or None
    return click.Option([f"--{name.replace('_', '-')}", name], type=kind, required=info.is_required(), help=help)


class _Number(click.ParamType[int]):
    """An id may be written as the colony tells it: #12."""

    name = "integer"

    def convert(self, value: object, parameter: click.Parameter | None, context: click.Context | None) -> int:
        text: Any = str(value).removeprefix("#")  # click's types know of no text here
        return int(click.INT.convert(text, parameter, context))


def _kind(annotation: Any) -> tuple[click.ParamType[Any], bool]:
    """How click reads such a field, and whether it holds several of them; the schema checks the rest."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin in (Union, types.UnionType):
        return _kind(next(kind for kind in inner if kind is not type(None)))
    if origin is list:
        return _kind(inner[0])[0], True
    if origin is Literal:
        return click.Choice(inner), False
    simple: dict[Any, click.ParamType[Any]] = {int: click.INT, float: click.FLOAT, bool: click.BOOL}
    return simple.get(annotation, click.STRING), False


def _bare(name: str, value: object) -> object:
    if isinstance(value, tuple):
        return [_bare(name, each) for each in value]
    return value.removeprefix(SIGILS[name]) if name in SIGILS and isinstance(value, str) else value


def _complaint(request: type[schema.Request], problem: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    info = request.model_fields.get(name)
    if problem["type"] == "string_pattern_mismatch":
        expected = "must match " + problem["ctx"]["pattern"].removeprefix(r"\A").removesuffix(r"\z")
        expected += "".join(f", like {example!r}" for example in (info and info.examples) or ())
    else:
        expected = problem["msg"].removeprefix("Value error, ").replace("Input should", "should").replace("String should", "should")
    if not name:  # of the request as a whole, which is not repeated
        return str(expected)
    is_quoted = name in request.unaudited or expected.startswith(repr(problem["input"]))
    return f"{name}: {expected}" if is_quoted else f"{name}: {_quoted(problem['input'])} {expected}"


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"
