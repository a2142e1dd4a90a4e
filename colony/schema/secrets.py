"""What agents may use without ever holding it: values that the gate puts in for them, on their way to certain hosts."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from colony import egress
from colony.schema.base import Request, Response, Username, Version, Wait

MAX_SECRET_HOSTS = 20
# What would change how programs run, or where they send things, is no place for a secret.
_STEERING = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|TERM|TMPDIR|IFS|ENV|BASH.*|LD_.*|LC_.*|PYTHON.*|NODE_.*|NPM_.*|GIT_.*|SSL_.*|CURL_.*|REQUESTS_.*|PIP_.*"
    r"|(HTTPS?|ALL|NO)_PROXY|ANTHROPIC_.*|CLAUDE_.*|COLONY_.*"
    r"|CONTAINERS?_.*|PODMAN_.*|BUILDAH_.*|STORAGE_(DRIVER|OPTS)|REGISTRY_AUTH_FILE|_.*"  # podman's
    r"|LISTEN_.*|NOTIFY_SOCKET|WATCHDOG_.*|XDG_.*|DBUS_.*|SYSTEMD_.*|GO(DEBUG|GC|MAXPROCS|MEMLIMIT|TRACEBACK)"
)

_FRAMING = re.compile(r"host|content-length|transfer-encoding|connection|expect|upgrade|te|trailer|keep-alive|accept-encoding|proxy-.*")


def _steers_nothing(name: str) -> str:
    if _STEERING.fullmatch(name):
        raise ValueError("would change how programs run; take another name")
    return name


def _one_word(value: str) -> str:
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError("must be one line of ASCII characters without spaces")
    return value


def _target(text: str) -> str:
    """A host's pattern with at most one port, in the one form in which it is compared."""
    host, ports = egress.split(text)
    if host == "*":
        raise ValueError("must name a host: a secret that goes anywhere is none")
    if len(ports) > 1 or any(not 0 < port < 65536 for port in ports):
        raise ValueError("must have one port at most, from 1 to 65535")
    return egress.joined(egress.pattern(host), ports)


def _template(text: str) -> str:
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z0-9-]{1,64}", name) or value.count("{}") != 1:
        raise ValueError("must be a header's name and its value with {} for the secret, as in 'Authorization: Bearer {}'")
    if _FRAMING.fullmatch(name.lower()):
        raise ValueError("must be no header that says where a request goes or ends, or what may come back")
    return f"{name}: {value.strip()}"


SecretName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$", examples=["GITHUB_TOKEN"]), AfterValidator(_steers_nothing)]
SecretValue = Annotated[str, Field(min_length=8, max_length=8192), AfterValidator(_one_word)]
SecretHost = Annotated[str, Field(max_length=270), AfterValidator(_target)]
SecretHeader = Annotated[str, Field(max_length=200, pattern=r"^[ -~]+$"), AfterValidator(_template)]


class Secret(Response):
    """All but its value, which nobody is told."""

    name: str
    agent: str  # `agents`: all of them have it
    hosts: list[str]  # patterns as in egress rules, each perhaps with its port; without it is 443
    header: str | None = None  # which the gate sets; absent: it takes the place of the placeholder
    in_path: bool = False  # it is put into paths and queries as well
    as_environment: bool = False  # command runners hold it
    placeholder: str
    set_by: str | None = None
    set_at: datetime | None = None
    uses: int = 0  # since it was set: connections that the gate has put it into
    used_at: datetime | None = None  # when the colony heard of the last of them


class ListSecrets(Request):
    """List the secrets that agents may use: those of one's own agents, and those of all."""

    agent: Username | None = Field(default=None, description="Only those that this agent has.")


class Secrets(Response):
    secrets: list[Secret]


class SetSecret(Request):
    """Let an agent, or all of them, use a secret on its way to certain hosts. It takes the place of the one of that name."""

    unaudited = sealed = frozenset({"value"})
    told = frozenset({"agent"})  # its name is listed for whose agent it is
    name: SecretName
    agent: Username = Field(default="agents", description="`agents`: all of them.")
    value: SecretValue
    hosts: Annotated[list[SecretHost], Field(max_length=MAX_SECRET_HOSTS)]
    header: SecretHeader | None = Field(default=None, description="A header that the gate sets, as in 'Authorization: Bearer {}'.")
    in_path: bool = Field(default=False, description="It is put into the path and the query, too: not where a host shows these to others.")
    as_environment: bool = Field(default=False, description="Programs of the runner `command` find the value itself, and can give it away.")

    @model_validator(mode="after")
    def _goes_somewhere(self) -> SetSecret:
        if not (self.hosts or self.as_environment):
            raise ValueError("hosts: name at least one host that it is for")
        return self


class DropSecret(Request):
    """Take a secret away."""

    told = frozenset({"agent"})
    name: SecretName
    agent: Username = "agents"


class EgressSecret(Response):
    """A secret as the gate has it."""

    name: str
    value: str
    placeholder: str
    hosts: list[str]
    header: str | None = None
    in_path: bool = False


class GetEgressSecrets(Request):
    """Give the secrets of each agent, with their values; wait until they are others than those `known`."""

    known: Version | None = None
    wait: Wait = 0


class EgressSecrets(Response):
    version: str
    agents: dict[str, list[EgressSecret]]  # by Linux user; only those that have some
    honeytokens: dict[str, str] = {}  # by Linux user
