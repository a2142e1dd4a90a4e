"""How the gate runs: a TOML file, and the credentials that systemd hands over; read once, then frozen."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from colony import config, egress, errors
from egress.prices import Price, Prices

HOST_FILE = Path("/etc/colony/egress.toml")
MODEL_URL = "https://api.anthropic.com"
OAUTH_BETA = "oauth-2025-04-20"  # without it the API refuses a token of a subscription
MAX_CREDENTIAL_BYTES = 8192
MEBIBYTE = 2**20
GONE = "gone"  # what the unit gives in the place of a credential whose file is not there any more
KEYS = ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")  # the first that is there counts
NAMES = (*KEYS, "ANTHROPIC_BASE_URL")


class Secret:
    """A text that no log, traceback or repr shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(…)"


@dataclass(frozen=True)
class Bounds:
    """What one agent may hold, and how long anything may take."""

    connections_per_agent: int = 64  # at once
    connections: int = 1024  # at once, of all agents
    requests_per_second: int = 50  # of one agent, in the long run; twice as many at once
    max_bytes: int = 4096 * MEBIBYTE  # of one connection, both ways together
    max_body_bytes: int = 64 * MEBIBYTE  # of one request that is not a tunnel
    head_seconds: int = 10  # until a request's head is here
    connect_seconds: int = 10  # to resolve a name, and again to reach one of its addresses
    idle_seconds: int = 300  # without a byte either way
    model_seconds: int = 600  # until the model's next byte
    total_seconds: int = 14_400  # of one connection
    away_seconds: int = 120  # that the server may be silent before nothing is allowed any more
    contacts: int = 10_000  # kept while the server does not take them


@dataclass(frozen=True)
class Model:
    """Where the model's API is, and the header that proves who pays; None: it asks for none."""

    url: str = MODEL_URL
    header: str = ""
    value: Secret | None = None
    beta: str = ""

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)


@dataclass(frozen=True)
class Settings:
    socket: Path = config.HOST_GATE
    server: str = f"unix:{config.HOST_SOCKET}"
    model: Model = field(default_factory=Model)
    own_models: Mapping[str, Model] = field(default_factory=dict)  # of the agents that have credentials of their own, by Linux user
    bounds: Bounds = field(default_factory=Bounds)
    prices: Prices = field(default_factory=Prices)
    model_fields: tuple[str, ...] = ()  # that questions may hold beside those that the gate knows


def load(file: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of the file, by default the host's. Raises `Invalid` for what is unknown or of the wrong kind, `NotFound` for no file.

    Credentials come from files in $CREDENTIALS_DIRECTORY alone: the environment can be read by others.
    """
    if file and not file.exists():
        raise errors.NotFound(f"there is no {file}; give the path of a settings file with --settings")
    path = file or HOST_FILE
    found = config.read_toml(path)
    bounds, prices, model_fields = found.pop("bounds", {}), found.pop("prices", {}), found.pop("model_fields", [])
    given = {name: found.pop(name) for name in ("socket", "server", "model_url") if name in found}
    if found:
        raise errors.Invalid(
            f"{path}: {', '.join(found)} is unknown; known are socket, server, model_url, model_fields, [bounds], [prices]"
        )
    if not isinstance(model_fields, list) or not all(isinstance(name, str) and name for name in model_fields):
        raise errors.Invalid(f'{path}: model_fields must be a list of names, as ["inference_geo"]')
    for name, value in given.items():
        if not isinstance(value, str) or not value:
            raise errors.Invalid(f"{path}: {name} must be a text")
    credentials, url = _credentials(environ), given.get("model_url")
    common = credentials.pop("", {})
    return Settings(
        Path(given.get("socket", config.HOST_GATE)),
        given.get("server", f"unix:{config.HOST_SOCKET}"),
        _model(common, url),
        {user: _model(_together(common, own), url) for user, own in credentials.items()},
        _bounds(path, bounds),
        _prices(path, prices),
        tuple(model_fields),
    )


def _bounds(path: Path, table: Any) -> Bounds:
    if not isinstance(table, dict):
        raise errors.Invalid(f"{path}: bounds must be a table: [bounds]")
    known = {each.name for each in fields(Bounds)}
    for name, value in table.items():
        if name not in known:
            raise errors.Invalid(f"{path}: [bounds] {name} is unknown; known are {', '.join(sorted(known))}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise errors.Invalid(f"{path}: [bounds] {name} must be a whole number above 0, not {value!r}")
    return Bounds(**table)


def _prices(path: Path, table: Any) -> Prices:
    if not isinstance(table, dict):
        raise errors.Invalid(f"{path}: prices must be a table: [prices]")
    for model, price in table.items():
        is_one = isinstance(price, dict) and price.keys() == {"input", "output"} and all(map(_is_usd, price.values()))
        if not is_one:
            raise errors.Invalid(f"{path}: [prices] {model} must be dollars for a million tokens, as {{ input = 5.0, output = 25.0 }}")
    return Prices({model: Price(**price) for model, price in table.items()})


def _is_usd(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6


def _model(credentials: Mapping[str, str], url: str | None) -> Model:
    where = egress.model_url(credentials.get("ANTHROPIC_BASE_URL") or url or MODEL_URL)
    if token := credentials.get("ANTHROPIC_AUTH_TOKEN"):
        return Model(where, "authorization", Secret(f"Bearer {token}"))
    if key := credentials.get("ANTHROPIC_API_KEY"):
        return Model(where, "x-api-key", Secret(key))
    if token := credentials.get("CLAUDE_CODE_OAUTH_TOKEN"):
        return Model(where, "authorization", Secret(f"Bearer {token}"), OAUTH_BETA)
    return Model(where)


def _credentials(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """By whom they are for: a file `USER.NAME` is one user's, one called NAME everybody's, under ""."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    found: dict[str, dict[str, str]] = {}
    for file in sorted(Path(folder).iterdir()) if folder else ():
        user, _, name = file.name.rpartition(".")
        if name in NAMES and (value := _read(file)) not in ("", GONE):
            found.setdefault(user, {})[name] = value
    return found


def _together(common: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """A key of one's own counts before everybody's of whatever kind."""
    has_key = not own.keys().isdisjoint(KEYS)
    return {name: value for name, value in common.items() if not (has_key and name in KEYS)} | dict(own)


def _read(file: Path) -> str:
    try:
        text = file.read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise errors.Invalid(f"can't read the credential {file.name}: {type(error).__name__}") from error
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > MAX_CREDENTIAL_BYTES:
        raise errors.Invalid(f"the credential {file.name} must be one line of printable characters")
    return text
