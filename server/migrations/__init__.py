"""How the schema came to be, step by step."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from colony import errors

HEAD = "0013"  # the revision that this code works with


def upgrade(connection: Connection) -> str | None:
    """Bring the schema to HEAD within the connection's transaction; gives the revision it was at before. Raises `Invalid` for a newer."""
    from alembic import command
    from alembic.config import Config

    before = current(connection)
    require_not_newer(before)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
    return before


def current(connection: Connection) -> str | None:
    """The database's revision; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def require_head(connection: Connection) -> None:
    """Raises `Invalid` with what to do when the schema is not this code's."""
    found = current(connection)
    if found is None:
        raise errors.Invalid("the database is empty; run colony-server migrate")
    if found < HEAD:
        raise errors.Invalid(f"the database is at revision {found}, this code needs {HEAD}; stop the server and run colony-server migrate")
    require_not_newer(found)


def require_not_newer(found: str | None) -> None:
    """Raises `Invalid`."""
    if found is not None and found > HEAD:
        raise errors.Invalid(f"the database is at revision {found}, newer than this code ({HEAD}); upgrade the code")
