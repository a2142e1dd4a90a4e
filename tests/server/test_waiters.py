"""Sleeping until a topic is woken."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from unittest.mock import patch

import pytest

from colony import errors, operations, schema
from server.config import ServerConfig
from server.gate import HANDLERS, Call
from server.models import user
from server.waiters import Seats, Waiters
from tests.server.following import wait_for
from tests.server.support import Clock, Colony


def soon(seconds: float = 10) -> float:
    return time.monotonic() + seconds


def test_a_wake_between_the_look_and_the_wait_is_not_lost() -> None:
    waiters = Waiters()
    moment = waiters.moment
    waiters.wake("a")
    began = time.monotonic()
    assert waiters.wait("a", moment, soon())
    assert time.monotonic() - began < 3


def test_a_wake_before_the_look_is_old_news() -> None:
    waiters = Waiters()
    waiters.wake("a")
    assert not waiters.wait("a", waiters.moment, soon(0.05))


def test_another_topic_wakes_nobody_and_a_passed_deadline_ends_the_wait() -> None:
    waiters = Waiters()
    moment = waiters.moment
    waiters.wake("b")
    assert not waiters.wait("a", moment, soon(0.05))
    assert not waiters.wait("a", moment, soon(-1))
    assert waiters.asleep == 0


def test_one_wake_reaches_everyone_on_all_its_topics() -> None:
    waiters = Waiters()
    with ThreadPoolExecutor(20) as pool:
        asleep = [pool.submit(waiters.wait, topic, waiters.moment, soon()) for topic in ("a", "b") for _ in range(10)]
        while waiters.asleep < 20:
            time.sleep(0.001)
        waiters.wake("a", "b")
        assert all(each.result(1) for each in asleep)
    assert waiters.asleep == 0


def test_closing_sends_everyone_home_and_lets_nobody_in() -> None:
    waiters = Waiters()
    with ThreadPoolExecutor(5) as pool:
        asleep = [pool.submit(waiters.wait, "a", waiters.moment, soon()) for _ in range(5)]
        while waiters.asleep < 5:
            time.sleep(0.001)
        waiters.close()
        assert not any(each.result(1) for each in asleep)
    assert waiters.is_closed
    began = time.monotonic()
    assert not waiters.wait("a", waiters.moment, soon())
    assert time.monotonic() - began < 3


def test_however_they_interleave_no_wake_is_lost_and_nobody_is_left_behind() -> None:
    """Wakers count up; each sleeper must see the last count long before its deadline."""
    waiters, counts, last = Waiters(), dict.fromkeys("abc", 0), 300
    mutex = threading.Lock()

    def sleeper(topic: str) -> None:
        seen = 0
        while seen < last:
            moment = waiters.moment
            seen = counts[topic]
            if seen < last:
                assert waiters.wait(topic, moment, soon(20)), f"{topic} slept through at {seen}"

    def short_sleeper(topic: str) -> None:
        while counts[topic] < last:
            waiters.wait(topic, waiters.moment, soon(random.random() / 500))

    def waker(topic: str) -> None:
        for _ in range(last // 3):
            with mutex:
                counts[topic] += 1
            waiters.wake(topic)

    with ThreadPoolExecutor(24) as pool:
        running = [pool.submit(work, topic) for topic in "abc" for work in (sleeper, sleeper, short_sleeper, waker, waker, waker)]
        for each in running:
            each.result(60)
    assert waiters.asleep == 0


def test_a_seat_that_was_left_is_free_and_others_have_their_own() -> None:
    seats = Seats(1)
    for _ in range(3):
        with seats.taken(7), seats.taken(8), pytest.raises(errors.LimitReached), seats.taken(7):
            pass
    with pytest.raises(ValueError, match="left in haste"), seats.taken(7):
        raise ValueError("left in haste")
    with seats.taken(7):
        pass


def test_of_one_users_requests_one_is_worked_on_at_a_time_and_nobody_else_waits(database_url: str, clock: Clock) -> None:
    colony = Colony(database_url, clock, ServerConfig(database_url))
    at_work: Counter[str] = Counter()
    most: Counter[str] = Counter()
    both = Barrier(2, timeout=10)

    def look(call: Call, request: schema.Whoami) -> schema.User:
        name = call.caller.username
        at_work[name] += 1
        most[name] = max(most[name], at_work[name])
        both.wait()  # for the other one's
        time.sleep(0.02)
        at_work[name] -= 1
        return user.show(call.connection, name)

    with patch.dict(HANDLERS, whoami=look), ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(who.call, operations.WHOAMI, schema.Whoami()) for _ in range(8) for who in (colony.ann, colony.bob)]
        assert {each.result(20).username for each in asked} == {"ann", "bob"}
    assert most == {"ann": 1, "bob": 1}
    colony.close()


def test_who_waits_very_often_at_once_is_refused_and_nobody_else_is(database_url: str, clock: Clock) -> None:
    colony = Colony(database_url, clock, ServerConfig(database_url, max_waits=2))
    with ThreadPoolExecutor() as pool:
        news = [pool.submit(colony.inbox, colony.bob, wait=20) for _ in range(2)]
        wait_for(lambda: colony.gate.waiters.asleep == 2, "both wait")
        with pytest.raises(errors.LimitReached, match="2 requests of yours wait already"):
            colony.inbox(colony.bob, wait=20)
        assert colony.inbox(colony.bob) == [], "who does not wait takes no seat"
        others = pool.submit(colony.inbox, colony.ann, wait=20)
        colony.post(colony.ann, "@bob news")
        colony.post(colony.bob, "@ann news")
        assert [len(each.result(10)) for each in (*news, others)] == [1, 1, 1]
    colony.close()
