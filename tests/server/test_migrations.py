"""How the schema comes to be, and what happens on another one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from colony import errors
from server import migrations
from server.database import Database, open_database, sqlite_url
from server.models.tables import TABLES, metadata
from tests.server.postgres import Postgres
from tests.server.serving import Server


def set_revision(database: Database, revision: str) -> None:
    database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": revision}))


def colony_server(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("colony-server")
    return subprocess.run([str(script), *arguments], capture_output=True, text=True, check=False, timeout=20)


def test_the_migrated_schema_is_the_models(database_url: str) -> None:
    database = open_database(database_url)
    with database.read() as connection:
        options = {"compare_type": True, "compare_server_default": connection.dialect.name == "postgresql"}  # SQLite quotes them otherwise
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
        assert migrations.current(connection) == migrations.HEAD
        migrations.require_head(connection)
    database.close()
    assert set(TABLES) == set(metadata.tables.values())


def test_a_schema_that_lacks_something_would_be_noticed(database_url: str) -> None:
    database = open_database(database_url)
    database.write(lambda connection: connection.execute(text("DROP INDEX ix_inbox_message_id")))
    with database.read() as connection:
        assert len(compare_metadata(MigrationContext.configure(connection), metadata)) == 1
    database.close()


def test_upgrading_again_changes_nothing(database_url: str) -> None:
    database = open_database(database_url)
    assert database.write(migrations.upgrade) == migrations.HEAD
    database.close()


def test_an_empty_database_is_set_up_whole_or_not_at_all(tmp_path: Path, postgres: Postgres) -> None:
    for url in (sqlite_url(tmp_path / "new.db"), postgres.create("unborn")):
        database = open_database(url)

        def upgrade_and_crash(connection: object) -> None:
            migrations.upgrade(connection)  # type: ignore[arg-type]
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            database.write(upgrade_and_crash)
        with database.read() as connection:
            assert migrations.current(connection) is None
            with pytest.raises(errors.Invalid, match="colony-server migrate"):
                migrations.require_head(connection)
        assert database.write(migrations.upgrade) is None
        database.close()


@pytest.mark.parametrize(("revision", "says"), [("9999", "newer than this code"), ("0000", "colony-server migrate")])
def test_the_server_refuses_another_revision_in_one_line(sqlite_file: Path, tmp_path: Path, revision: str, says: str) -> None:
    shutil.copyfile(sqlite_file, tmp_path / "colony.db")
    database = open_database(sqlite_url(tmp_path / "colony.db"))
    set_revision(database, revision)
    database.close()
    ran = colony_server("--home", str(tmp_path), "run", "--port", "0", "--socket", str(tmp_path / "s"))
    assert ran.returncode == errors.Invalid.exit_code
    assert ran.stderr.count("\n") == 1
    assert revision in ran.stderr
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_command_migrates_a_new_database_and_says_so(tmp_path: Path) -> None:
    home = tmp_path / "house"
    for says in (f"new → {migrations.HEAD}", "up to date"):
        ran = colony_server("--home", str(home), "migrate")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert says in ran.stdout
    assert home.stat().st_mode & 0o007 == 0


def test_migrating_beside_a_running_server_harms_nobody(server: Server) -> None:
    ran = colony_server("--home", str(server.home), "migrate")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert server.answers(server.url)


def test_a_database_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "colony.db").write_text("this is a letter, not a database. " * 100)
    ran = colony_server("--home", str(tmp_path), "run", "--port", "0", "--socket", str(tmp_path / "s"))
    assert ran.returncode == errors.StorageDamaged.exit_code
    assert ran.stderr.count("\n") == 1
    assert "not a database" in ran.stderr
    assert "colony-server restore" in ran.stderr


def test_a_second_server_on_the_same_addresses_is_refused_in_one_line(server: Server) -> None:
    ran = subprocess.run(server.command(), capture_output=True, text=True, check=False, timeout=20)
    assert ran.returncode == errors.Unavailable.exit_code
    assert ran.stderr.count("\n") == 1
    assert server.answers(server.url)
