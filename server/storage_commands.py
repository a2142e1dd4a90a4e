"""The commands of `colony-server` that look after what is stored: check, backup, restore, prune."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from colony import errors


@click.command()
@click.pass_obj
def check(database: str) -> None:
    """Look for damage, and for what must not be in a colony; a line each, or that all is well. A server may run beside it."""
    from server import soundness

    report = soundness.examine(database)
    for finding in report.findings:
        click.echo(finding)
    if report.findings:
        raise errors.StorageDamaged(f"{len(report.findings)} findings; a backup is put back with `colony-server restore FILE --force`")
    click.echo(f"{report.name}: sound; {', '.join(f'{count} {table}' for table, count in report.sizes.items())}")


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--keep", metavar="N", type=click.IntRange(1), help="Delete the oldest backups in DIR beyond N.")
@click.pass_obj
def backup(database: str, folder: Path, keep: int | None) -> None:
    """Copy the database into DIR and check the copy. The server goes on meanwhile."""
    from server import access, backup

    source = access.file(database, _DUMP.format(folder=folder))
    access.require_there(source)
    made = backup.make(source, folder, keep, datetime.now(UTC))
    speed = made.bytes / 1e6 / max(made.seconds, 1e-6)
    deleted = f"; {made.deleted} older deleted" if made.deleted else ""
    click.echo(f"{made.path}: {made.rows} rows, {made.bytes / 1e6:.1f} MB in {made.seconds:.2f} s ({speed:.0f} MB/s), checked{deleted}")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace the database that is there; it is kept beside the new one.")
@click.pass_obj
def restore(database: str, file: Path, force: bool) -> None:
    """Put a backup in the place of the database. The server must be stopped."""
    from server import access, backup

    target = access.file(database, _UNDUMP.format(file=file))
    access.make_folder(database)
    if not file.exists():
        raise errors.NotFound(f"there is no {file}")
    with access.held(database):
        if target.stat().st_size and not force:
            raise errors.Conflict(f"{target} is there already; --force puts it aside")
        aside = backup.restore(file, target, datetime.now(UTC))
    click.echo(f"{target}: restored from {file}" + (f"; what was there is now {aside}" if aside else ""))


@click.command()
@click.option("--days", type=click.IntRange(1, 36_500), default=7, show_default=True, help="How long a handled item or a contact is kept.")
@click.pass_obj
def prune(database: str, days: int) -> None:
    """Delete inbox items that were handled long ago, and what agents reached before that; messages stay. The server goes on meanwhile."""
    from server import access
    from server import prune as pruning

    now = datetime.now(UTC)
    with access.ready(database) as opened:
        pruned = pruning.prune(opened, now - timedelta(days=days), now)
    click.echo(f"{pruned.items} inbox items deleted that were handled more than {days} days ago, and {pruned.contacts} contacts as old")


COMMANDS = (check, backup, restore, prune)
_DUMP = "PostgreSQL makes its own backups: pg_dump --format=custom --file={folder}/colony.dump '{{url}}'"
_UNDUMP = "PostgreSQL has its own way: pg_restore --clean --if-exists --exit-on-error --dbname='{{url}}' {file}"
