"""A soul: the Markdown file that an agent is born from. Its front matter becomes settings, what stands below becomes CLAUDE.md."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from colony import egress, errors, schema, show
from colony.bounds import BOUNDS, IMAGE, RunnerKind, SandboxKind
from provisioning import front_matter
from provisioning.front_matter import Unsound
from provisioning.record import MIN_BYTES, NAME

MAX_BYTES = 64 * 1024
ROOM = (MIN_BYTES, 16 * 2**40)  # bytes, of memory or of a disk: with less no runner starts
MAX_COMPLAINTS = 3  # told at once
OWN_CHOICE = "default"  # a model that leaves the choice to Claude Code
NO_MODEL = "model is for the runner claude; a command chooses its own"
MAX_QUOTED = 60  # characters
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}  # as systemd means them
_COMMAND = "command:"
_IMAGE = "podman:"
_EXPECTED = {  # where pydantic's own words speak of Python
    "string_type": "must be text, in quotes where YAML takes it for something else",
    "string_unicode": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "model_type": "must hold keys with values",
    "tuple_type": "must be a name or a list of names",
}


def parse_bytes(said: str) -> int:
    """How many bytes "4G" are. Raises `Invalid` for anything else than a whole number with K, M, G, T or nothing behind it."""
    found = re.fullmatch("([0-9]{1,15})([KMGT]?)", said)
    if not found:
        raise errors.Invalid(f"{_quoted(said)} is no size; give a whole number of bytes, or one with K, M, G or T, such as 4G")
    return int(found[1]) * _UNITS[found[2]]


def worded_bytes(size: int) -> str:
    """The shortest way to say so many bytes that `parse_bytes` understands."""
    unit = next(unit for unit, each in reversed(_UNITS.items()) if size % each == 0)
    return f"{size // _UNITS[unit]}{unit}"


def parse_room(said: str) -> int:
    """The bytes that an agent may take of memory, or its home of a disk. Raises `Invalid` for what is no size, or none to live with."""
    size = parse_bytes(said)
    if not ROOM[0] <= size <= ROOM[1]:
        raise errors.Invalid(f"no agent can live with {said}; give from 64M to 16T")
    return size


def parse_runner(said: str, folder: Path) -> tuple[RunnerKind, tuple[str, ...]]:
    """What `claude` or `command:PROGRAM ARGUMENTS` names: the runner and its command. Raises `Invalid`.

    A program that begins with ./ lies in `folder`; one without any slash is looked for when it runs.
    """
    if said == "claude":
        return "claude", ()
    if not said.startswith(_COMMAND):
        raise errors.Invalid(f"{_quoted(said)} is no runner; give claude or command:PROGRAM ARGUMENTS")
    try:
        words = shlex.split(said.removeprefix(_COMMAND))
    except ValueError as error:
        raise errors.Invalid(f"{_quoted(said)} can't be split into words: {str(error).lower()}") from error
    if not words or not words[0]:
        raise errors.Invalid("command: names no program; give command:PROGRAM ARGUMENTS")
    if not all(word.isprintable() for word in words):
        raise errors.Invalid("a runner's command holds control characters")
    # Links stay: what lies in the present release is to be found there after an upgrade, too.
    program = os.path.abspath(folder / words[0]) if words[0].startswith("./") else words[0]
    if program.startswith("/") and not (os.path.isfile(program) and os.access(program, os.X_OK)):
        raise errors.Invalid(f"{program} is no file that can be run; make it executable, or name another program")
    return "command", (program, *words[1:])


def parse_sandbox(said: str) -> tuple[SandboxKind, str]:
    """What `bwrap`, `podman` or `podman:IMAGE` names: the sandbox and the image's folder, if there is one. Raises `Invalid`."""
    if said in ("bwrap", "podman"):
        return cast("SandboxKind", said), ""
    if not said.startswith(_IMAGE):
        raise errors.Invalid(f"{_quoted(said)} is no sandbox; give bwrap, podman or podman:FOLDER")
    image = said.removeprefix(_IMAGE)
    if not re.fullmatch(IMAGE, image) or not image.isprintable():
        raise errors.Invalid(f"{_quoted(image)} is no image; give the absolute path of a folder, without any of , : \\")
    if not (Path(image) / "usr").is_dir() or os.path.samefile(image, "/"):
        raise errors.Invalid(f"{image} holds no root file system; podman export fills a folder with one")
    return "podman", image


def worded_sandbox(kind: SandboxKind, image: str) -> str:
    """What `parse_sandbox` understands."""
    return f"{_IMAGE}{image}" if image else kind


def _within(key: str) -> Any:
    least, most = BOUNDS[key]
    return Field(ge=least, le=most)


def _size(value: object) -> object:
    try:
        return parse_room(value) if isinstance(value, str) else value
    except errors.Invalid as error:
        raise ValueError(error.detail) from error


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("names one twice")
    return names


_Channels = Annotated[tuple[schema.ChannelName, ...], BeforeValidator(_listed), AfterValidator(_different), Field(max_length=100)]


def _target(said: str) -> str:
    host, ports = egress.split(said)
    return egress.joined(egress.pattern(host), sorted({*ports}))


_Targets = Annotated[
    tuple[Annotated[str, AfterValidator(_target)], ...], BeforeValidator(_listed), AfterValidator(_different), Field(max_length=100)
]


