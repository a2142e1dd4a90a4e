"""What waits for whom, until it is acknowledged."""

from __future__ import annotations

import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from colony import errors, operations, schema
from tests.server.cast import token_of
from tests.server.samples import room
from tests.server.support import Colony, only_sqlite


def ack(colony: Colony, username: str, ids: list[int]) -> list[int]:
    return colony.client(token_of(username)).call(operations.ACK, schema.AckInbox(ids=ids)).acked


def test_items_come_oldest_first_with_their_messages(colony: Colony) -> None:
    colony.open_channel("garden")
    sent = [colony.post(colony.ann, f"@bob {n}", channel=name) for n, name in enumerate(("general", "garden", "general"))]
    items = colony.inbox(colony.bob)
    assert [item.message for item in items] == sent
    assert [item.trigger for item in items] == ["mention"] * 3
    assert [item.message for item in colony.inbox(colony.bob, limit=2)] == sent[:2]


def test_the_inbox_can_be_read_by_trigger(colony: Colony) -> None:
    colony.bob.call(operations.WATCH, schema.WatchChannel(channel="general"))
    for body in ("plain", "@apes", "@bob"):
        colony.post(colony.ann, body)
    for trigger, body in (("watch", "plain"), ("broadcast", "@apes"), ("mention", "@bob")):
        assert [item.message.body for item in colony.inbox(colony.bob, trigger=trigger)] == [body]


def test_acknowledging_again_says_that_nothing_was_new(colony: Colony) -> None:
    for n in range(3):
        colony.post(colony.ann, f"@bob {n}")
    ids = [item.id for item in colony.inbox(colony.bob)]
    assert ack(colony, "bob", ids[:2]) == ids[:2]
    assert ack(colony, "bob", [ids[2], ids[0], ids[2], 99_999]) == ids[2:]
    assert ack(colony, "bob", ids) == []
    assert colony.inbox(colony.bob) == []
    assert [item.outcome for item in colony.items("bob")] == ["by_hand"] * 3


def test_an_acknowledgement_by_sixteen_threads_counts_once(colony: Colony) -> None:
    colony.post(colony.ann, "@bob")
    ids = [item.id for item in colony.inbox(colony.bob)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ack(colony, "bob", ids), range(16)))
    assert sorted(answers) == [[]] * 15 + [ids]


def test_nobody_acknowledges_the_items_of_others(colony: Colony) -> None:
    colony.post(colony.ann, "@bob @scout")
    ids = [item.id for name in ("bob", "scout") for item in colony.items(name)]
    assert ack(colony, "rook", ids) == []
    assert ack(colony, "ann", ids) == []
    assert len(colony.inbox(colony.bob)) == len(colony.inbox(colony.scout)) == 1


def test_only_an_administrator_reads_the_inbox_of_others(colony: Colony) -> None:
    colony.post(colony.ann, "@bob")
    assert len(colony.inbox(colony.admin, user="bob")) == 1
    assert len(colony.inbox(colony.bob, user="bob")) == 1
    with pytest.raises(errors.NotFound) as there:
        colony.inbox(colony.ann, user="bob")
    with pytest.raises(errors.NotFound) as nowhere:
        colony.inbox(colony.ann, user="nobody")
    assert there.value.detail.replace("bob", "nobody") == nowhere.value.detail  # missing and forbidden look alike


def test_a_long_poll_returns_at_the_mention(colony: Colony) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(colony.inbox, colony.bob, wait=20)
        while not colony.gate.waiters.asleep:
            time.sleep(0.005)
        began = time.monotonic()
        colony.post(colony.ann, "@bob")
        assert [item.message.body for item in waiting.result(5)] == ["@bob"]
        assert time.monotonic() - began < 5
    assert colony.gate.waiters.asleep == 0


def test_a_long_poll_ignores_what_is_for_others_and_ends_empty_on_time(colony: Colony) -> None:
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        waiting = pool.submit(colony.inbox, colony.bob, wait=0.6)
        colony.post(colony.ann, "@scout")
        colony.post(colony.bob, "@bob")
        assert waiting.result(5) == []
        assert 0.6 <= time.monotonic() - began < 5
    assert colony.gate.waiters.asleep == 0


