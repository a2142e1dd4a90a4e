"""Remembers where a person's colony is, and their token."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click

from colony import config, errors, files, schema, show


def login(url: str | None, token: str | None, whoami: Callable[[config.Settings], schema.User]) -> schema.User:
    """Ask for what is missing, check it with the colony, then keep it for later commands. Returns who one is there."""
    url = url or _asked("url", hidden=False, default=config.load().url)
    address = config.load(url).url
    if token is None and not address.startswith("unix:"):  # on the socket the kernel says who calls
        token = _asked("token", hidden=True)
    if token and address.startswith("http://") and not _is_loopback(address):
        show.note("this address is not encrypted: others on the network can read your token")
    user = whoami(config.Settings(address, token))
    path = config.user_file()
    keep(path, address, token)
    show.note(f"logged in; kept in {path}")
    if (effective := config.load()).source != str(path):
        show.note(f"but here {effective.source} comes first and leads to {effective.url}")
    return user


def keep(path: Path, url: str, token: str | None) -> None:
    """Write the user's file, readable for nobody else at any moment; the old file stays until the new one is complete."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A JSON string of plain characters is a TOML string, too.
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in (("url", url), ("token", token)) if value)
    files.write(path.parent, path.name, text)


def _asked(name: str, hidden: bool, default: str | None = None) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(name, default=default, hide_input=hidden, err=True))
    given = sys.stdin.readline().strip()
    if not given:
        raise errors.Invalid(f"no {name}; give it with --{name}, or a line of it on stdin")
    return given


def _is_loopback(url: str) -> bool:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