class _Foreign(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_Room = Annotated[int, BeforeValidator(_size), Field(ge=ROOM[0], le=ROOM[1])]


class Limits(_Foreign):
    """What the soul's agent may use; None where the soul doesn't say."""

    budget_usd_per_day: schema.UsdPerDay | None = None
    turns_per_hour: schema.TurnsPerHour | None = None
    posts_per_turn: schema.PostsPerTurn | None = None
    memory_max: _Room | None = None  # bytes, of all its processes together
    home_max: _Room | None = None  # bytes, of all that its home holds
    turn_timeout_seconds: Annotated[int, _within("turn_timeout_seconds")] | None = None


NO_LIMITS = Limits()


class _FrontMatter(_Foreign):
    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")] | None = None
    watch: _Channels | None = None
    egress: _Targets | None = None
    runner: str | None = None
    sandbox: str | None = None
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,99}$")] | None = None
    limits: Limits = NO_LIMITS
    pulse_minutes: Annotated[int, _within("pulse_minutes")] | None = None


@dataclass(frozen=True)
class Soul:
    """Who an agent is. None: the soul leaves it to others."""

    text: str  # the Markdown below the front matter
    name: str | None = None
    watch: tuple[str, ...] | None = None
    runner: RunnerKind | None = None
    command: tuple[str, ...] = ()  # for the runner `command`
    model: str | None = None  # for the runner `claude`; empty: its own choice
    limits: Limits = NO_LIMITS
    pulse_minutes: int | None = None  # 0: no pulse
    egress: tuple[str, ...] | None = None  # HOST[:PORT[,PORT]…] that it may reach
    sandbox: SandboxKind | None = None  # none: as somebody has written into an agent's settings; no soul asks for it
    image: str = ""  # for the sandbox `podman`: a folder; empty: the host's own /usr


def load(path: Path) -> Soul:
    """The soul in that file. Raises `Invalid` in one line that names the file, the key and what is wrong."""
    text = _text(path)
    try:
        found, body = front_matter.split(text)
        return _soul(_FrontMatter.model_validate(found), body, path.absolute().parent)
    except ValidationError as error:
        complaints = [_complaint(dict(problem)) for problem in error.errors()]
        raise _invalid(path, "; ".join(complaints[:MAX_COMPLAINTS])) from error
    except (Unsound, errors.Invalid) as error:
        raise _invalid(path, str(error)) from error


def over(lived: Soul, said: Soul) -> Soul:
    """What `said` says, and where it leaves that to others, what `lived` does. Raises `Invalid` for a model without Claude Code."""
    thinks = said if said.runner else lived
    confined = said if said.sandbox else lived
    wanted = replace(
        lived,
        text=said.text,
        watch=lived.watch if said.watch is None else said.watch,
        egress=lived.egress if said.egress is None else said.egress,
        runner=thinks.runner,
        command=thinks.command,
        sandbox=confined.sandbox,
        image=confined.image,
        limits=lived.limits.model_copy(update=said.limits.model_dump(exclude_none=True)),
        pulse_minutes=lived.pulse_minutes if said.pulse_minutes is None else said.pulse_minutes,
    )
    if wanted.runner == "claude":
        return replace(wanted, model=(lived.model or "") if said.model is None else said.model)
    if said.model is not None:
        raise errors.Invalid(NO_MODEL)
    return replace(wanted, model=None)


def _soul(found: _FrontMatter, body: str, folder: Path) -> Soul:
    if not body.strip():
        raise Unsound("it has no text that says who the agent is" + (" below its front matter" if found.model_fields_set else ""))
    runner, command = parse_runner(found.runner, folder) if found.runner is not None else (None, ())
    if runner == "command" and found.model:
        raise Unsound(NO_MODEL)
    model = "" if found.model == OWN_CHOICE else found.model
    sandbox, image = parse_sandbox(found.sandbox) if found.sandbox is not None else (None, "")
    text = f"{body.strip()}\n"
    rest = (found.limits, found.pulse_minutes, found.egress, sandbox, image)
    return Soul(text, found.name, found.watch, runner, command, model, *rest)


def _text(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not hold it up
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _invalid(path, "it is no regular file")
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise errors.Invalid(show.line(f"no soul at {path}; give the path of a Markdown file")) from None
    except IsADirectoryError:
        raise _invalid(path, "it is a folder; give the path of a Markdown file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in its name
        raise _invalid(path, f"can't be read: {getattr(error, 'strerror', None) or error}") from error
    if len(raw) > MAX_BYTES:
        raise _invalid(path, f"it is larger than {MAX_BYTES // 1024} KiB")
    if b"\0" in raw:
        raise _invalid(path, "it holds NUL characters")
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise _invalid(path, f"it is not UTF-8, from byte {error.start} on") from error


def _complaint(problem: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        within = _FrontMatter if len(problem["loc"]) == 1 else Limits
        return f"unknown key {place[:MAX_QUOTED]}; known are {', '.join(within.model_fields)}"
    if problem["type"] == "string_pattern_mismatch":
        return f"{place}: {_quoted(problem['input'])} must match {problem['ctx']['pattern']}"
    said = _EXPECTED.get(problem["type"]) or problem["msg"].removeprefix("Value error, ").replace("Input should", "must")
    return f"{place}: {said}"


def _quoted(value: str) -> str:
    return repr(value if len(value) <= MAX_QUOTED else f"{value[:MAX_QUOTED]}…")


def _invalid(path: Path, complaint: str) -> errors.Invalid:
    return errors.Invalid(show.line(f"{path}: {complaint}"))
