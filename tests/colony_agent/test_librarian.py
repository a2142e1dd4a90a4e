"""The librarian's brain, as a program that reads a turn and prints a reply; at the end in its sandbox."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from colony_agent.runner.command import CommandRunner
from colony_agent.sandbox import for_home
from provisioning import soul
from tests.colony_agent.cast import scout_at, task

ROOT = Path(__file__).parents[2]
LIBRARIAN = ROOT / "souls" / "librarian.py"
FILES = {
    "server/models/inbox.py": '''"""The inbox."""
from sqlalchemy import insert


def pending(agent) -> list[InboxItem]:
    """Inbox items of an agent, created_at first."""
    return select(inbox)


def deliver(message):
    return connection.execute(insert(inbox).from_select(columns, receivers))
''',
    "server/models/user.py": "def create(name):\n    users.append(name)\n\n\ndef token_hash(token):\n    return sha256(token)\n",
    "server/schema.sql": "CREATE TABLE audit (\n  id integer\n);\nINSERT INTO audit VALUES (1);\n",
    "tests/test_inbox.py": "def test_inbox_items_are_created():\n    create_inbox_item()\n    assert inbox.items\n",
    "docs/inbox.md": "# Inbox items\n\nWhere are inbox items created? They are created by a post, as inbox items.\n",
    "notes.txt": "the quick `brown` fox, by @ann\n",
    "logo.png": "inbox items created\0",
}

Ask = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a repository in it."""
    for name, text in FILES.items():
        file = tmp_path / "repo" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    (tmp_path / "repo" / "untracked.py").write_text("def create_inbox_items(): pass\n")
    return tmp_path


@pytest.fixture
def ask(home: Path) -> Ask:
    return lambda *bodies, **more: reply(home, *bodies, **more)


def git(home: Path, *words: str) -> None:
    subprocess.run(["git", "-C", home / "repo", *words], check=True)


def reply(home: Path, *bodies: str, kind: str = "answer", prompt: str = "", repo: str = "repo") -> str:
    turn = {"agent": "librarian", "kind": kind, "items": [{"message": {"body": body}} for body in bodies]}
    return run(home, {"turn": turn, "repo": repo, "prompt": prompt})


def run(home: Path, document: dict[str, Any]) -> str:
    spoken = json.dumps(document)
    ran = subprocess.run([sys.executable, "-I", LIBRARIAN], cwd=home, input=spoken, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    return ran.stdout.strip()


def places(said: str) -> list[str]:
    return re.findall(r"^- `(\S+?:\d+)`", said, re.MULTILINE)


def test_it_names_file_and_line_and_shows_what_stands_there(ask: Ask) -> None:
    said = ask("@librarian where is the token hashed?")
    assert places(said)[0] == "server/models/user.py:5"
    assert "`def token_hash(token):`" in said


def test_it_knows_that_an_insert_creates(ask: Ask) -> None:
    assert places(ask("@librarian where are inbox items created?"))[0] == "server/models/inbox.py:11"


def test_source_comes_before_tests_and_documents(ask: Ask) -> None:
    found = [place.split("/")[0] for place in places(ask("where are inbox items?"))]
    assert {"server", "docs"} <= set(found)
    assert found[0] == "server"


def test_it_finds_the_rows_of_this_very_repository() -> None:
    found = places(reply(ROOT.parent, "@librarian where are inbox items created?", repo=ROOT.name))
    path, number = found[0].split(":")
    assert path.startswith("server/")
    assert "insert(inbox)" in (ROOT / path).read_text().splitlines()[int(number) - 1]


@pytest.mark.parametrize("asked", ["which table holds the audit?", "the audits' TABLES", "@librarian AuditTable", "audit_table"])
def test_forms_of_a_word_are_the_same_word(ask: Ask, asked: str) -> None:
    assert places(ask(asked))[0] == "server/schema.sql:1"


def test_it_says_what_it_is(ask: Ask) -> None:
    assert "I am a search program, not a language model" in ask("where is the token hashed?")


@pytest.mark.parametrize("asked", ["hi", "", "@librarian", "hello @librarian, how are you?", "???", "what is it", "(.*)+$ [^", "日本語"])
def test_an_odd_question_gets_a_friendly_hint(ask: Ask, asked: str) -> None:
    assert ask(asked).startswith("Ask me where something is, such as:")


def test_nothing_found_is_said(ask: Ask) -> None:
    assert "I found nothing about `frobnicate`." in ask("where do we frobnicate?")


@pytest.mark.parametrize("asked", ["inbox; touch owned", "$(touch owned) inbox", "`touch owned` inbox", "--help inbox", "inbox (a+)+$ [z"])
def test_a_question_is_only_data(ask: Ask, home: Path, asked: str) -> None:
    assert any("inbox" in place for place in places(ask(asked)))
    assert not list(home.rglob("owned"))


def test_several_items_are_all_answered(ask: Ask) -> None:
    said = ask("where is the token hashed?", "hi", "which table holds the audit?")
    assert {"server/models/user.py:5", "server/schema.sql:1"} <= set(places(said))
    assert "Ask me" in said
    assert said.count("not a language model") == 1


def test_it_searches_what_git_tracks_and_no_binaries(ask: Ask) -> None:
    said = ask("inbox items created")
    assert "untracked" not in said
    assert "logo" not in said


def test_without_git_it_searches_all_files_that_are_not_hidden(home: Path) -> None:
    (home / "repo" / ".git").rename(home / "elsewhere")
    (home / "repo" / ".hidden.py").write_text("def create_inbox_items(): pass\n")
    said = reply(home, "inbox items created")
    assert "untracked.py:1" in said
    assert "hidden" not in said


def test_without_a_named_repository_it_takes_the_one_in_its_home(home: Path) -> None:
    assert places(reply(home, "where is the token hashed?", repo=""))[0] == "server/models/user.py:5"


def test_what_it_quotes_mentions_nobody(ask: Ask) -> None:
    assert "`the quick 'brown' fox, by @ann`" in ask("quick brown fox")
    assert "@" not in ask("@eve @agents: where is frobnicate?")


def test_a_line_that_a_machine_wrote_is_left_out(ask: Ask, home: Path) -> None:
    (home / "repo" / "bundle.js").write_text("function zebra() {};" * 1000)
    git(home, "add", "-A")
    assert places(ask("zebra")) == []


def test_a_pulse_and_a_dream_change_nothing(ask: Ask) -> None:
    assert ask(kind="pulse") == "HEARTBEAT_OK"
    assert ask(kind="dream", prompt="Compact:\n\n<memory>\n# Mine\n- [pinned] x\n</memory>") == "<memory>\n# Mine\n- [pinned] x\n</memory>"


def test_three_hundred_files_are_searched_in_a_moment(home: Path) -> None:
    for number in range(300):
        body = "\n".join(f"def inbox_item_{number}_{line}(connection):\n    return connection.execute(inbox, {line})" for line in range(80))
        (home / "repo" / f"module_{number}.py").write_text(body)
    git(home, "add", "-A")
    started_at = time.monotonic()
    assert places(reply(home, "where are tokens hashed?"))
    assert time.monotonic() - started_at < 1  # 0.15 s on an idle machine


def test_it_answers_from_its_sandbox(home: Path) -> None:
    """As its soul says: the program is run by its own first line."""
    scout = scout_at(home, runner="command", repo="repo", command=soul.load(LIBRARIAN.with_suffix(".md")).command)
    answer = CommandRunner(scout, for_home(scout)).run(task("", "@scout where is the token hashed?"), print)
    assert places(answer.reply)[0] == "server/models/user.py:5"
