"""Who a message addresses: @name at a word boundary, outside code and e-mail addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# The look-behind keeps out e-mail addresses and paths, the look-ahead a longer word or an address.
_MENTION = re.compile(r"(?<![\w.%+/@-])@([a-z](?:[a-z0-9_-]{0,29}[a-z0-9_])?)(?![\w@])", re.IGNORECASE | re.ASCII)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_TICKS = re.compile(r"`+")
_BROADCASTS = {"agents": "agent", "apes": "ape"}


@dataclass(frozen=True)
class Mentions:
    usernames: frozenset[str]
    kinds: frozenset[str]  # from @agents and @apes


NOBODY = Mentions(frozenset(), frozenset())


def find(body: str) -> Mentions:
    """Everyone that the Markdown text addresses, whether they exist or not."""
    if "@" not in body:
        return NOBODY
    text = _without_code(body) if "`" in body or "~~~" in body else body
    names = {name.lower() for name in _MENTION.findall(text)}
    return Mentions(frozenset(names - _BROADCASTS.keys()), frozenset(_BROADCASTS[name] for name in names & _BROADCASTS.keys()))


def _without_code(body: str) -> str:
    return "\n\n".join(_without_spans(paragraph) for paragraph in _paragraphs(body))


def _paragraphs(body: str) -> Iterator[str]:
    """The text outside fenced blocks, split where CommonMark ends a paragraph: no code span crosses these borders."""
    fence = ""
    lines: list[str] = []
    for line in body.splitlines():
        opening = _FENCE.match(line)
        if fence:
            if opening and opening[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif opening and not (opening[1][0] == "`" and "`" in line[opening.end() :]):
            fence = opening[1]
            yield "\n".join(lines)
            lines = []
        elif line.strip():
            lines.append(line)
        else:
            yield "\n".join(lines)
            lines = []
    yield "\n".join(lines)


def _without_spans(text: str) -> str:
    """The text without `code spans`: a run of backticks opens one that the next run of the same length closes."""
    runs = list(_TICKS.finditer(text))
    later: dict[int, list[int]] = {}
    for position in reversed(range(len(runs))):
        later.setdefault(len(runs[position][0]), []).append(position)
    kept, start, position = [], 0, 0
    while position < len(runs):
        waiting = later[len(runs[position][0])]
        while waiting and waiting[-1] <= position:
            waiting.pop()
        if waiting:
            kept.append(text[start : runs[position].start()])
            position = waiting[-1]
            start = runs[position].end()
        position += 1
    return " ".join([*kept, text[start:]])
