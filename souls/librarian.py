#!/usr/bin/python3 -I
"""The librarian's brain: answers a question about a repository with the files and lines that speak of it.

It searches and does not think. It reads a turn as JSON on stdin and prints the reply; it needs nothing but Python and, at best, git.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

MAX_FILES = 20_000
MAX_FILE_BYTES = 400_000
MAX_WORDS = 12  # of a question
MAX_LINE_LENGTH = 400  # longer ones were written by machines
SHOWN_LINES = 5
SHOWN_PER_FILE = 2
SHOWN_LENGTH = 140
NEAR_LINES = 3
WEAK = 0.25  # lines that score so little of the best line's score are left out

USAGE = "Ask me where something is, such as: where are inbox items created? I search this repository and answer with files and lines."
CONFESSION = "_I am a search program, not a language model: I match words, and can't tell whether this is what you meant._"

DULL = """
    a about all an and any anyone anybody are as at be been being but by can could did do does doing done for from get gets got had
    has have hello hey hi here how i if in into is it its just know let me my of off on one or our please tell thank thanks that
    the their them then there these they this those to us was we were what when where which who whose why will with would you your
    code repo repository file files line lines place places happen happens exactly show find look explain
    define defined definition implement implemented implementation located live lives
"""
ACTIONS = (  # verbs that mean much the same
    "create insert add",
    "delete remove drop erase purge",
    "send post deliver",
    "change update modify edit",
    "read load fetch",
    "start launch spawn boot",
    "stop end kill terminate",
    "check verify validate",
)
THINGS = ("config configuration setting option", "error exception failure")
DEFINITION = re.compile(
    r"""^\s*(
        (export\s+|pub\s+|public\s+|private\s+|static\s+|async\s+|default\s+)*
        (def|class|func|function|fn|interface|struct|enum|trait|type|module)\s+\w
        | create\s+(table|index|view|trigger)\b
        | [\w.]+\s*(:[^=]+)?=\s*(Table|namedtuple|NewType|TypeVar)\(
        | \#{1,6}\s+\S
        | (const|let|var)\s+\w+\s*=\s*(async\s*)?(function|\()
    )""",
    re.IGNORECASE | re.VERBOSE,
)
ASIDE = re.compile(
    r"""^\s*(import\b | from\s | use\s | using\s | require\b | \#include | // | \#(?!\#*\s) | \* | <!-- | [\w.]+,?\s*$ | [\])}]+)""",
    re.IGNORECASE | re.VERBOSE,
)
QUESTION = re.compile(r"\b(where|how|what|which|who|why)\b.*\?", re.IGNORECASE)
SOURCES = (
    *(".c", ".cc", ".cpp", ".cs", ".css", ".go", ".h", ".html", ".java", ".js", ".jsx", ".kt", ".php", ".py", ".rb", ".rs", ".sh", ".sql"),
    *(".swift", ".ts", ".tsx"),
)
NAME = re.compile(r"(\w+)(\s*\(|\s+into\b)?", re.IGNORECASE)  # with what makes it a call, or SQL
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


class Line(NamedTuple):
    path: str
    number: int
    text: str
    score: float


def main() -> None:
    document = json.load(sys.stdin)
    print(reply(document))


def reply(document: dict[str, Any]) -> str:
    turn = document.get("turn") or {}
    if turn.get("kind") == "pulse":
        return "HEARTBEAT_OK"
    if turn.get("kind") == "dream":
        return dreamt(document.get("prompt") or "")
    bodies = [item["message"]["body"] for item in turn.get("items") or []] or [document.get("prompt") or ""]
    if all("you have just been born" in body for body in bodies):
        return f"{USAGE}\n\n{CONFESSION}"
    questions = dict.fromkeys(asked(body, turn.get("agent") or "") for body in bodies)
    if not any(questions):
        return USAGE
    library = Library(repository(document.get("repo") or ""))
    return "\n\n".join([*(answer(library, words) if words else USAGE for words in questions), CONFESSION])


def asked(body: str, agent: str) -> tuple[str, ...]:
    """The words of a question that are worth a search, each once."""
    text = re.sub(r"(?<!\w)@[\w-]+", " ", body)
    dull = {*DULL.split(), agent.lower()}
    words = dict.fromkeys(word.lower() for word in WORD.findall(text))
    return tuple(word for word in words if word not in dull and len(word) > 1)[:MAX_WORDS]


def answer(library: Library, words: tuple[str, ...]) -> str:
    sought = " ".join(f"`{word}`" for word in words)
    evidence = [f"- `{plain(line.path)}:{line.number}` `{plain(line.text)}`" for line in library.search(words)]
    return "\n".join([f"{sought}, best file first:", *evidence] if evidence else [f"I found nothing about {sought}."])


def plain(text: str) -> str:
    """Fit for a code span, where names of users are no mentions."""
    text = " ".join(text.replace("`", "'").split())
    return text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 1] + "…"


def dreamt(prompt: str) -> str:
    """The memory as it was: a search program has nothing to add to it."""
    return "<memory>\n" + prompt.partition("<memory>")[2].rpartition("</memory>")[0].strip() + "\n</memory>"


def repository(named: str) -> Path:
    """The clone that the turn names, else the only one in the home, else the home."""
    if named and Path(named).is_dir():
        return Path(named)
    clones = sorted(git.parent for git in Path().glob("*/.git"))
    return clones[0] if clones else Path()


class Library:
    """The text files of a repository, by path."""

    def __init__(self, root: Path) -> None:
        self.files = dict(texts(root))
        self.folded = {path: text.lower() for path, text in self.files.items()}

    def search(self, words: tuple[str, ...]) -> list[Line]:
        """The lines that say the most about the words, grouped by file, the best file first."""
        weights = {word: self._weight(stem(word)) for word in words}
        # What is done is what was asked about, however common the verb.
        weights |= {word: max(weights.values()) for word in words if is_action(word)}
        clue = re.compile("|".join(re.escape(each) for word in words for each in related(stem(word))))
        candidates: list[Line] = []
        for path, folded in self.folded.items():
            if clue.search(folded):
                candidates += lines(path, self.files[path], clue, weights)
        return grouped(candidates)

    def _weight(self, word: str) -> float:
        """A rare word says more."""
        holders = sum(word in folded for folded in self.folded.values())
        return math.log(1 + len(self.folded) / (1 + holders)) + 0.2


def lines(path: str, text: str, clue: re.Pattern[str], weights: dict[str, float]) -> Iterator[Line]:
    """Each line that speaks of a word, with its score."""
    all_lines = text.splitlines()
    words = tuple(weights)
    found = {
        index: matched(line, words) for index, line in enumerate(all_lines) if len(line) <= MAX_LINE_LENGTH and clue.search(line.lower())
    }
    telling = {index: own for index, own in found.items() if not ASIDE.match(all_lines[index])}
    around = matched(path, words)
    stems = {stem(word) for word in words}
    is_about = 2.0 if set(split(Path(path).stem)) <= stems else 1.0  # mention.py is about mentions
    for index, own in found.items():
        if not own:
            continue
        near = [around, *(telling.get(other, {}) for other in range(index - NEAR_LINES, index + NEAR_LINES + 1))]
        said = {word: max(own.get(word, 0), *(0.5 * other.get(word, 0) for other in near)) for word in words}
        score = sum(weights[word] * said[word] for word in words)
        if not all(said[word] for word in words if is_action(word)):
            score *= 0.7
        # Squared: a line that speaks of all words beats one that speaks loudly of one.
        yield Line(path, index + 1, all_lines[index], score * score * is_about * kind_factor(path) * line_factor(all_lines[index]))


def matched(text: str, words: tuple[str, ...]) -> dict[str, float]:
    """How well the text speaks of each word: 1 for the word in any form, less for a relative, more for a call that does it."""
    stems = {stem(word) for word in words}
    found = dict.fromkeys(words, 0.0)
    for name in NAME.finditer(text):
        parts = split(name[1])
        for word in words:
            if not is_action(word):
                found[word] = max(found[word], likeness(word, parts))
            elif len(parts) == 1 or stems.intersection(parts[1:]):  # created_at creates nothing
                found[word] = max(found[word], likeness(word, parts[:1]) * (1.5 if name[2] else 1))
    return {word: quality for word, quality in found.items() if quality}


def likeness(word: str, parts: tuple[str, ...]) -> float:
    own, *others = related(stem(word))
    if own in parts:
        return 1.0
    if any(other in parts for other in others):
        return 0.8
    return 0.5 if len(own) > 3 and any(part.startswith(own) for part in parts) else 0.0


@cache
def split(name: str) -> tuple[str, ...]:
    """InboxItem and inbox_items are the stems `inbox` and `item`."""
    return tuple(stem(part.lower()) for part in WORD.findall(name))


def kind_factor(path: str) -> float:
    parts = {part.lower() for part in Path(path).parts}
    if parts & {"test", "tests", "spec", "examples", "bench"} or Path(path).name.startswith("test_"):
        return 0.2
    return 1.0 if path.endswith(SOURCES) else 0.5


def line_factor(line: str) -> float:
    if QUESTION.search(line):
        return 0.2
    return 1.5 if DEFINITION.match(line) else 0.5 if ASIDE.match(line) else 1.0


def grouped(candidates: Iterable[Line]) -> list[Line]:
    """The best few, those of a file together."""
    chosen: list[Line] = []
    ranked = sorted(candidates, key=lambda line: (-line.score, line.path, line.number))
    for line in ranked:
        if line.score < WEAK * ranked[0].score:
            break
        if sum(other.path == line.path for other in chosen) < SHOWN_PER_FILE:
            chosen.append(line)
        if len(chosen) == SHOWN_LINES:
            break
    order = list(dict.fromkeys(line.path for line in chosen))
    return sorted(chosen, key=lambda line: order.index(line.path))


@cache
def stem(word: str) -> str:
    """A crude English stem: created, creates, creating and creation become `creat`."""
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed", "ion"):
        if word.endswith(ending) and len(word) - len(ending) > 3:
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeioulsz":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


@cache
def is_action(word: str) -> bool:
    return any(stem(word) == stem(each) for group in ACTIONS for each in group.split())


@cache
def related(word: str) -> tuple[str, ...]:
    """The stem itself, then those of its synonyms."""
    groups = [[stem(each) for each in group.split()] for group in ACTIONS + THINGS]
    return (word, *(other for group in groups if word in group for other in group if other != word))


def texts(root: Path) -> Iterator[tuple[str, str]]:
    for path in list(paths(root))[:MAX_FILES]:
        try:
            if os.path.islink(root / path) or os.path.getsize(root / path) > MAX_FILE_BYTES:
                continue
            content = (root / path).read_bytes()
        except OSError:
            continue
        if b"\0" not in content:
            yield path, content.decode(errors="replace")


def paths(root: Path) -> Iterable[str]:
    """What git tracks; outside of a clone, every file that is not hidden."""
    try:
        listed = subprocess.run(["git", "-C", str(root), "-c", "core.fsmonitor=false", "ls-files", "-z"], capture_output=True, check=True)
        return [os.fsdecode(path) for path in listed.stdout.split(b"\0") if path]
    except (OSError, subprocess.CalledProcessError):
        return walked(root)


def walked(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in ("node_modules", "__pycache__"))
        yield from (os.path.relpath(os.path.join(folder, name), root) for name in sorted(names) if not name.startswith("."))


if __name__ == "__main__":
    main()
