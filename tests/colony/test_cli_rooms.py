"""`colony create-channel --private`, `members`, `invite`, `leave` and `remove`."""

from __future__ import annotations

import json

import pytest

from colony import errors
from tests.colony.cast import Shell, bodies
from tests.server.cast import token_of

ANN, BOB, SCOUT = (token_of(name) for name in ("ann", "bob", "scout"))


@pytest.fixture
def attic(run: Shell, channel: str) -> str:
    """A private channel of ann's."""
    name = f"{channel}-attic"
    said = run("create-channel", f"#{name}", "--private", "--topic", "what is up", token=ANN)
    assert (said.code, said.err) == (0, "")
    assert "is_private\tyes\n" in said.out
    return name


def test_members_come_and_go(run: Shell, attic: str) -> None:
    said = run("invite", attic, "@bob", "scout", token=ANN)
    assert (said.code, said.err) == (0, "")
    header, *rows = [line.split("\t") for line in said.out.splitlines()]
    assert header == ["username", "kind", "added_by", "added_at"]
    assert [row[:3] for row in rows] == [["ann", "ape", "ann"], ["bob", "ape", "ann"], ["scout", "agent", "ann"]]
    assert run("members", f"#{attic}", token=SCOUT).out == said.out
    said = run("leave", attic, token=BOB)
    assert (said.code, said.err) == (0, "colony: you are no member of it any more\n")
    assert "username\tbob\n" in said.out
    said = run("remove", attic, "@scout", token=ANN)
    assert (said.code, said.err) == (0, "colony: scout is no member of it any more\n")
    assert bodies(run.house, attic) == ["ann has invited @bob, @scout.", "bob has left.", "ann has removed scout."]
    assert [member["username"] for member in json.loads(run("members", attic, "--json", token=ANN).out)["members"]] == ["ann"]


def test_who_is_named_but_no_member_is_told_beside_the_message(run: Shell, attic: str) -> None:
    said = run("post", attic, "@bob @zoe hello", token=ANN)
    assert said.code == 0
    assert said.err.splitlines() == [
        "colony: nobody here is called zoe; `colony users` lists everyone",
        f"colony: bob is no member of #{attic} and was not told; `colony invite {attic} bob` lets them in",
    ]
    assert attic not in run("inbox", token=BOB).out


def test_a_stranger_is_told_what_is_told_of_a_channel_that_is_nowhere(run: Shell, attic: str) -> None:
    for command in ("read {}", "members {}", "post {} hello", "invite {} bob", "leave {}", "remove {} ann", "watch {}", "explain {}#1"):
        there, nowhere = (run(*command.format(name).split(), token=BOB) for name in (attic, "limbo"))
        assert there.code == nowhere.code == errors.NotFound.exit_code
        assert there.err.replace(attic, "limbo") == nowhere.err == "colony: no channel limbo\n"
    assert attic not in run("channels", token=BOB).out
    assert attic in run("channels", token=ANN).out
