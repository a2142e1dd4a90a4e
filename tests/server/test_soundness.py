"""`colony-server check`: every rule holds in a colony that is used, and each is noticed when it is broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from colony import errors, operations, schema
from server import invariants, soundness
from server.database import open_database, sqlite_url
from tests.server.samples import contact, room
from tests.server.support import Colony

_FIRST, _UNBOUND = "(SELECT min(id) FROM turns)", "turn_id IS NULL AND acked_at IS NULL"
_ATTIC = "(SELECT id FROM channels WHERE name = 'attic')"
BREAKS = {
    "messages are numbered without gaps": ["UPDATE channels SET last_seq = last_seq + 1 WHERE name = 'general'"],
    "a message reaches a user once": [
        'INSERT INTO inbox (agent_id, message_id, channel_id, "trigger", created_at) '
        f'SELECT agent_id, message_id, channel_id, "trigger", created_at FROM inbox WHERE {_UNBOUND}'
    ],
    "an item lies in its message's channel": ["UPDATE inbox SET channel_id = (SELECT id FROM channels WHERE name = 'ops')"],
    "an item is open, or it has an outcome": ["UPDATE inbox SET outcome = 'dead' WHERE acked_at IS NULL"],
    "an open item is bound to a turn that goes on, or to none": [f"UPDATE inbox SET turn_id = {_FIRST} WHERE {_UNBOUND}"],
    "an item's turn is its receiver's": [f"UPDATE inbox SET turn_id = (SELECT max(id) FROM turns) WHERE {_UNBOUND}"],
    "what is answered has an answer": ["UPDATE messages SET turn_id = NULL"],
    "nothing waits for the dead": ["UPDATE users SET status = 'dead' WHERE username = 'scout'"],
    "an agent has at most one running turn": [
        "DROP INDEX uq_turns_running",
        "UPDATE turns SET state = 'running', agent_id = (SELECT id FROM users WHERE username = 'rook')",
    ],
    "a resting turn has something to wake for": [f"UPDATE turns SET state = 'resting' WHERE id = {_FIRST}"],
    "a turn goes on, or it has an end": [f"UPDATE turns SET finished_at = NULL WHERE id = {_FIRST}"],
    "who posts in a turn is its agent": ["UPDATE messages SET turn_id = (SELECT max(id) FROM turns) WHERE turn_id IS NOT NULL"],
    "users.kind is known": ["UPDATE users SET kind = 'robot' WHERE username = 'ann'"],
    "users.status is known": ["UPDATE users SET status = 'asleep' WHERE username = 'ann'"],
    "inbox.trigger is known": ["UPDATE inbox SET \"trigger\" = 'telepathy'"],
    "inbox.outcome is known": ["UPDATE inbox SET outcome = 'eaten' WHERE acked_at IS NOT NULL"],
    "turns.kind is known": ["UPDATE turns SET kind = 'nap'"],
    "a contact's turn is its agent's": ["UPDATE egress_log SET turn_id = (SELECT max(id) FROM turns)"],
    "the dead have no egress rules": ["UPDATE users SET status = 'dead' WHERE username = 'rook'"],
    "egress_rules.effect is known": ["UPDATE egress_rules SET effect = 'maybe'"],
    "egress_log.verdict is known": ["UPDATE egress_log SET verdict = 'lost'"],
    "egress_log.kind is known": ["UPDATE egress_log SET kind = 'pigeon'"],
    "what waits in a private channel waits for a member": ["UPDATE channels SET is_private = true WHERE name = 'general'"],
    "who works in a private channel is a member": ["UPDATE channels SET is_private = true WHERE name = 'garden'"],
    "who watches a private channel is a member": [f"INSERT INTO watches (channel_id, user_id) VALUES ({_ATTIC}, 1)"],
    "only private channels have members": ["UPDATE channels SET is_private = false"],
    "the dead are members of nothing": ["UPDATE users SET status = 'dead' WHERE username = 'ann'"],
    "turns.state is known": [f"UPDATE turns SET state = 'lost' WHERE id = {_FIRST}"],
}


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("colony-server")
    return subprocess.run([script, *map(str, arguments), "check"], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def used(colony: Colony) -> Colony:
    """A colony with a turn that is finished, one that runs, a message that waits, and a private channel."""
    room(colony)
    colony.open_channel("garden")
    colony.post(colony.ann, "@scout one")
    colony.finish(colony.turn(colony.scout), "done")
    colony.post(colony.ann, "@rook one", channel="garden")
    colony.turn(colony.rook)
    colony.post(colony.ann, "@scout two")
    colony.admin.call(operations.SET_EGRESS, schema.SetEgress(agent="rook", effect="allow", host="pypi.org"))
    colony.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=[contact(colony, "nobody")]))
    return colony


def test_a_colony_that_is_used_is_sound(used: Colony) -> None:
    report = soundness.examine(used.database_url)
    assert report.findings == []
    assert report.sizes == {"users": 5, "channels": 4, "messages": 4, "inbox": 3, "turns": 2}
    ran = check("--database", used.database_url)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "sound; 5 users, 4 channels, 4 messages, 3 inbox, 2 turns" in ran.stdout


def test_every_rule_has_a_way_to_break_it() -> None:
    assert sorted(rule.name for rule in invariants.RULES) == sorted(BREAKS)


@pytest.mark.parametrize("rule", invariants.RULES, ids=lambda rule: rule.name)
def test_a_broken_rule_is_noticed(used: Colony, rule: invariants.Rule) -> None:
    for statement in BREAKS[rule.name]:
        used.execute(statement)
    with used.gate.database.read() as connection:
        assert connection.execute(rule.query).first()
        found = list(invariants.findings(connection))
    assert found
    assert all("{" not in finding and "\n" not in finding for finding in found)


def test_findings_come_a_line_each_and_fail_the_command(sqlite_file: Path, tmp_path: Path) -> None:
    file = shutil.copyfile(sqlite_file, tmp_path / "colony.db")
    database = open_database(sqlite_url(file))
    values = ", ".join(f"('c{number:02}', 1, 0)" for number in range(30))
    database.write(lambda connection: connection.execute(text(f"INSERT INTO channels (name, last_seq, created_at) VALUES {values}")))
    database.close()
    ran = check("--home", tmp_path)
    assert ran.returncode == errors.StorageDamaged.exit_code
    lines = ran.stdout.splitlines()
    assert lines[0] == "channel c00: 0 messages from #1 to #0, but the last number is said to be #1"
    assert lines[-1] == "more of this kind: messages are numbered without gaps"
    assert len(lines) == invariants.MAX_PER_RULE + 1
    assert ran.stderr.count("\n") == 1


def test_dangling_references_and_another_schema_are_findings(sqlite_file: Path, tmp_path: Path) -> None:
    file = shutil.copyfile(sqlite_file, tmp_path / "colony.db")
    database = open_database(sqlite_url(file))
    database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '0001'")))
    assert "revision 0001" in soundness.examine(sqlite_url(file)).findings[0]
    with database.read() as connection:
        connection.exec_driver_sql("PRAGMA query_only=OFF")
        connection.connection.rollback()
        connection.connection.execute("PRAGMA foreign_keys=OFF")
        connection.connection.execute("INSERT INTO watches (channel_id, user_id) VALUES (77, 1)")
    database.close()
    (finding,) = soundness.examine(sqlite_url(file)).findings
    assert finding.startswith("watches ")
    assert "channels" in finding
