"""Tells #ops each trouble once, and once when it is over; what can't be said now is said later."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from colony import errors, files
from provisioning import places
from provisioning.watch.look import HOME, UNIT, Trouble

FILE = "watch.json"
OPS = "ops"
MAX_UNSAID = 100
LATE_SECONDS = 180.0  # after which the time belongs to the news
_MAX_BYTES = 2**20


@dataclass(frozen=True)
class News:
    id: str  # with it, saying it again is no news
    at: float
    text: str
    pauses: str = ""  # an agent


@dataclass(frozen=True)
class Known:
    """What #ops knows, or will."""

    troubles: dict[str, str] = field(default_factory=dict)  # by key: what to say when it is over
    unsaid: list[News] = field(default_factory=list)


def noted(known: Known, troubles: Sequence[Trouble], now: float, gone: Collection[str] = (), unseen: tuple[str, ...] = ()) -> Known:
    """With what is new: of each trouble that began, and of each that ended, unless with what it was about.

    Keys that begin like one of `unseen` were not looked at: they end nothing.
    """
    seen = {trouble.key for trouble in troubles}
    began = [trouble for trouble in troubles if trouble.is_sure and trouble.key not in known.troubles]
    ended = {key: relief for key, relief in known.troubles.items() if key not in seen and not key.startswith(unseen)}
    said = [(trouble.says, trouble.pauses) for trouble in began] + [(relief, "") for key, relief in ended.items() if key not in gone]
    still = {key: relief for key, relief in known.troubles.items() if key not in ended}
    # Whoever is well again by the time that the colony hears of it need not be paused any more.
    late = [replace(each, pauses="") if f"{HOME}{each.pauses}" in ended else each for each in known.unsaid]
    news = [News(f"host:{secrets.token_hex(8)}", now, text, pauses) for text, pauses in said]
    return Known(still | {trouble.key: trouble.relief for trouble in began}, [*late, *news][-MAX_UNSAID:])


def tell(troubles: Sequence[Trouble], folder: Path = places.DATA, url: str = f"unix:{places.SOCKET}", unseen: tuple[str, ...] = ()) -> None:
    """Say what is new, and note it; news stay noted until the colony has them. It doesn't fail while the colony is away."""
    before = _read(folder)
    gone = [key for key in before.troubles if _is_gone(key)]
    known = noted(before, troubles, time.time(), gone, unseen)
    if known != before:
        _write(folder, known)
    if not known.unsaid:
        return
    try:
        _say(known.unsaid, url)
    except errors.ColonyError:
        return  # the next time it may answer
    _write(folder, Known(known.troubles))


def _is_gone(key: str) -> bool:
    """Whether there is no such unit any more, or no such agent."""
    if key.startswith(HOME):
        return not (places.RECORDS / f"{key.removeprefix(HOME)}.toml").exists()
    return key.startswith(UNIT) and not (places.UNITS / key.removeprefix(UNIT)).exists()


def _say(unsaid: Sequence[News], url: str) -> None:
    from colony import operations, schema  # these take most of a second's tenth, and mostly there is nothing to say
    from colony.client import Client

    with Client(url) as client:
        if OPS not in {channel.name for channel in client.call(operations.CHANNELS, schema.ListChannels()).channels}:
            client.call(operations.CREATE_CHANNEL, schema.CreateChannel(name=OPS, topic="How the colony itself is doing"))
        for news in unsaid:
            if news.pauses:  # once: whoever resumes it has seen why
                with suppress(errors.Conflict, errors.NotFound):  # it was never born whole, or dies
                    client.call(operations.SET_STATUS, schema.SetStatus(agent=news.pauses, status="paused", note=news.text))
            client.call(operations.POST, schema.PostMessage(channel=OPS, body=_text(news), type="notice", client_id=news.id))


def _text(news: News) -> str:
    if time.time() - news.at < LATE_SECONDS:
        return news.text
    return f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(news.at))} UTC: {news.text}"


def _read(folder: Path) -> Known:
    try:
        found = json.loads(files.read(folder, FILE, _MAX_BYTES) or "{}")
        return Known(dict(found.get("troubles", {})), [News(**each) for each in found.get("unsaid", [])])
    except (OSError, ValueError, TypeError, AttributeError):  # then all that is wrong is news
        return Known()


def _write(folder: Path, known: Known) -> None:
    try:
        files.write(folder, FILE, json.dumps(asdict(known)))
    except OSError as error:
        raise errors.Unavailable(f"can't write {folder / FILE}: {error.strerror}") from error
