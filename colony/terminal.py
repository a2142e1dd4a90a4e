"""Writes parts of an answer to a terminal. The one place that imports rich, and only when a person is looking."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TextIO

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.markdown import Markdown
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from colony import show
from colony.story import Words

MAX_MARKDOWN_CHARACTERS = 8_000  # longer bodies are shown as they are: the parser's worst cases grow faster than the text
MAX_WIDTH = 10_000  # of a table that has all the room it wants
AUTHOR_STYLES = {"ape": "bold cyan", "agent": "bold magenta", "gateway": "bold yellow", "service": "bold yellow"}
_LANGUAGE = re.compile(r"^( {0,3}(?:```|~~~))[\w+-]{1,20}$", re.MULTILINE)  # of a block of code: known by its colours
LONG_COLUMNS = frozenset({"activity", "status_note", "topic", "error", "arguments", "reason"})
STATUS_STYLES = {"healthy": "green", "running": "green", "paused": "yellow", "draining": "yellow", "dead": "red", "failed": "red"}


class Clean:
    """Lets through only harmless text. Markdown can spell a control character (`%1b` in a link), so the output is cleaned, too."""

    def __init__(self, inner: RenderableType) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for text, style, control in console.render(self._inner, options):
            yield Segment(text if control else show.clean(text), style, control)


class Faithful:
    """Markdown, unless the rendering would hide a word of it: nothing that an agent reads may be invisible to people."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        segments = list(console.render(_markdown(self._text), options))
        shown = "".join("".join(text for text, _, control in segments if not control).split())
        words = Counter(re.findall(r"\w+", _LANGUAGE.sub(r"\1", self._text)))
        is_whole = all(shown.count(word) >= count for word, count in words.items())
        yield from segments if is_whole else console.render(Text(self._text), options)


class Fitting:
    """A table; where the terminal is too narrow for it, what does not fit is told below each row, so that names and times stay whole."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[show.Cell]], now: datetime) -> None:
        self._columns, self._rows, self._now = columns, rows, now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType | Segment]:
        used = [place for place in range(len(self._columns)) if any(row[place] not in (None, "") for row in self._rows)]
        shown = self._fitting(console, options, used)
        if shown == used:
            yield self._table(used)
            return
        head, *lines = console.render_lines(self._table(shown), options, pad=False)
        yield from (*head, Segment.line())
        for row, cells in zip(self._rows, lines, strict=True):
            yield from (*cells, Segment.line())
            rest = [place for place in used if place not in shown and row[place] not in (None, "")]
            if told := [Text.assemble((f"{self._name(place)} ", "dim"), _cell(row[place], self._now)) for place in rest]:
                yield Padding(Text(", ").join(told), (0, 0, 0, min(4, options.max_width // 10)))

    def _fitting(self, console: Console, options: ConsoleOptions, used: list[int]) -> list[int]:
        """All columns, or as many as fit, from the left and without the long ones; the first always."""

        def fits(places: Sequence[int]) -> bool:
            return console.measure(self._table(places), options=options.update(width=MAX_WIDTH)).maximum <= options.max_width

        if fits(used):
            return used
        shown = [place for place in used if self._columns[place] not in LONG_COLUMNS]
        while len(shown) > 1 and not fits(shown):
            shown.pop()
        return shown

    def _name(self, place: int) -> str:
        return self._columns[place].removesuffix("_at").replace("_", " ")

    def _table(self, used: Sequence[int]) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for place in used:
            is_number = all(type(row[place]) in (int, float, type(None)) for row in self._rows)
            is_long = self._columns[place] in LONG_COLUMNS
            table.add_column(self._name(place), justify="right" if is_number else "left", overflow="fold", no_wrap=not is_long)
        for row in self._rows:
            table.add_row(*(_cell(row[place], self._now) for place in used))
        return table


def write(parts: Sequence[show.Part], out: TextIO, now: datetime) -> None:
    """Write the parts in colours, with relative times and Markdown."""
    console = Console(file=out, highlight=False, markup=False, emoji=False)
    for part in parts:
        console.print(Clean(_rendered(part, now)))


def ago(moment: datetime, now: datetime) -> str:
    """The distance as people say it: `just now`, `3 min ago`, `in 2 h`; past a month the date."""
    seconds = (now - moment).total_seconds()
    distance = abs(seconds)
    if distance >= timedelta(days=30).total_seconds():
        return moment.astimezone(UTC).strftime("%Y-%m-%d")
    if distance < 10:
        return "just now"
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if (count := int(distance // size)) >= 1:
            name = "day" if unit == "days" and count == 1 else unit
            return f"{count} {name} ago" if seconds > 0 else f"in {count} {name}"
    raise AssertionError("a distance of 10 s or more has a unit")


def _rendered(part: show.Part, now: datetime) -> RenderableType:
    match part:
        case show.Word(text):
            return Text(show.line(text), overflow="fold")
        case Words(_, indent):
            return Padding(Text(show.told(part, lambda moment: ago(moment, now))), (0, 0, 0, 2 * indent))
        case show.Entry():
            return _entry(part, now)
        case show.Record(rows):
            grid = Table.grid(padding=(0, 2))
            for name, value in rows:
                grid.add_row(Text(name, "dim"), _cell(value, now))
            return grid
        case show.Table(columns, rows):
            return Fitting(columns, rows, now)


def _entry(entry: show.Entry, now: datetime) -> RenderableType:
    message = entry.message
    said = " · ".join(show.facts(entry, lambda moment: ago(moment, now)))
    head = Text.assemble((show.line(message.author), AUTHOR_STYLES[message.author_kind]), "  ", (said, "dim"))
    return Group(head, Padding(_body(show.clean(message.body)), (0, 0, 1, 2))) if entry.has_body else head


def _body(text: str) -> RenderableType:
    return Text(text) if len(text) > MAX_MARKDOWN_CHARACTERS else Faithful(text)


def _markdown(text: str) -> Markdown:
    body = Markdown("", hyperlinks=False)  # a link shows where it leads
    # Rich would leave out tags and comments, and a picture's address.
    body.parsed = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable("image").parse(text)
    for token in body.parsed:
        for child in token.children or ():
            if child.type == "softbreak":  # people who chat mean their line ends
                child.type = "hardbreak"
    return body


def _cell(value: show.Cell, now: datetime) -> Text:
    match value:
        case None:
            return Text("")
        case bool():
            return Text("yes" if value else "no", "" if value else "dim")
        case datetime():
            return Text(ago(value, now))
        case Words():
            return Text(show.told(value, lambda moment: ago(moment, now)))
        case float():
            return Text(f"{value:.4f}")
        case _:
            return Text(show.line(str(value)), STATUS_STYLES.get(str(value), ""))
