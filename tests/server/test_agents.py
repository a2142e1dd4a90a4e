"""An agent's life: its states, its heartbeat, and how others see it."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import product
from typing import get_args

import pytest
from sqlalchemy import update

from colony import errors, operations, schema
from server.models.user import users
from tests.server.cast import token_of
from tests.server.support import Call, Colony, only_sqlite

STATUSES = get_args(schema.Status)
MOVES = {
    ("provisioning", "healthy"),
    ("provisioning", "dead"),
    ("healthy", "paused"),
    ("healthy", "draining"),
    ("paused", "healthy"),
    ("paused", "draining"),
    ("draining", "healthy"),
    ("draining", "dead"),
}


def put(colony: Colony, status: str) -> None:
    colony.gate.database.write(
        lambda connection: connection.execute(update(users).where(users.c.username == "scout").values(status=status))
    )


def status_of(colony: Colony, username: str = "scout") -> str:
    return str(colony.rows(users, users.c.username == username)[0].status)


def when_asleep(colony: Colony, waiting: Future[schema.Outlook]) -> None:
    while not colony.gate.waiters.asleep:
        assert not waiting.done(), waiting.result()
        time.sleep(0.005)


@only_sqlite
@pytest.mark.parametrize(("old", "new"), list(product(STATUSES, STATUSES)))
def test_only_these_moves_belong_to_an_agents_life(colony: Colony, old: schema.Status, new: schema.Status) -> None:
    put(colony, old)
    if old == new or (old, new) in MOVES:
        assert colony.set_status("scout", new, "because").status == new
        assert (status_of(colony), colony.rows(users, users.c.username == "scout")[0].status_note) == (new, "because")
    else:
        with pytest.raises(errors.Conflict, match=f"{old}.*{new}"):
            colony.set_status("scout", new)
        assert status_of(colony) == old


def test_a_new_agent_is_in_provisioning_and_a_person_is_not(colony: Colony) -> None:
    for kind in get_args(schema.Kind):
        created = colony.admin.call(operations.CREATE_USER, schema.CreateUser(username=f"new-{kind}", kind=kind))
        assert created.status == ("provisioning" if kind == "agent" else "healthy")
        token = colony.admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username=created.username)).token
        assert colony.client(token).call(operations.WHOAMI, schema.Whoami()).username == created.username


@pytest.mark.parametrize("name", ["agents", "apes", "ann", "colony"])
def test_a_name_that_is_taken_or_means_many_is_refused(colony: Colony, name: str) -> None:
    with pytest.raises(errors.Conflict, match=name):
        colony.admin.call(operations.CREATE_USER, schema.CreateUser(username=name, kind="ape"))


def test_a_linux_user_stands_for_one_user_only(colony: Colony) -> None:
    colony.admin.call(operations.CREATE_USER, schema.CreateUser(username="zoe", kind="ape", linux_user="zoe"))
    with pytest.raises(errors.Conflict):
        colony.admin.call(operations.CREATE_USER, schema.CreateUser(username="zed", kind="ape", linux_user="zoe"))


def test_only_its_owner_and_administrators_change_an_agents_status(colony: Colony) -> None:
    request = schema.SetStatus(agent="scout", status="paused")
    for caller in (colony.ann, colony.rook, colony.scout):
        with pytest.raises(errors.Forbidden):
            caller.call(operations.SET_STATUS, request)
    ann = colony.id_of("ann")
    colony.gate.database.write(lambda connection: connection.execute(update(users).where(users.c.username == "scout").values(owner_id=ann)))
    assert colony.ann.call(operations.SET_STATUS, request).status == "paused"
    with pytest.raises(errors.NotFound):
        colony.set_status("ann", "paused")  # no agent


def test_a_second_pause_that_says_nothing_leaves_the_note(colony: Colony) -> None:
    assert [colony.set_status("scout", "paused", note).status_note for note in ("lunch", "", "tea")] == ["lunch", "lunch", "tea"]
    assert colony.set_status("scout", "healthy").status_note == ""


def test_a_heartbeat_is_an_agents_own(colony: Colony) -> None:
    assert colony.heartbeat("scout") == schema.Outlook(status="healthy", due=False)
    assert colony.rows(users, users.c.username == "scout")[0].last_seen_at == colony.clock.now
    with pytest.raises(errors.Forbidden):
        colony.scout.call(operations.HEARTBEAT, schema.Heartbeat(agent="rook"))
    with pytest.raises(errors.Forbidden):
        colony.ann.call(operations.HEARTBEAT, schema.Heartbeat(agent="ann"))


@pytest.mark.parametrize("status", ["paused", "draining"])
@pytest.mark.parametrize("busy", [False, True])
def test_a_waiting_heartbeat_returns_at_a_change_of_status(colony: Colony, status: schema.Status, busy: bool) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(colony.heartbeat, "scout", wait=20, status="healthy", busy=busy)
        when_asleep(colony, waiting)
        began = time.monotonic()
        colony.set_status("scout", status, "lunch")
        assert waiting.result(5) == schema.Outlook(status=status, status_note="lunch", due=False)
        assert time.monotonic() - began < 5


def test_a_heartbeat_that_knows_an_old_status_returns_at_once(colony: Colony) -> None:
    colony.set_status("scout", "paused")
    began = time.monotonic()
    assert colony.heartbeat("scout", wait=20, status="healthy").status == "paused"
    assert time.monotonic() - began < 5


def test_a_waiting_heartbeat_returns_at_a_mention(colony: Colony) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(colony.heartbeat, "scout", wait=20, status="healthy")
        when_asleep(colony, waiting)
        began = time.monotonic()
        colony.post(colony.ann, "@scout")
        assert waiting.result(5).due
        assert time.monotonic() - began < 5


def test_a_busy_agents_heartbeat_sleeps_through_mentions(colony: Colony) -> None:
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        waiting = pool.submit(colony.heartbeat, "scout", wait=0.8, status="healthy", busy=True)
        when_asleep(colony, waiting)
        for _ in range(5):
            colony.post(colony.ann, "@scout")
        waiting.result(5)
        assert time.monotonic() - began >= 0.8


def test_a_paused_agents_heartbeat_sleeps_through_mentions(colony: Colony) -> None:
    colony.set_status("scout", "paused")
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        waiting = pool.submit(colony.heartbeat, "scout", wait=0.6, status="paused")
        when_asleep(colony, waiting)
        colony.post(colony.ann, "@scout")
        assert not waiting.result(5).due
        assert time.monotonic() - began >= 0.6


def test_a_heartbeat_wakes_when_a_resting_turn_falls_due_though_nobody_calls(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), "crashed", retry_in_seconds=1)
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        waiting = pool.submit(colony.heartbeat, "scout", wait=20, status="healthy")
        when_asleep(colony, waiting)
        colony.clock.advance(1)
        assert waiting.result(5).due
        assert time.monotonic() - began < 5


def test_a_heartbeat_wakes_when_a_hold_ends(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), "rate_limited", retry_in_seconds=1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(colony.heartbeat, "scout", wait=20, status="healthy")
        when_asleep(colony, waiting)
        colony.clock.advance(1)
        assert waiting.result(5).due


def test_the_dead_are_nobody_at_once(colony: Colony) -> None:
    assert colony.heartbeat("scout").status == "healthy"  # its identity has been looked up just now
    colony.set_status("scout", "draining")
    colony.set_status("scout", "dead")
    calls: tuple[Call, ...] = ((operations.WHOAMI, schema.Whoami()), (operations.HEARTBEAT, schema.Heartbeat(agent="scout")))
    for operation, request in calls:
        with pytest.raises(errors.Unauthenticated):
            colony.scout.call(operation, request)


def test_the_name_of_a_dead_agent_may_be_born_again_and_begins_anew(colony: Colony) -> None:
    before = colony.id_of("scout")
    colony.scout.call(operations.WATCH, schema.WatchChannel(channel="general"))
    colony.admin.call(operations.SET_LIMITS, schema.SetLimits(agent="scout", turns_per_hour=1, posts_per_turn=3))
    colony.set_status("scout", "draining")
    colony.set_status("scout", "dead")
    colony.post(colony.ann, "nobody listens")

    again = colony.admin.call(operations.CREATE_USER, schema.CreateUser(username="scout", kind="agent", linux_user="scout"))
    assert (again.id, again.status, again.linux_user, again.last_seen_at) == (before, "provisioning", "scout", None)
    with pytest.raises(errors.Unauthenticated):  # the token of its former life
        colony.scout.call(operations.WHOAMI, schema.Whoami())
    colony.set_status("scout", "healthy")
    reborn = colony.client(colony.admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username="scout")).token)
    colony.post(colony.ann, "still nobody watches")
    assert not reborn.call(operations.INBOX, schema.ReadInbox()).items
    row = colony.rows(users, users.c.username == "scout")[0]
    assert (row.turns_per_hour, row.posts_per_turn) == (None, 10)


@pytest.mark.parametrize("name", ["rook", "ann"])
def test_the_name_of_the_living_is_taken(colony: Colony, name: str) -> None:
    with pytest.raises(errors.Conflict, match=f"there is a user {name}"):
        colony.admin.call(operations.CREATE_USER, schema.CreateUser(username=name, kind="agent"))


def test_each_death_is_told_to_who_waits(colony: Colony) -> None:
    for life in range(2):
        colony.clock.advance(1)
        colony.post(colony.ann, "@scout help")
        colony.set_status("scout", "draining")
        colony.set_status("scout", "dead")
        assert sum("no longer part of the colony" in message.body for message in colony.read("general")) == life + 1
        colony.admin.call(operations.CREATE_USER, schema.CreateUser(username="scout", kind="agent"))
        colony.set_status("scout", "healthy")


def test_the_linux_user_of_a_dead_agent_is_free(colony: Colony) -> None:
    colony.admin.call(operations.CREATE_USER, schema.CreateUser(username="crow", kind="agent", linux_user="crow"))
    colony.set_status("crow", "dead")
    colony.admin.call(operations.CREATE_USER, schema.CreateUser(username="dan", kind="ape", linux_user="crow"))


def test_a_new_status_ends_a_hold(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), "credentials_rejected")
    colony.set_status("scout", "paused")
    colony.set_status("scout", "healthy")
    assert colony.rows(users, users.c.username == "scout")[0].held_until is None


def test_the_list_of_agents_counts_what_waits_runs_and_was_spent_today(colony: Colony) -> None:
    colony.clock.advance(-24 * 3600)
    colony.finish(colony.turn(colony.scout, kind="pulse"), usage=schema.Usage(cost_usd=9.0))
    colony.clock.advance(24 * 3600)
    for cost in (0.5, 0.25):
        colony.post(colony.ann, "@scout")
        colony.finish(colony.turn(colony.scout), "ok", usage=schema.Usage(cost_usd=cost))
    colony.post(colony.ann, "@scout a")
    turn = colony.turn(colony.scout)
    colony.clock.advance(5)
    colony.post(colony.ann, "@scout b")
    listed = {agent.username: agent for agent in colony.ann.call(operations.AGENTS, schema.ListAgents()).agents}
    assert listed.keys() == {"scout", "rook"}
    scout = listed["scout"]
    assert (scout.inbox, scout.turn_id, scout.turns_today, scout.cost_usd_today) == (2, turn.id, 3, 0.75)
    assert scout.oldest_item_at == turn.items[0].created_at
    assert (listed["rook"].inbox, listed["rook"].turn_id, listed["rook"].turns_today) == (0, None, 0)


def test_users_are_listed_by_kind(colony: Colony) -> None:
    found = colony.ann.call(operations.USERS, schema.ListUsers(kind="agent")).users
    assert [user.username for user in found] == ["rook", "scout"]
    assert {user.username for user in colony.ann.call(operations.USERS, schema.ListUsers()).users} == {
        "ann",
        "bob",
        "colony",
        "rook",
        "scout",
    }


def test_a_revoked_token_is_refused_at_once_even_while_others_race_for_it(colony: Colony) -> None:
    stop: list[bool] = []

    def hammer(token: str) -> None:
        client = colony.client(token)
        while not stop:
            try:
                client.call(operations.WHOAMI, schema.Whoami())
            except errors.Unauthenticated:
                return

    token = token_of("bob")
    for _ in range(10):
        stop.clear()
        with ThreadPoolExecutor(4) as pool:
            for _ in range(4):
                pool.submit(hammer, token)
            fresh = colony.admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username="bob")).token
            for _ in range(20):
                with pytest.raises(errors.Unauthenticated):
                    colony.client(token).call(operations.WHOAMI, schema.Whoami())
            stop.append(True)
        token = fresh
        assert colony.client(token).call(operations.WHOAMI, schema.Whoami()).username == "bob"
