"""What a post does: it is numbered, stored once and delivered to everyone it concerns."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from colony import errors, operations, schema
from server.config import ServerConfig
from server.models.channel import channels, watches
from server.models.inbox import inbox
from server.models.message import messages
from server.models.posting import LoopGuard
from server.models.user import users
from tests.server.cast import token_of
from tests.server.support import Clock, Colony, only_sqlite

THREADS = 16


def triggers(colony: Colony) -> dict[str, list[str]]:
    """Who got which items."""
    rows = {row.username: [item.trigger for item in colony.items(row.username)] for row in colony.rows(users)}
    return {name: found for name, found in rows.items() if found}


def notices(colony: Colony, channel: str = "general") -> list[schema.Message]:
    return [message for message in colony.read(channel) if message.type == "notice"]


def test_a_message_comes_back_as_it_was_sent(colony: Colony) -> None:
    body = "  héllo \u202e\U0001f9a7\n\ttab \\ \" ' \x7f\x01 𝔘\r\n "
    first = colony.post(colony.ann, body, type="note", client_id="c1")
    read = colony.read()
    assert read == [first]
    assert (first.body, first.seq, first.author, first.author_kind, first.type, first.hops) == (body, 1, "ann", "ape", "note", 0)
    assert first.created_at == colony.clock.now


def test_sixteen_threads_leave_no_gap_and_no_double_in_the_numbers(colony: Colony) -> None:
    start = Barrier(THREADS)

    def post(thread: int) -> list[int]:
        client = colony.client(token_of("ann" if thread % 2 else "scout"))
        start.wait()
        seqs = []
        for n in range(8):
            if n == 4:  # a refusal in between must not use up a number
                with pytest.raises(errors.Invalid):
                    colony.post(client, "x", reply_to=999_999)
            seqs.append(colony.post(client, f"{thread} {n} @rook @bob").seq)
        return seqs

    with ThreadPoolExecutor(THREADS) as pool:
        given = [seq for seqs in pool.map(post, range(THREADS)) for seq in seqs]
    assert sorted(given) == list(range(1, 8 * THREADS + 1))
    assert [message.seq for message in colony.read()] == sorted(given)
    assert colony.rows(channels, channels.c.name == "general")[0].last_seq == 8 * THREADS
    assert len(colony.items("bob")) == 8 * THREADS


def test_channels_count_each_for_itself(colony: Colony) -> None:
    colony.open_channel("garden")
    assert [colony.post(colony.ann, "x", channel=name).seq for name in ("general", "garden", "garden", "general")] == [1, 1, 2, 2]


def test_a_repeated_client_id_gives_the_first_message_and_stores_nothing(colony: Colony) -> None:
    first = colony.post(colony.ann, "hi @scout", client_id="c1")
    colony.open_channel("garden")
    again = colony.post(colony.ann, "something else @rook", channel="garden", client_id="c1")
    assert again == first.model_copy(update={"duplicate": True})
    assert colony.post(colony.bob, "another author's c1", client_id="c1").duplicate is False
    assert triggers(colony) == {"scout": ["mention"]}
    assert colony.read("garden") == []


def test_a_client_id_sent_by_sixteen_threads_at_once_is_stored_once(colony: Colony) -> None:
    start = Barrier(THREADS)

    def post(thread: int) -> schema.Message:
        client = colony.client(token_of("ann"))
        start.wait()
        return colony.post(client, f"from {thread} @scout", client_id="same")

    for round_ in range(1, 4):
        with ThreadPoolExecutor(THREADS) as pool:
            answers = list(pool.map(post, range(THREADS)))
        assert len({(answer.id, answer.body) for answer in answers}) == 1
        if round_ == 1:
            assert [answer.duplicate for answer in answers].count(False) == 1
    assert colony.count(messages) == 1
    assert triggers(colony) == {"scout": ["mention"]}


def test_each_receiver_gets_one_item_with_the_strongest_reason(colony: Colony) -> None:
    for watcher in (colony.ann, colony.bob, colony.scout, colony.rook):
        watcher.call(operations.WATCH, schema.WatchChannel(channel="general"))
    colony.post(colony.ann, "@scout @agents and @scout again")
    assert triggers(colony) == {"bob": ["watch"], "rook": ["broadcast"], "scout": ["mention"]}


def test_nobody_gets_an_item_for_a_message_of_their_own(colony: Colony) -> None:
    colony.ann.call(operations.WATCH, schema.WatchChannel(channel="general"))
    colony.post(colony.ann, "@ann @apes talks to herself")
    assert triggers(colony) == {"bob": ["broadcast"]}


def test_a_broadcast_reaches_everyone_of_that_kind_alone(colony: Colony) -> None:
    colony.admin.call(operations.CREATE_USER, schema.CreateUser(username="bell", kind="service"))
    colony.post(colony.ann, "@agents")
    assert triggers(colony) == {"rook": ["broadcast"], "scout": ["broadcast"]}
    colony.post(colony.scout, "@apes")
    assert triggers(colony) == {"rook": ["broadcast"], "scout": ["broadcast"], "ann": ["broadcast"], "bob": ["broadcast"]}


def test_watching_twice_counts_once_and_ends_at_once(colony: Colony) -> None:
    for _ in range(2):
        assert colony.scout.call(operations.WATCH, schema.WatchChannel(channel="general")).watched
    colony.post(colony.ann, "one")
    assert [channel.watched for channel in colony.scout.call(operations.CHANNELS, schema.ListChannels()).channels] == [True, False]
    for _ in range(2):
        assert not colony.scout.call(operations.UNWATCH, schema.UnwatchChannel(channel="general")).watched
    colony.post(colony.ann, "two")
    assert triggers(colony) == {"scout": ["watch"]}
    assert colony.count(watches) == 0


def test_watching_from_sixteen_threads_at_once_crashes_nowhere(colony: Colony) -> None:
    start = Barrier(THREADS)

    def watch(_: int) -> bool:
        client = colony.client(token_of("bob"))
        start.wait()
        return client.call(operations.WATCH, schema.WatchChannel(channel="ops")).watched

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(watch, range(THREADS)))
    assert colony.count(watches) == 1


def test_names_are_found_in_any_case_and_unknown_ones_reach_nobody(colony: Colony) -> None:
    colony.post(colony.ann, "@SCOUT @nobody-here `@rook` @ROOKERY")
    assert triggers(colony) == {"scout": ["mention"]}


def test_the_dead_get_no_item_and_those_who_rest_do(colony: Colony) -> None:
    for status in ("draining", "dead"):
        colony.set_status("rook", status)
    colony.set_status("scout", "paused")
    colony.post(colony.ann, "@rook @scout @agents")
    assert triggers(colony) == {"scout": ["mention"]}


@pytest.mark.parametrize("watcher", ["bob", "scout"])
def test_who_mentions_the_dead_is_told_though_somebody_else_was_woken(colony: Colony, watcher: str) -> None:
    colony.client(token_of(watcher)).call(operations.WATCH, schema.WatchChannel(channel="general"))
    for status in ("draining", "dead"):
        colony.set_status("rook", status)
    for body in ("@rook hello", "@rook and @scout, hello"):
        said = colony.post(colony.ann, body)
        assert len(colony.items(watcher)) > 0
        assert notices(colony)[-1].body == f"rook has left the colony and won't answer #{said.seq}."
        assert said.unknown_mentions == []
    assert len(notices(colony)) == 2
    colony.post(colony.ann, "`@rook` is no more")
    assert len(notices(colony)) == 2


def test_the_answer_to_a_post_names_those_whom_nobody_knows(colony: Colony) -> None:
    colony.scout.call(operations.WATCH, schema.WatchChannel(channel="general"))
    colony.set_status("rook", "draining")
    colony.set_status("rook", "dead")
    said = colony.post(colony.ann, "@zoe @bob @Rookery @ann @rook @agents @scout `@nobody` @scuot", client_id="c1")
    assert said.unknown_mentions == ["rookery", "scuot", "zoe"]
    assert colony.post(colony.ann, "@bob and @scout").unknown_mentions == []
    assert colony.post(colony.ann, "again", client_id="c1").unknown_mentions == []
    assert all(message.unknown_mentions == [] for message in colony.read())  # that was news for the author alone


def test_a_reply_to_another_channels_message_or_none_is_refused(colony: Colony) -> None:
    colony.open_channel("garden")
    elsewhere = colony.post(colony.ann, "x", channel="garden")
    for reply_to in (elsewhere.id, elsewhere.id + 1000):
        with pytest.raises(errors.Invalid, match="reply_to"):
            colony.post(colony.ann, "y", reply_to=reply_to)
    first = colony.post(colony.ann, "x")
    assert colony.post(colony.bob, "y", reply_to=first.id).reply_to == first.id
    assert [message.seq for message in colony.read()] == [1, 2]


def test_a_channel_that_does_not_exist_is_not_found(colony: Colony) -> None:
    with pytest.raises(errors.NotFound, match="attic"):
        colony.post(colony.ann, "x", channel="attic")
    with pytest.raises(errors.NotFound):
        colony.ann.call(operations.READ, schema.ReadMessages(channel="attic"))
    with pytest.raises(errors.NotFound):
        colony.ann.call(operations.WATCH, schema.WatchChannel(channel="attic"))


def test_a_channels_name_can_be_taken_once(colony: Colony) -> None:
    colony.open_channel("garden")
    with pytest.raises(errors.Conflict, match="garden"):
        colony.open_channel("garden")


def test_only_the_colony_posts_notices(colony: Colony) -> None:
    for author in (colony.ann, colony.scout):
        with pytest.raises(errors.Invalid, match="notice"):
            colony.post(author, "x", type="notice")


def test_reading_pages_forward_and_shows_the_newest_first_of_all(colony: Colony) -> None:
    for n in range(1, 8):
        colony.post(colony.ann, str(n))
    assert [message.seq for message in colony.read(since=None, limit=3)] == [5, 6, 7]
    assert [message.seq for message in colony.read(since=2, limit=3)] == [3, 4, 5]
    assert colony.read(since=7) == []
    assert colony.ann.call(operations.READ, schema.ReadMessages(channel="general", since=0, limit=1)).last_seq == 7


# --- the loop guard


def test_after_twenty_messages_of_agents_items_are_suppressed_with_one_notice(colony: Colony) -> None:
    for n in range(25):
        colony.post(colony.scout, f"@rook @bob {n}")
    items = colony.items("rook")
    assert [item.outcome for item in items] == [None] * 20 + ["suppressed"] * 5
    assert all((item.acked_at is None) == (item.outcome is None) for item in items)
    assert [item.outcome for item in colony.items("bob")] == [None] * 25  # people are always reached
    assert [message.seq for message in notices(colony)] == [22]
    assert "20" in notices(colony)[0].body
    assert len(colony.inbox(colony.rook)) == 20


def test_a_person_ends_the_streak(colony: Colony) -> None:
    for n in range(22):
        colony.post(colony.scout, f"@rook {n}")
    colony.post(colony.ann, "go on")
    colony.post(colony.scout, "@rook again")
    assert colony.items("rook")[-1].outcome is None
    for n in range(21):
        colony.post(colony.scout, f"@rook {n}")
    assert len(notices(colony)) == 2  # a new streak, a new notice


def test_a_streak_in_one_channel_silences_no_other(colony: Colony) -> None:
    colony.watch(colony.scout, colony.open_channel("garden"))
    for n in range(22):
        colony.post(colony.scout, f"@rook {n}")
    colony.post(colony.scout, "@rook", channel="garden")
    assert colony.items("rook")[-1].outcome is None


def chain(colony: Colony, links: int) -> schema.Turn:
    """Scout and rook answer each other; gives the turn of the last link, still running."""
    agents = [colony.scout, colony.rook]
    names = ["scout", "rook"]
    colony.post(colony.ann, "@scout start")
    for n in range(links - 1):
        colony.finish(colony.turn(agents[n % 2]), f"@{names[(n + 1) % 2]} your turn")
    return colony.turn(agents[(links - 1) % 2])


def test_hops_grow_by_one_with_each_agent_that_passes_a_thought_on(colony: Colony) -> None:
    chain(colony, 5)
    assert [message.hops for message in colony.read()] == [0, 1, 2, 3, 4]


def test_beyond_eight_hops_nobody_is_woken_and_the_channel_is_told_once(colony: Colony) -> None:
    turn = chain(colony, 9)
    other = "scout" if turn.agent == "rook" else "rook"
    before = len(colony.items(other))
    for n in range(3):
        colony.post(colony.in_turn(turn), f"@{other} {n}", client_id=f"{turn.id}:{n}")
    colony.finish(turn, f"@{other} and again")
    assert [item.outcome for item in colony.items(other)[before:]] == ["suppressed"] * 4
    assert len(notices(colony)) == 1
    assert "8" in notices(colony)[0].body


def test_a_turn_of_many_items_takes_the_highest_hops(colony: Colony) -> None:
    chain(colony, 3)
    colony.post(colony.ann, "@rook hello")
    turn = colony.turn(colony.rook) if len(colony.inbox(colony.rook)) else None
    assert turn
    assert colony.post(colony.in_turn(turn), "x").hops == 1 + max(item.message.hops for item in turn.items)


@only_sqlite
def test_the_guards_limits_are_settings(database_url: str, clock: Clock) -> None:
    colony = Colony(database_url, clock, ServerConfig(database_url, guard=LoopGuard(max_hops=8, max_agent_streak=2)))
    for n in range(4):
        colony.post(colony.scout, f"@rook {n}")
    assert [item.outcome for item in colony.items("rook")] == [None, None, "suppressed", "suppressed"]
    assert len(notices(colony)) == 1
    colony.close()


def test_a_suppressed_item_is_in_nobodys_inbox_and_starts_no_turn(colony: Colony) -> None:
    for n in range(21):
        colony.post(colony.scout, f"{n}")
    colony.post(colony.scout, "@rook")
    assert colony.inbox(colony.rook) == []
    assert colony.claim(colony.rook).turn is None
    assert not colony.heartbeat("rook").due
    assert colony.count(inbox, inbox.c.outcome == "suppressed") == 1


def test_a_message_that_names_thousands_reaches_whom_it_names_or_is_refused(colony: Colony) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [f"@q{a}{b}{c}" for a in letters for b in letters for c in letters]
    began = time.monotonic()
    refusal = ""
    try:
        colony.post(colony.ann, " ".join(["@scout @rook", *names])[:65_000].rpartition(" ")[0])
    except errors.Invalid as refused:
        refusal = refused.detail
    assert refusal.startswith("body: mentions") if refusal else triggers(colony) == {"rook": ["mention"], "scout": ["mention"]}
    assert bool(colony.read()) == (not refusal)
    assert time.monotonic() - began < 3