def test_a_long_poll_for_one_trigger_sleeps_on_through_the_others(colony: Colony) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(colony.inbox, colony.bob, wait=20, trigger="mention")
        while not colony.gate.waiters.asleep:
            time.sleep(0.005)
        colony.post(colony.ann, "@apes")
        time.sleep(0.1)
        assert not waiting.done()
        colony.post(colony.ann, "@bob")
        assert [item.message.body for item in waiting.result(5)] == ["@bob"]


def test_a_reader_of_a_channel_is_woken_by_its_messages_alone(colony: Colony) -> None:
    colony.open_channel("garden")
    with ThreadPoolExecutor(1) as pool:
        request = schema.ReadMessages(channel="general", since=0, wait=20)
        waiting = pool.submit(colony.bob.call, operations.READ, request)
        while not colony.gate.waiters.asleep:
            time.sleep(0.005)
        colony.post(colony.ann, "elsewhere", channel="garden")
        time.sleep(0.1)
        assert not waiting.done()
        colony.post(colony.ann, "here")
        assert [message.body for message in waiting.result(5).messages] == ["here"]


@only_sqlite
def test_no_wake_is_lost_however_close_post_and_poll_come(colony: Colony) -> None:
    """A lost wake would let the poller sleep out its whole wait."""
    rounds = 400

    def poll() -> float:
        longest, seen = 0.0, 0
        while seen < rounds:
            began = time.monotonic()
            items = colony.inbox(colony.bob, wait=20)
            longest = max(longest, time.monotonic() - began)
            assert items, "slept through"
            seen += len(ack(colony, "bob", [item.id for item in items]))
        return longest

    def post_many(number: int) -> list[int]:
        ann = colony.client(token_of("ann"))
        return [colony.post(ann, "@bob").seq for _ in range(number)]

    with ThreadPoolExecutor(3) as pool:
        waiting = pool.submit(poll)
        posters = [pool.submit(post_many, rounds // 2) for _ in range(2)]
        assert waiting.result(60) < 5
        assert all(poster.result(5) for poster in posters)


def test_many_waiters_of_one_inbox_all_wake(colony: Colony) -> None:
    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(colony.inbox, colony.client(token_of("bob")), wait=20) for _ in range(12)]
        while colony.gate.waiters.asleep < 12:
            time.sleep(0.005)
        colony.post(colony.ann, "@bob")
        assert all(len(each.result(5)) == 1 for each in waiting)


def test_all_whom_a_post_reaches_wake_whatever_the_reason(colony: Colony) -> None:
    colony.bob.call(operations.WATCH, schema.WatchChannel(channel="general"))
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(colony.inbox, each, wait=20) for each in (colony.scout, colony.rook, colony.bob)]
        while colony.gate.waiters.asleep < 3:
            time.sleep(0.005)
        colony.post(colony.ann, "@scout and all @agents")
        assert [item.trigger for each in waiting for item in each.result(5)] == ["mention", "broadcast", "watch"]


@only_sqlite
def test_who_leaves_very_much_open_is_not_read_into_memory(colony: Colony) -> None:
    attic, long = room(colony, "scout", "rook"), "x" * 60_000
    for channel in (attic, "general") * 20:
        colony.post(colony.ann, f"@scout {long}", channel)
    colony.post(colony.ann, "@rook hello", attic)

    def end(agent: str) -> None:
        colony.ann.call(operations.REMOVE_MEMBER, schema.RemoveMember(channel=attic, username=agent))
        colony.set_status(agent, "draining")
        colony.set_status(agent, "dead")

    end("rook")  # what is made when it is first used is no matter
    tracemalloc.start()
    try:
        end("scout")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(long), "of 40 messages"
    assert ["could not answer #1, #2, #3" in each.body for each in colony.read(since=20)] == [True]
