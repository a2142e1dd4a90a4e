"""Private channels: who comes in, who goes, and what becomes of what waited for them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from colony import errors, operations, schema
from colony.client import Client
from server.models import channel, inbox
from server.models.channel import members, watches
from server.models.turn import turns
from tests.server.cast import token_of
from tests.server.rooms import add, wrong
from tests.server.samples import room
from tests.server.support import Call, Colony

SOON = 15.0  # seconds, less than any long poll here


def create(by: Client, name: str = "attic") -> schema.Channel:
    return by.call(operations.CREATE_CHANNEL, schema.CreateChannel(name=name, private=True))


def invite(by: Client, *usernames: str) -> list[str]:
    answer = by.call(operations.INVITE, schema.InviteMembers(channel="attic", usernames=list(usernames)))
    return [member.username for member in answer.members]


def remove(by: Client, username: str) -> schema.Member:
    return by.call(operations.REMOVE_MEMBER, schema.RemoveMember(channel="attic", username=username))


def leave(by: Client) -> schema.Member:
    return by.call(operations.LEAVE, schema.LeaveChannel(channel="attic"))


def names(by: Client) -> list[str]:
    return [member.username for member in by.call(operations.MEMBERS, schema.ListMembers(channel="attic")).members]


def said(colony: Colony) -> list[str]:
    return [message.body for message in colony.read("attic")]


# --- who may what


def test_its_creator_is_its_first_member(colony: Colony) -> None:
    assert create(colony.ann).is_private
    assert names(colony.ann) == ["ann"]
    for reader, is_there in ((colony.ann, True), (colony.bob, False), (colony.admin, True)):
        listed = reader.call(operations.CHANNELS, schema.ListChannels()).channels
        assert {channel.name: channel.is_private for channel in listed}.get("attic", False) == is_there
    (member,) = colony.ann.call(operations.MEMBERS, schema.ListMembers(channel="attic")).members
    assert (member.kind, member.added_by, member.added_at) == ("ape", "ann", colony.clock.now)


def test_members_let_others_in_and_the_channel_is_told_once(colony: Colony) -> None:
    room(colony)
    colony.clock.advance(1)
    assert invite(colony.ann, "scout", "bob", "bob") == ["ann", "bob", "scout"]
    assert invite(colony.bob, "scout", "ann") == ["ann", "bob", "scout"]
    assert said(colony) == ["ann has invited @bob, @scout."]
    assert [item.message.body for item in colony.inbox(colony.bob)] == ["ann has invited @bob, @scout."]
    assert colony.items("scout") == []
    assert [message.body for message in colony.scout.call(operations.READ, schema.ReadMessages(channel="attic")).messages] == said(colony)


def test_agents_and_programs_open_no_private_channels_and_invite_or_remove_nobody(colony: Colony) -> None:
    room(colony, "scout", "bob")
    gate = add(colony, "gate", "gateway")
    invite(colony.ann, "gate")
    calls: tuple[Call, ...] = (
        (operations.CREATE_CHANNEL, schema.CreateChannel(name="cellar", private=True)),
        (operations.INVITE, schema.InviteMembers(channel="attic", usernames=["rook"])),
        (operations.REMOVE_MEMBER, schema.RemoveMember(channel="attic", username="bob")),
    )
    for caller in (colony.scout, gate):
        for operation, request in calls:
            with pytest.raises(errors.Forbidden):
                caller.call(operation, request)
    assert names(colony.scout) == ["ann", "bob", "gate", "scout"]
    assert leave(colony.scout).username == "scout"
    assert remove(gate, "gate").username == "gate"
    assert names(colony.ann) == ["ann", "bob"]


def test_an_administrator_sees_everything_and_decides_without_being_a_member(colony: Colony) -> None:
    create(colony.bob)
    colony.post(colony.bob, "hello", "attic")
    assert colony.admin.call(operations.READ, schema.ReadMessages(channel="attic")).messages[0].body == "hello"
    assert colony.post(colony.admin, "@bob @ann", "attic").not_members == ["ann"]
    assert invite(colony.admin, "ann") == ["ann", "bob"]
    assert remove(colony.admin, "bob").added_by == "bob"
    with pytest.raises(errors.NotFound, match="colony is no member of attic"):
        leave(colony.admin)
    with pytest.raises(errors.Conflict, match="only members watch it"):
        colony.admin.call(operations.WATCH, schema.WatchChannel(channel="attic"))
    assert names(colony.admin) == ["ann"]


def test_who_has_left_or_was_never_here_can_not_be_invited(colony: Colony) -> None:
    room(colony)
    colony.admin.call(operations.REMOVE_USER, schema.RemoveUser(username="bob"))
    with pytest.raises(errors.Conflict, match="bob has left the colony"):
        invite(colony.ann, "scout", "bob")
    with pytest.raises(errors.NotFound, match="no user zoe"):
        invite(colony.ann, "scout", "zoe")
    with pytest.raises(errors.NotFound, match="scout is no member of attic"):
        remove(colony.ann, "scout")
    assert names(colony.ann) == ["ann"]


def test_public_channels_have_no_members_and_ops_is_for_everybody(colony: Colony) -> None:
    calls: tuple[Call, ...] = (
        (operations.MEMBERS, schema.ListMembers(channel="general")),
        (operations.INVITE, schema.InviteMembers(channel="general", usernames=["bob"])),
        (operations.LEAVE, schema.LeaveChannel(channel="general")),
        (operations.REMOVE_MEMBER, schema.RemoveMember(channel="general", username="bob")),
    )
    for operation, request in calls:
        with pytest.raises(errors.Conflict, match="general is public"):
            colony.ann.call(operation, request)
    with pytest.raises(errors.Invalid, match="everybody"):
        create(colony.ann, "ops")


def test_a_channel_that_all_have_left_is_there_for_administrators(colony: Colony) -> None:
    room(colony)
    leave(colony.ann)
    with pytest.raises(errors.NotFound):
        colony.read("attic")
    assert names(colony.admin) == []
    assert invite(colony.admin, "ann") == ["ann"]
    assert said(colony)[0] == "ann has left."


# --- who goes


def test_what_waits_for_one_who_goes_is_closed_and_nothing_comes_any_more(colony: Colony) -> None:
    room(colony, "bob")
    colony.bob.call(operations.WATCH, schema.WatchChannel(channel="attic"))
    colony.post(colony.ann, "@bob in private", "attic")
    colony.post(colony.ann, "@bob in public")
    parted = remove(colony.ann, "bob")
    assert (parted.username, parted.added_by) == ("bob", "ann")
    assert [item.message.channel for item in colony.inbox(colony.bob)] == ["general"]
    assert colony.count(watches) == 0
    posted = colony.post(colony.ann, "@bob @apes again", "attic")
    assert posted.not_members == ["bob"]
    assert len(colony.inbox(colony.bob)) == 1
    assert said(colony) == ["ann has invited @bob.", "@bob in private", "ann has removed bob.", "@bob @apes again"]
    invite(colony.ann, "bob")
    assert colony.count(watches) == 0
    assert wrong(colony) == []


def test_a_turn_of_a_removed_agent_ends_and_nothing_of_it_is_accepted(colony: Colony) -> None:
    room(colony, "scout")
    asked = colony.post(colony.ann, "@scout one", "attic")
    turn = colony.turn(colony.scout)
    assert turn.is_private
    late = colony.in_turn(turn)
    waits = colony.post(colony.ann, "@scout two", "attic")
    with ThreadPoolExecutor(2) as pool:
        lease: Future[schema.Lease] = pool.submit(late.call, operations.RENEW, schema.RenewTurn(id=turn.id, wait=25))
        reads = pool.submit(colony.scout.call, operations.READ, schema.ReadMessages(channel="attic", since=3, wait=25))
        while colony.gate.waiters.asleep < 2:
            time.sleep(0.005)
        began = time.monotonic()
        remove(colony.ann, "scout")
        with pytest.raises(errors.StaleTurn):
            lease.result(SOON)
        with pytest.raises(errors.NotFound, match="no channel attic"):
            reads.result(SOON)
        assert time.monotonic() - began < SOON
    calls: tuple[Call, ...] = (
        (operations.RENEW, schema.RenewTurn(id=turn.id)),
        (operations.FINISH, schema.FinishTurn(id=turn.id, reply="late")),
        (operations.POST, schema.PostMessage(channel="attic", body="late")),
        (operations.POST, schema.PostMessage(channel="general", body="late")),
        (operations.READ, schema.ReadMessages(channel="attic")),
    )
    for operation, request in calls:
        with pytest.raises(errors.StaleTurn):
            late.call(operation, request)
    told = late.call(operations.FAIL, schema.FailTurn(id=turn.id, code="stopped", usage=schema.Usage(cost_usd=0.25)))
    assert (told.state, told.error_code, told.items, told.posts, told.context) == ("failed", "removed", [], [], [])
    assert colony.rows(turns)[0].cost_usd == 0.25
    assert colony.claim(colony.scout).turn is None
    assert [item.outcome for item in colony.items("scout")] == ["dead", "dead"]
    deed, regret = said(colony)[-2:]
    assert deed == "ann has removed scout."
    assert regret.startswith(f"@ann scout could not answer #{asked.seq}, #{waits.seq}: it is no member of this channel any more.")
    assert f"`colony retry {asked.id} {waits.id}`" in regret
    assert wrong(colony) == []


def test_a_turn_elsewhere_goes_on_without_the_channel(colony: Colony) -> None:
    room(colony, "scout")
    colony.post(colony.ann, "@scout here")
    turn = colony.turn(colony.scout)
    assert not turn.is_private
    colony.post(colony.in_turn(turn), "from next door", "attic")
    colony.post(colony.ann, "@scout there", "attic")
    remove(colony.ann, "scout")
    with pytest.raises(errors.NotFound, match="no channel attic"):
        colony.post(colony.in_turn(turn), "late", "attic")
    again = colony.turn(colony.scout, take_over=True)
    assert (again.id, [item.message.body for item in again.items], again.posts) == (turn.id, ["@scout here"], [])
    assert colony.finish(again, "done").state == "finished"
    assert colony.claim(colony.scout).turn is None
    assert wrong(colony) == []


def test_a_turn_that_rests_ends_with_the_membership_too(colony: Colony) -> None:
    room(colony, "scout")
    colony.post(colony.ann, "@scout", "attic")
    turn = colony.turn(colony.scout)
    colony.fail(turn)
    leave(colony.scout)
    assert [(row.state, row.error_code) for row in colony.rows(turns)] == [("failed", "removed")]
    colony.clock.advance(3600)
    assert colony.claim(colony.scout).turn is None
    assert wrong(colony) == []


def test_the_end_of_a_turn_shows_nothing_to_one_who_was_removed_after_it(colony: Colony) -> None:
    room(colony, "scout")
    colony.post(colony.ann, "@scout", "attic")
    turn = colony.turn(colony.scout)
    assert colony.finish(turn, "done").items
    remove(colony.ann, "scout")
    repeated = colony.finish(turn, "done")
    assert (repeated.state, repeated.items, repeated.posts) == ("finished", [], [])


def test_only_members_are_made_to_retry(colony: Colony) -> None:
    room(colony, "scout")
    asked = colony.post(colony.ann, "@scout", "attic")
    remove(colony.ann, "scout")
    retry = schema.RetryMessage(id=asked.id)
    with pytest.raises(errors.Conflict, match="scout is no member of its channel any more"):
        colony.ann.call(operations.RETRY, retry)
    invite(colony.ann, "scout")
    assert colony.ann.call(operations.RETRY, retry).retried == ["scout"]
    colony.finish(colony.turn(colony.scout), "at last")
    assert said(colony)[-1] == "at last"
    assert wrong(colony) == []


def test_who_is_named_but_no_member_is_told_to_the_author_and_explained(colony: Colony) -> None:
    room(colony, "scout")
    posted = colony.post(colony.ann, "@scout @rook @ann @zoe `@bob`", "attic")
    assert (posted.not_members, posted.unknown_mentions) == (["rook"], ["zoe"])
    notes = colony.ann.call(operations.EXPLAIN, schema.ExplainMessage(id=posted.id)).notes
    assert "rook is no member of #attic" in notes
    assert colony.items("rook") == []
    assert colony.post(colony.ann, "@rook").not_members == []


@pytest.mark.parametrize("username", ["scout", "bob"])
def test_who_is_born_again_under_the_name_is_no_member(colony: Colony, username: str) -> None:
    room(colony, username)
    colony.client(token_of(username)).call(operations.WATCH, schema.WatchChannel(channel="attic"))
    colony.post(colony.ann, f"@{username}", "attic")
    if username == "scout":
        for status in ("draining", "dead"):
            colony.set_status("scout", status)
    else:
        colony.admin.call(operations.REMOVE_USER, schema.RemoveUser(username="bob"))
    assert (names(colony.ann), colony.count(members), colony.count(watches)) == (["ann"], 1, 0)
    again = add(colony, username, "agent" if username == "scout" else "ape")
    with pytest.raises(errors.NotFound):
        again.call(operations.READ, schema.ReadMessages(channel="attic"))
    assert colony.inbox(again) == []
    assert colony.post(colony.ann, f"@{username}", "attic").not_members == [username]
    assert wrong(colony) == []


# --- at once


def depart(colony: Colony) -> None:
    colony.admin.call(operations.REMOVE_USER, schema.RemoveUser(username="bob"))


def watch(colony: Colony) -> None:
    colony.bob.call(operations.WATCH, schema.WatchChannel(channel="attic"))


def retry(colony: Colony) -> None:
    (asked,) = (message for message in colony.read("attic") if message.body == "@scout")
    colony.ann.call(operations.RETRY, schema.RetryMessage(id=asked.id))


AT_ONCE: dict[str, tuple[Callable[[Colony], object], tuple[object, str], Callable[[Colony], object]]] = {
    "a post": (lambda colony: colony.post(colony.ann, "@bob", "attic"), (inbox, "deliver"), lambda colony: remove(colony.ann, "bob")),
    "a post of one who goes": (lambda colony: remove(colony.ann, "bob"), (channel, "leave"), lambda c: c.post(c.bob, "late", "attic")),
    "a post and a departure": (lambda colony: colony.post(colony.ann, "@bob", "attic"), (inbox, "deliver"), depart),
    "a watch": (watch, (channel, "_is_watched"), lambda colony: remove(colony.ann, "bob")),
    "a retry": (retry, (channel, "insiders"), lambda colony: remove(colony.ann, "scout")),
    "an invitation": (lambda colony: invite(colony.ann, "bob"), (channel, "enter"), depart),
    "a departure": (depart, (channel, "leave_all"), lambda colony: invite(colony.ann, "bob")),
    "an invitation of one who goes": (lambda c: remove(c.ann, "bob"), (channel, "leave"), lambda colony: invite(colony.bob, "rook")),
}


@pytest.mark.parametrize("name", AT_ONCE)
def test_what_happens_at_once_happens_one_after_the_other(colony: Colony, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins while the first has looked and not written yet."""
    first, (module, slow), second = AT_ONCE[name]
    room(colony, "bob", "scout")
    if name in ("an invitation", "a departure"):
        remove(colony.ann, "bob")
    colony.post(colony.ann, "@scout", "attic")
    colony.fail(colony.turn(colony.scout), permanent=True)
    has_looked, work = threading.Event(), getattr(module, slow)

    def linger(*arguments: Any, **more: Any) -> Any:
        found = work(*arguments, **more)
        if not has_looked.is_set():
            has_looked.set()
            time.sleep(0.4)
        return found

    monkeypatch.setattr(module, slow, linger)
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(first, colony)]
        assert has_looked.wait(SOON)
        ends.append(pool.submit(second, colony))
        failed = [type(end.exception(30)) for end in ends]
    assert failed[0] is type(None)
    assert failed[1] in (type(None), errors.NotFound, errors.Conflict)
    assert wrong(colony) == []
    assert "late" not in said(colony)
    assert "rook" not in names(colony.ann)


