"""Who waits leaves room for others."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from server import waiters
from tests.server.cast import token_of
from tests.server.support import Colony


def test_one_user_does_not_wait_with_all_the_servers_threads(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiters, "SEATS", 3)
    asleep = colony.gate.waiters
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(colony.inbox, colony.client(token_of("bob")), wait=20) for _ in range(3)]
        wait_until(lambda: asleep.asleep == 3)
        began = time.monotonic()
        assert colony.inbox(colony.bob, wait=20) == [], "one too many is answered at once"
        assert time.monotonic() - began < 10
        others = [pool.submit(colony.inbox, each, wait=20) for each in (colony.ann, colony.admin)]
        wait_until(lambda: asleep.asleep == 5)
        colony.post(colony.ann, "@bob")
        assert all(len(each.result(10)) == 1 for each in waiting)
        again = pool.submit(colony.inbox, colony.bob, wait=20, trigger="watch")
        wait_until(lambda: asleep.asleep == 3)
        asleep.close()
        assert [each.result(10) for each in (*others, again)] == [[], [], []]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)
