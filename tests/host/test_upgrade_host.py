"""Newer code comes to a host; and goes again where it doesn't serve."""

from __future__ import annotations

import json
from collections.abc import Callable

from server import migrations
from tests.guest.guest import Guest
from tests.guest.layers import SOURCE
from tests.host.cast import answer, birth, messages, one_line, prepare, say
from tests.host.hosting import arm, install, release, serves, steps, version

CHANGE = ("stop", "units", "code", "start")
NEWER_SCHEMA = '''"""A newer schema."""
import sqlalchemy
from alembic import op
revision, down_revision = "9999", "{head}"
def upgrade(): op.add_column("channels", sqlalchemy.Column("colour", sqlalchemy.Text()))
def downgrade(): pass
'''


def append(text: str) -> Callable[[str], str]:
    return lambda before: before + text


MIGRATES: dict[str, Callable[[str], str]] = {
    "server/migrations/__init__.py": lambda before: before.replace(f'HEAD = "{migrations.HEAD}"', 'HEAD = "9999"'),
    "server/migrations/versions/rev_9999_newer.py": lambda before: NEWER_SCHEMA.format(head=migrations.HEAD),
}
FALLS: dict[str, Callable[[str], str]] = {
    "server/process.py": lambda before: before.replace("_require_free(listen)\n", 'raise SystemExit("it falls over")\n', 1)
}


def said(machine: Guest) -> list[str]:
    return [message["body"] for message in messages(machine)]


def releases(machine: Guest) -> set[str]:
    return {path.name for path in machine.path("/opt/colony/releases").iterdir()}


def test_newer_code_serves_and_agents_keep_theirs_until_they_are_upgraded(machine: Guest) -> None:
    prepare(machine)
    birth(machine, "scout")
    first, worker = release(machine), machine.unit("agent-scout-worker.service", "MainPID")
    assert answer(machine, say(machine, "@scout before")) == "you said: @scout before"
    install(machine, version(machine, "newer", {"README.md": append("newer\n")}))
    assert serves(machine) == release(machine) != first
    assert machine.unit("agent-scout-worker.service", "MainPID") == worker, "the worker has not even noticed"
    assert releases(machine) == {first.name, release(machine).name}
    assert answer(machine, say(machine, "@scout after")) == "you said: @scout after"
    machine.run("colony-agent", "upgrade", "--all", seconds=120)
    assert answer(machine, say(machine, "@scout newer")) == "you said: @scout newer"


def test_one_goes_back_to_the_release_before_and_to_and_fro(machine: Guest) -> None:
    prepare(machine)
    birth(machine, "scout")
    first = release(machine)
    install(machine, version(machine, "newer", {"README.md": append("newer\n")}))
    newer = release(machine)
    machine.run("colony-agent", "upgrade", "--all", seconds=120)
    assert steps(machine) == [], "what nobody runs any more is kept, to go back to"
    assert steps(machine, "--release", "previous") == [*CHANGE]
    assert serves(machine) == release(machine) == first
    assert steps(machine, "--release", first.name) == steps(machine) == []
    assert "sudo colony-agent upgrade --all brings its agents to it" in machine.run("colony-server", "install").stdout
    machine.run("colony-agent", "upgrade", "--all", seconds=120)
    assert answer(machine, say(machine, "@scout back?")) == "you said: @scout back?"
    there = one_line(machine.run("colony-server", "install", "--release", "9.9", check=False))
    assert there.startswith("colony-server: there is no release 9.9 on this machine; there are ")
    assert f"{first.name} (current)" in there
    assert steps(machine, "--release", newer.name) == [*CHANGE]
    assert serves(machine) == newer
    install(machine, version(machine, "third", {"README.md": append("third\n")}))
    assert releases(machine) == {first.name, newer.name, release(machine).name}, "scout runs the first, and newer was the one before"
    machine.run("colony-agent", "upgrade", "--all", seconds=120)
    assert steps(machine) == ["tidy"]
    assert releases(machine) == {newer.name, release(machine).name}


def test_a_schema_that_is_newer_comes_with_the_code_and_older_code_is_refused_then(machine: Guest) -> None:
    say(machine, "remember this")
    install(machine, version(machine, "migrates", MIGRATES))
    assert said(machine) == ["remember this"]
    assert machine.run("colony-server", "migrate", "--check", user="colony").returncode == 0
    [copy] = machine.run("find", "/var/lib/colony/backups/upgrades", "-name", "*.db").stdout.split()
    checked = machine.run("colony-server", "--database", f"sqlite:///{copy}", "migrate", "--check", user="colony", check=False)
    assert checked.stdout == f"{copy}: {migrations.HEAD} → 9999\n", "it was made before"
    newer = release(machine)
    code, last = install(machine, SOURCE, check=False)
    assert code != 0
    assert last == f"colony-server: the database is at revision 9999, newer than this code ({migrations.HEAD}); upgrade the code"
    assert one_line(machine.run("colony-server", "install", "--release", "previous", check=False)) == last
    assert (serves(machine), release(machine)) == (newer, newer)


def test_code_that_falls_over_is_taken_back_and_its_schema_with_it(machine: Guest) -> None:
    before = release(machine)
    say(machine, "remember this")
    code, last = install(machine, version(machine, "falls", MIGRATES | FALLS), check=False)
    assert code != 0
    assert last.startswith("colony-server: a server that answers: colony-server.service is ")
    assert last.endswith(f"so the server runs release {before.name} again")
    assert (serves(machine), release(machine)) == (before, before)
    assert said(machine) == ["remember this"]
    machine.run("colony-server", "check", user="colony")
    say(machine, "and this")
    assert steps(machine) == ["tidy"], "the code that fell over goes"


def test_killed_after_any_step_another_install_completes_the_upgrade(machine: Guest) -> None:
    """To and fro between two releases that agents hold on to."""
    one = release(machine)
    machine.write("/etc/systemd/system/agent-one-worker.service", f"[Service]\nExecStart={one}/x\n")
    install(machine, version(machine, "two", {"README.md": append("two\n")}))
    two = release(machine)
    machine.write("/etc/systemd/system/agent-two-worker.service", f"[Service]\nExecStart={two}/x\n")
    say(machine, "still here")
    for number, step in enumerate(CHANGE):
        target = (one, two)[number % 2]
        server = f"{target}/.venv/bin/colony-server"
        assert machine.run(server, "install", env=arm(machine, step), check=False).returncode == 137
        machine.run(server, "install")
        assert (serves(machine), release(machine)) == (target, target), step
        assert json.loads(machine.run(server, "install", "--json").stdout)["steps"] == [], step
        assert said(machine) == ["still here"]