def test_whatever_comes_in_between_nothing_waits_for_one_who_is_outside(colony: Colony) -> None:
    """Posts, invitations, removals, watches, claims and retries at once."""
    room(colony, "bob", "scout")
    asked = colony.post(colony.ann, "@scout @bob", "attic")
    end = time.monotonic() + 3

    def go_on(seed: int) -> None:
        chance, ann, scout, bob = random.Random(seed), *(colony.client(token_of(name)) for name in ("ann", "scout", "bob"))
        deeds: list[Callable[[], object]] = [
            lambda: colony.post(ann, "@scout @bob @apes", "attic"),
            lambda: invite(ann, "scout", "bob"),
            lambda: remove(ann, chance.choice(["scout", "bob"])),
            lambda: bob.call(operations.WATCH, schema.WatchChannel(channel="attic")),
            lambda: leave(bob),
            lambda: ann.call(operations.RETRY, schema.RetryMessage(id=asked.id)),
            lambda: (claim := colony.claim(scout)).turn and colony.finish(claim.turn, "done"),
        ]
        while time.monotonic() < end:
            with suppress(errors.Conflict, errors.NotFound, errors.Unavailable):
                chance.choice(deeds)()

    with ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(go_on, seed) for seed in range(6)]:
            each.result(60)
    assert wrong(colony) == []
    assert len(said(colony)) > 20
    assert {row.outcome for row in colony.items("scout")} >= {"dead"}


def test_followers_of_events_hear_nothing_from_the_moment_they_are_out(colony: Colony) -> None:
    room(colony, "bob")

    def page(since: str | None = None, wait: float = 0) -> schema.Events:
        return colony.bob.call(operations.EVENTS, schema.ListEvents(since=since, wait=wait))

    before = page()
    colony.post(colony.ann, "inside", "attic")
    heard = page(before.position)
    assert [each.message.body for each in heard.events if each.message] == ["inside"]
    remove(colony.ann, "bob")
    colony.post(colony.ann, "outside", "attic")
    assert page(heard.position).events == page(before.position).events == []
    invite(colony.ann, "bob")
    assert "outside" in [each.message.body for each in page(heard.position).events if each.message]
