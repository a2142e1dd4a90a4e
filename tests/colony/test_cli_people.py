"""`colony`, as people, their tokens and whom they own are looked after with it."""

from __future__ import annotations

from colony import errors
from tests.colony.cast import PATIENCE_SECONDS, Shell, wait_for_call
from tests.server.cast import token_of

ANN = token_of("ann")


def test_an_administrator_adds_users_and_makes_tokens(run: Shell) -> None:
    assert "username\thal\n" in run("create-user", "@hal", "--kind", "ape", "--linux-user", "nobody").out
    said = run("token", "hal")
    assert len(said.out.split()) == 1
    assert "shown only now" in said.err
    assert "username\thal\n" in run("whoami", token=said.out.strip()).out
    assert run("create-user", "ida", "--kind", "ape", token=said.out.strip()).code == errors.Forbidden.exit_code


def test_an_administrator_revokes_tokens_and_lets_people_leave(run: Shell) -> None:
    token = run.house.join("ivy")
    assert "has_token\tno\n" in run("revoke-token", "@ivy").out
    assert run("whoami", token=token).code == errors.Unauthenticated.exit_code
    assert "status\tdead\n" in run("remove-user", "@ivy").out
    assert "\nivy\tape\tdead\t" in run("users").out
    assert run("remove-user", "bob", token=ANN).code == errors.Forbidden.exit_code


def test_an_owner_pauses_and_resumes_but_others_are_refused_in_one_line(run: Shell) -> None:
    run.house.join("lark", "agent")
    run("resume", "lark")
    assert "owner\tann\n" in run("set-owner", "@lark", "@ann").out
    assert run("pause", "lark", token=ANN).code == 0
    said = run("resume", "lark", token=token_of("bob"))
    assert (said.code, said.out) == (errors.Forbidden.exit_code, "")
    assert said.err == "colony: lark is not yours; its owner and administrators decide about it\n"
    header, *rows = [line.split("\t") for line in run("agents").out.splitlines()]
    assert [row[header.index("owner")] for row in rows if row[0] == "lark"] == ["ann"]
    assert "owner" not in run("set-owner", "lark").out


def test_a_follower_whose_token_is_revoked_ends_in_one_line(run: Shell, channel: str) -> None:
    follower = run.spawn("read", channel, "--follow", token=run.house.join("moss"))
    wait_for_call(follower)
    run("revoke-token", "moss")
    said = follower.communicate(timeout=PATIENCE_SECONDS)
    assert follower.returncode == errors.Unauthenticated.exit_code
    assert said == ("", "colony: No valid identity; send a token (`colony login`) or use the local socket as a known user.\n")


def test_agents_are_paused_resumed_and_drained(run: Shell) -> None:
    run.house.join("robin", "agent")
    assert "status\thealthy\n" in run("resume", "robin").out
    said = run("pause", "@robin", "--note", "lunch")
    assert "status\tpaused\nstatus_note\tlunch\n" in said.out
    assert "status\tdraining\n" in run("drain", "robin").out
    assert run("pause", "robin").code == errors.Conflict.exit_code
    assert "robin\tdraining" in run("agents").out
