"""What a prepared statement gives is what an ordinary execution would have given."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Boolean, bindparam, literal_column, select, update
from sqlalchemy.exc import IntegrityError

from server.database import Database
from server.models.user import users
from server.prepared import Prepared
from tests.server.support import Colony

WHEN = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
_BY_NAME = Prepared(select(users).where(users.c.username == bindparam("name")))
_SEE = Prepared(update(users).where(users.c.kind == bindparam("kind")).values(last_seen_at=bindparam("now"), budget_usd_per_day=0.1))
_RENAME = Prepared(update(users).where(users.c.username == "bob").values(username=bindparam("name")))
_TRUTH = Prepared(select(literal_column("1 = 1", Boolean)))


@pytest.fixture
def database(colony: Colony) -> Database:
    return colony.gate.database


def test_a_row_has_names_and_python_s_own_values(database: Database) -> None:
    assert database.write(lambda connection: _SEE.run(connection, {"kind": "agent", "now": WHEN})) == 2
    with database.read() as connection:
        found = _BY_NAME.first(connection, {"name": "scout"})
        ordinary = connection.execute(select(users).where(users.c.username == "scout")).one()
    assert found is not None
    assert (found.username, found.last_seen_at, found.budget_usd_per_day) == ("scout", WHEN, 0.1)
    assert found._mapping == ordinary._mapping
    assert tuple(found) == tuple(ordinary)


def test_truth_stays_truth(database: Database) -> None:
    with database.read() as connection:
        assert _TRUTH.scalar(connection, {}) is True


def test_no_row_is_none(database: Database) -> None:
    with database.read() as connection:
        assert _BY_NAME.first(connection, {"name": "nobody"}) is None
        assert _BY_NAME.scalar(connection, {"name": "nobody"}) is None
        assert _BY_NAME.rows(connection, {"name": "nobody"}) == []


def test_a_mistake_is_sqlalchemy_s_error(database: Database) -> None:
    with pytest.raises(IntegrityError):
        database.write(lambda connection: _RENAME.run(connection, {"name": "ann"}))


def test_all_that_one_read_sees_is_of_one_moment(database: Database) -> None:
    with database.read() as connection:
        before = _BY_NAME.first(connection, {"name": "scout"})
        database.write(lambda other: _SEE.run(other, {"kind": "agent", "now": WHEN}))
        assert before is not None
        after = _BY_NAME.first(connection, {"name": "scout"})
    assert after is not None
    if connection.dialect.name == "sqlite":  # PostgreSQL's reads are of one moment each
        assert after.last_seen_at == before.last_seen_at
