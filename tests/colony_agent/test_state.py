"""What is remembered between turns. How turns live with a broken state is in test_turn_journal.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from colony_agent import state
from colony_agent.runner import Session
from colony_agent.state import Finished, State
from tests.server.disks import disk

FINISHED = Finished(7, 2, "a reply \N{SNOWMAN}", 10, 5, 0.25, "session-1")


def test_what_is_saved_is_found_again(tmp_path: Path) -> None:
    saved = State({"general": Session("session-1", 0.5)}, {"general": 12}, ["general"], FINISHED)
    state.save(tmp_path, "state", saved)
    assert state.load(tmp_path, "state") == saved


def test_none_is_a_new_one(tmp_path: Path) -> None:
    assert state.load(tmp_path, "state") == State()
    (tmp_path / "state").write_text(" \n")
    assert state.load(tmp_path, "state") == State()
    assert not (tmp_path / "state.broken").exists()


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    state.save(tmp_path, "state", State())
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600


def test_the_journal_says_what_the_server_is_told() -> None:
    assert FINISHED.reference == "7.2"
    request = FINISHED.request
    assert (request.id, request.reply, request.session_id) == (7, "a reply \N{SNOWMAN}", "session-1")
    assert (request.usage.tokens_in, request.usage.tokens_out, request.usage.cost_usd) == (10, 5, 0.25)


def test_a_journal_keeps_what_the_attempt_took_and_one_of_an_older_version_is_read(tmp_path: Path) -> None:
    finished = replace(FINISHED, prompt_characters=400, tools={"Bash": 2})
    state.save(tmp_path, "state", State(finished=finished))
    assert state.load(tmp_path, "state").finished == finished
    assert (finished.request.usage.prompt_characters, finished.request.usage.tools) == (400, {"Bash": 2})
    written = json.loads((tmp_path / "state").read_text())
    del written["finished"]["tools"], written["finished"]["prompt_characters"]
    (tmp_path / "state").write_text(json.dumps(written))
    assert state.load(tmp_path, "state").finished == replace(finished, prompt_characters=0, tools={})


def test_the_oldest_sessions_are_forgotten() -> None:
    known = State()
    for number in range(state.SESSIONS_KEPT):
        known.remember(f"channel-{number}", Session(f"session-{number}"), number)
    known.remember("channel-0", Session("session-new"), 1000)
    known.remember("one-more", Session("session-more"), 1)
    assert len(known.sessions) == state.SESSIONS_KEPT
    assert "channel-1" not in known.sessions
    assert known.sessions["channel-0"].id == "session-new"
    assert known.seen.keys() == known.sessions.keys()
    assert known.seen["channel-0"] == 1000


def test_who_was_heard_in_a_session_is_known_as_long_as_the_session(tmp_path: Path) -> None:
    known = State()
    known.remember("general", Session("session-1"), 5, is_outside=True)
    known.remember("general", Session("session-1"), 6)
    state.save(tmp_path, "state", known)
    assert state.load(tmp_path, "state").outside == ["general"]
    known.remember("general", None, 7)
    assert known.outside == []


def test_a_session_that_is_over_is_forgotten() -> None:
    known = State()
    known.remember("general", Session("session-1"), 5)
    known.remember("general", None, 6)
    assert known == State()


@pytest.mark.parametrize("text", ['{"sessions": {"general": {"id": 1}}, "finished": null}', "[]", "5", "null", '"x"', "{}", "\0", "["])
def test_what_cannot_be_read_is_put_aside(tmp_path: Path, text: str) -> None:
    (tmp_path / "state").write_text(text)
    assert state.load(tmp_path, "state") == State()
    assert (tmp_path / "state.broken").read_text() == text
    assert not (tmp_path / "state").exists()


def test_a_newer_broken_one_replaces_the_older(tmp_path: Path) -> None:
    for text in ("{1", "{2"):
        (tmp_path / "state").write_text(text)
        state.load(tmp_path, "state")
    assert (tmp_path / "state.broken").read_text() == "{2"


def test_a_crash_while_saving_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state.save(tmp_path, "state", State(finished=FINISHED))

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        state.save(tmp_path, "state", State())
    monkeypatch.undo()
    assert state.load(tmp_path, "state").finished == FINISHED
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_full_disk_has_room_for_the_next_one(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", 1) as small:
        state.save(small.path, "state", State())
        small.fill()
        heard = State({"general": Session("s", 1.0)}, {"general": 7}, ["general"], FINISHED, unsettled={"heartbeat": "lamp" * 10_000})
        state.save(small.path, "state", heard)
        assert state.load(small.path, "state") == heard
