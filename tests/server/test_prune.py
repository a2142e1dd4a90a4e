"""Forgetting what was handled long ago: only that, and without anybody noticing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite
from sqlalchemy import Connection

from colony import errors, operations, schema
from server import prune, soundness
from server.database import sqlite_url
from server.models.approval import LIFETIME, approvals
from server.models.audit import audit
from server.models.contact import egress_log
from server.models.inbox import inbox
from server.models.message import messages
from tests.server.cast import token_of
from tests.server.samples import contact
from tests.server.serving import Server
from tests.server.support import Colony

DAY = 86_400


def forget(colony: Colony, days: int = 7) -> int:
    """How many inbox items are deleted."""
    return forget_all(colony, days).items


def forget_all(colony: Colony, days: int = 7) -> prune.Pruned:
    return prune.prune(colony.gate.database, colony.clock.now - timedelta(days=days), colony.clock.now)


def answer(colony: Colony, body: str = "@scout hello") -> schema.Turn:
    colony.post(colony.ann, body)
    return colony.finish(colony.turn(colony.scout), "done")


def test_only_what_was_handled_long_ago_is_forgotten(colony: Colony) -> None:
    old = answer(colony)
    colony.post(colony.ann, "@rook waits for ever")
    colony.clock.advance(6 * DAY)
    recent = answer(colony)
    colony.clock.advance(1 * DAY)
    assert forget(colony) == 0  # seven days to the second are not more than seven
    colony.clock.advance(1)
    assert forget(colony) == 1
    assert forget(colony) == 0
    assert [row.turn_id for row in colony.rows(inbox)] == [None, recent.id]
    assert colony.count(messages) == 5
    assert soundness.examine(colony.database_url).findings == []
    shown = colony.ann.call(operations.TURN, schema.GetTurn(id=old.id))
    assert (shown.state, shown.items, [post.body for post in shown.posts]) == ("finished", [], ["done"])
    assert colony.finish(old, "done").state == "finished"  # a repetition still changes nothing
    assert len(colony.replies(old.id)) == 1


def test_it_leaves_one_audit_row_when_it_forgets_something(colony: Colony) -> None:
    forget(colony)
    assert colony.count(audit, audit.c.operation == "prune") == 0
    for _ in range(3):
        answer(colony)
    colony.clock.advance(8 * DAY)
    forget(colony)
    (row,) = colony.rows(audit, audit.c.operation == "prune")
    assert (row.outcome, row.surface) == ("done", "command")
    assert row.params == '{"items":2,"contacts":0,"model_uses":0,"approvals":0}'  # the newest stays, for its number


def test_a_number_is_never_given_again(colony: Colony) -> None:
    answer(colony)
    highest = max(row.id for row in colony.rows(inbox))
    colony.clock.advance(8 * DAY)
    forget(colony)
    colony.post(colony.ann, "@scout again")
    assert min(row.id for row in colony.rows(inbox) if row.acked_at is None) > highest


def test_contacts_as_old_are_forgotten_but_not_that_a_host_was_reached(colony: Colony) -> None:
    colony.admin.call(operations.CREATE_USER, schema.CreateUser(username="newt", kind="agent", linux_user="newt"))

    def reach(host: str) -> None:
        reached = contact(colony, "newt", host, verdict="allowed")
        colony.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=[reached]))

    reach("old.example")
    colony.clock.advance(7 * DAY)
    reach("young.example")
    assert forget_all(colony) == prune.Pruned(0, 0, 0, 0)
    colony.clock.advance(1)
    assert forget_all(colony) == prune.Pruned(0, 1, 0, 0)
    (row,) = colony.rows(audit, audit.c.operation == "prune")
    assert row.params == '{"items":0,"contacts":1,"model_uses":0,"approvals":0}'
    assert [row.host for row in colony.rows(egress_log)] == ["young.example"]
    reach("old.example")
    assert len(colony.read("ops")) == 2, "it has been reached before"


def test_it_goes_in_small_steps(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(12):
        answer(colony)
    colony.post(colony.ann, "@scout @rook the last")
    colony.clock.advance(8 * DAY)
    monkeypatch.setattr(prune, "BATCH", 5)
    sizes: list[object] = []
    write = colony.gate.database.write

    def counted(work: Callable[[Connection], object]) -> object:
        found = write(work)
        sizes.append(found)
        return found

    monkeypatch.setattr(colony.gate.database, "write", counted)
    assert forget(colony) == 12
    assert sizes == [5, 5, 2, None]


def test_it_runs_beside_a_server_that_is_busy(server: Server) -> None:
    with server.client(token_of("ann")) as ann, server.client(token_of("bob")) as bob, ThreadPoolExecutor(4) as pool:

        def post(number: int) -> schema.Message:
            return ann.call(operations.POST, schema.PostMessage(channel="general", body=f"@bob {number}"))

        first = list(pool.map(post, range(60)))
        ids = [item.id for item in bob.call(operations.INBOX, schema.ReadInbox(limit=500)).items]
        bob.call(operations.ACK, schema.AckInbox(ids=ids))
        with closing(sqlite.connect(str(server.database))) as connection:
            connection.execute("UPDATE inbox SET acked_at = 0 WHERE acked_at IS NOT NULL")  # long ago
            connection.commit()
        argv: list[str | Path] = [Path(sys.executable).with_name("colony-server"), "--home", server.home, "prune"]
        posting = [pool.submit(post, number) for number in range(100)]
        ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith(("59 inbox", "60 inbox"))
        said = first + [each.result(60) for each in posting]
        assert sorted(message.seq for message in said) == list(range(1, 161))
        assert len(bob.call(operations.INBOX, schema.ReadInbox(limit=500)).items) == 100
    assert soundness.examine(sqlite_url(server.database)).findings == []


def test_what_was_asked_for_long_ago_is_forgotten_but_its_number_is_not(colony: Colony) -> None:
    colony.admin.call(operations.SET_ACL, schema.SetAcl(principal="scout", action="post", effect="hold"))

    def ask() -> None:
        with pytest.raises(errors.Held):
            colony.post(colony.scout, "may I?")
        colony.clock.advance(LIFETIME.total_seconds() + 60)

    ask()
    ask()
    colony.clock.advance(LIFETIME.total_seconds())
    found = prune.prune(colony.gate.database, colony.clock.now - LIFETIME, colony.clock.now)
    assert found.approvals == 1
    ask()
    assert [row.id for row in colony.rows(approvals)] == [2, 3]
    assert len(colony.read("ops")) == 3, "each is told"
