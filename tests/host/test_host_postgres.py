"""A host whose colony lives on a PostgreSQL: its services reach that, and there is no backup of ours."""

from __future__ import annotations

from tests.guest.guest import Guest
from tests.host.cast import one_line
from tests.host.hosting import SERVER, release, serves, steps

SETTINGS = "/etc/colony/server.toml"
URL = "postgresql://colony:word@127.0.0.1:5433/colony"
MAKE = """\
set -e
bin=$(dirname "$(ls /usr/lib/postgresql/*/bin/initdb)")
mkdir -p /srv/pg && chown postgres /srv/pg
runuser -u postgres -- $bin/initdb --pgdata=/srv/pg/data --auth-local=trust --auth-host=scram-sha-256 >/dev/null
systemd-run --unit=pg --uid=postgres --property=Type=notify $bin/postgres -D /srv/pg/data -p 5433 -k /srv/pg -c listen_addresses=127.0.0.1
psql="runuser -u postgres -- psql --host=/srv/pg --port=5433 --quiet"
$psql --command="CREATE USER colony PASSWORD 'word'" --command="CREATE DATABASE colony OWNER colony"
"""


def test_a_colony_moves_to_postgresql(machine: Guest) -> None:
    machine.run("bash", "-c", MAKE)
    settings = machine.path(SETTINGS)
    settings.write_text(f'database = "{URL}"\n' + settings.read_text())
    assert steps(machine) == ["stop", "units", "start"]
    assert serves(machine) == release(machine)
    assert steps(machine) == ["gate"], "the new database knows nobody yet"
    assert steps(machine) == []
    machine.run("colony", "post", "general", "hello")
    counted = ("psql", "--host=/srv/pg", "--port=5433", "--tuples-only", "--command=SELECT count(*) FROM messages", "colony")
    assert machine.run(*counted, user="postgres").stdout.strip() == "1"
    for gone in ("colony-backup.timer", "colony-backup.service"):
        assert machine.unit(gone, "LoadState")["LoadState"] == "not-found"
    for service in ("colony-prune.service", "colony-watch.service"):
        machine.run("systemctl", "start", service)
    assert "word" not in machine.run("systemctl", "show", SERVER).stdout
    assert machine.run("cat", SETTINGS, user="nobody", check=False).returncode != 0


def test_a_database_where_the_server_may_not_write_is_refused(machine: Guest) -> None:
    settings = machine.path(SETTINGS)
    settings.write_text('database = "sqlite:////srv/colony.db"\n' + settings.read_text())
    assert "the server can write in /var/lib/colony only" in one_line(machine.run("colony-server", "install", check=False))
    machine.run("colony", "whoami")
