"""Who a message addresses: @name at a word boundary, outside code and e-mail addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# The look-behind keeps out e-mail addresses and paths, the look-ahead a longer word or an address.
_MENTION = re.compile(r"(?<![\w.%+/@-])@([a-z](?:[a-z0-9_-]{0,29}[a-z0-9_])?)(?![\w@])", re.IGNORECASE | re.ASCII)
_INSET = re.compile(r"(?:[ \t]*(?:>|(?:[-+*]|\d{1,9}[.)])(?=\s)))*[ \t]*")  # of quotes and lists, before the text of a line
_LIST_ITEM = re.compile(r"[-+*\d]")
_FENCE = re.compile(r"`{3,}|~{3,}")
_BLOCK_OF_ITS_OWN = re.compile(r"#{1,6}(?:\s|$)|=+\s*$|-+\s*$|([-*_])[ \t]*(?:\1[ \t]*){2,}$")  # a heading, its underline, a rule
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


def names_in(body: str) -> frozenset[str]:
    """Everything that looks like a name after an @, in code, too."""
    return frozenset(name.lower() for name in _MENTION.findall(body))


def _without_code(body: str) -> str:
    return "\n\n".join(_without_spans(paragraph) for paragraph in _paragraphs(body))


def _paragraphs(body: str) -> Iterator[str]:
    """The text outside fenced blocks, split where CommonMark ends a paragraph: no code span crosses these borders."""
    fence = opened_by = ""
    was_quoted = False
    lines: list[str] = []
    for line in body.splitlines():
        inset = _match(_INSET, line)
        text = line[len(inset) :]
        if fence and not _has_left(opened_by, line):
            closing = line.strip(" \t>")
            if closing.startswith(fence) and not closing.strip(fence[0]):
                fence = ""
            continue
        fence = _opens(text)
        is_alone = bool(fence or not text or _BLOCK_OF_ITS_OWN.match(text))
        if is_alone or _LIST_ITEM.search(inset) or (">" in inset and not was_quoted):
            yield "\n".join(lines)
            lines = []
        opened_by, was_quoted = inset, ">" in inset
        if is_alone and not fence:
            yield text
        elif not fence:
            lines.append(text)
    yield "\n".join(lines)


def _opens(text: str) -> str:
    """The fence that the text begins with, or nothing: a line with `ticks` of its own is none."""
    fence = _match(_FENCE, text)
    return "" if fence.startswith("`") and "`" in text[len(fence) :] else fence


def _has_left(opened_by: str, line: str) -> bool:
    """Whether the line is outside the quote or the list item in which a fence was opened: the fence then ended with it."""
    if ">" in opened_by:
        return ">" not in _match(_INSET, line)
    is_in_list = bool(_LIST_ITEM.search(opened_by))
    return is_in_list and bool(line.strip()) and len(line) - len(line.lstrip()) < len(opened_by.rstrip())


def _match(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.match(text)
    return found[0] if found else ""


def _without_spans(text: str) -> str:
    """The text without `code spans`: a run of backticks opens one that the next run of the same length closes."""
    runs = list(_TICKS.finditer(text))
    later: dict[int, list[int]] = {}
    for position in reversed(range(len(runs))):
        later.setdefault(len(runs[position][0]), []).append(position)
    kept, start, position = [], 0, 0
    while position < len(runs):
        run = runs[position]
        escaped = _is_escaped(text, run.start())  # a backslash takes one tick away; within a span it means nothing
        waiting = later.get(len(run[0]) - escaped, [])
        while waiting and waiting[-1] <= position:
            waiting.pop()
        if waiting:
            kept.append(text[start : run.start()])
            position = waiting[-1]
            start = runs[position].end()
        position += 1
    return " ".join([*kept, text[start:]])


def _is_escaped(text: str, position: int) -> bool:
    before = text[max(0, position - 64) : position]
    return bool((len(before) - len(before.rstrip("\\"))) % 2)
