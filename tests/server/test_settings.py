"""The settings file of `colony-server`: what it decides, who reads it, and what it may hold."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pytest

from colony import config, errors
from provisioning.host import settings as host_settings
from server import migrations, settings
from server.cli import cli

SERVER = Path(sys.executable).with_name("colony-server")


def write(folder: Path, text: str) -> Path:
    path = folder / "server.toml"
    path.write_text(text)
    return path


def colony_server(*words: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COLONY_")}
    return subprocess.run([SERVER, *words], capture_output=True, text=True, env=environ | (env or {}))


def test_the_file_names_the_database(tmp_path: Path) -> None:
    file = write(tmp_path, f'database = "sqlite:///{tmp_path}/other.db"\n')
    assert colony_server("--config", file, "migrate").stdout == f"{tmp_path}/other.db: new → {migrations.HEAD}\n"


def test_its_tables_are_defaults_of_the_commands(tmp_path: Path) -> None:
    file = write(tmp_path, f'database = "sqlite:///{tmp_path}/colony.db"\n[backup]\nkeep = 2\n')
    colony_server("--config", file, "migrate")
    for _ in range(4):
        assert colony_server("--config", file, "backup", tmp_path / "copies").returncode == 0
    assert len([*(tmp_path / "copies").iterdir()]) == 2
    colony_server("--config", file, "backup", tmp_path / "copies", "--keep", "1")
    assert len([*(tmp_path / "copies").iterdir()]) == 1, "the command line comes first"


def test_the_environment_comes_before_the_file_and_the_command_line_before_both(tmp_path: Path) -> None:
    file = write(tmp_path, f'database = "sqlite:///{tmp_path}/file.db"\n')
    environ = {"COLONY_DATABASE": f"sqlite:///{tmp_path}/environ.db"}
    assert "environ.db" in colony_server("--config", file, "migrate", env=environ).stdout
    named = colony_server("--config", file, "--database", f"sqlite:///{tmp_path}/named.db", "migrate", env=environ)
    assert "named.db" in named.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port = 1", "port is unknown; known are database, [run], [backup], [prune]"),
        ("[rnu]\nport = 1", "rnu is unknown; known are database"),
        ("run = 1", "run must be a table: [run]"),
        ("[run]\nprot = 1", "[run] prot is unknown; known are port, socket, threads"),
        ("[run]\nport = '8700'", "[run] port must be a whole number, not '8700'"),
        ("[run]\nport = true", "[run] port must be a whole number, not True"),
        ("[run]\nport = 8700.5", "[run] port must be a whole number, not 8700.5"),
        ("[run]\nport = 70000", "[run] port: 70000 is not in the range"),
        ("[run]\nturn_usd = 'much'", "[run] turn_usd must be a number, not 'much'"),
        ("[run]\nsocket = 1", "[run] socket must be a text, not 1"),
        ("database = 1", "database must be a text, not 1"),
        ("home = '/srv'", "home is unknown"),
        ("[backup]\nfolder = 'x'", "[backup] folder is unknown; known are keep"),
        ("[prune]\ndays = 0", "[prune] days: 0 is not in the range"),
        ("[user]\nkind = 'ape'", "user is unknown"),
        ("config = 'x'", "config is unknown"),
        ("[run", "Expected ']'"),
    ],
)
def test_what_is_unknown_or_wrong_is_said_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = write(tmp_path, text)
    ran = colony_server("--config", file, "migrate")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("colony-server: ")
    assert ran.stderr.count("\n") == 1
    assert str(file) in ran.stderr
    assert says in ran.stderr


def test_settings_can_be_checked_without_a_colony(tmp_path: Path) -> None:
    for text in ("[run]\nport = -1\n", 'database = "mysql://db/colony"\n'):
        refused = colony_server("--config", write(tmp_path, text), "check-settings")
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    fine = colony_server("--config", write(tmp_path, 'database = "postgresql://colony:secret@db.example.org/colony"\n'), "check-settings")
    assert (fine.returncode, fine.stderr) == (0, "")
    assert fine.stdout == "the settings can be used; the database is postgresql://colony:***@db.example.org/colony\n"
    assert [*tmp_path.iterdir()] == [tmp_path / "server.toml"]


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    ran = colony_server("--config", tmp_path / "none.toml", "migrate")
    said = f"colony-server: there is no {tmp_path}/none.toml; give the path of a settings file with --config\n"
    assert (ran.returncode, ran.stderr) == (4, said)


def test_the_host_s_file_is_for_those_who_keep_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "HOST_FILE", write(tmp_path, ""))
    monkeypatch.setattr(config, "keeps_host", lambda: True)
    assert settings.file(None, None, {}) == settings.HOST_FILE
    assert settings.file(tmp_path / "named", None, {}) == tmp_path / "named"
    assert settings.file(None, tmp_path, {}) is None, "another colony's home was named"
    assert settings.file(None, None, {"COLONY_HOME": "/elsewhere"}) is None
    monkeypatch.setattr(config, "keeps_host", lambda: False)
    assert settings.file(None, None, {}) is None
    monkeypatch.undo()
    monkeypatch.setattr(settings, "HOST_FILE", tmp_path / "none")
    assert settings.file(None, None, {}) is None


def test_root_and_the_user_colony_keep_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config.keeps_host()
    assert (config.home({}), config.socket_path({})) == (config.HOST_HOME, config.HOST_SOCKET)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert not config.keeps_host()
    monkeypatch.setattr(config, "_user_name", lambda: config.HOST_USER)
    assert config.keeps_host()
    assert (config.home({}), config.socket_path({})) == (config.HOST_HOME, config.HOST_SOCKET)


# --- the file that an install writes


def uncommented(text: str) -> dict[str, Any]:
    lines = text.splitlines()
    return tomllib.loads("\n".join(line.removeprefix("#") if line.startswith("#") and line[1:2].isalpha() else line for line in lines))


def options(command: click.Command) -> dict[str, click.Option]:
    return {str(each.name): each for each in command.params if isinstance(each, click.Option)}


def test_it_names_every_option_once(tmp_path: Path) -> None:
    text = host_settings.first_text(8700)
    every = uncommented(text)
    meant = "\n".join(line.removeprefix("#") for line in text.splitlines() if "=" in line or "[" in line)
    assert settings.read(write(tmp_path, meant), cli)
    assert {key for key in every if key not in settings.COMMANDS} == {*settings.GENERAL, *settings.OTHERS}
    for name in settings.COMMANDS:
        assert every[name].keys() == options(cli.commands[name]).keys(), name


def test_what_it_shows_is_the_default() -> None:
    every = uncommented(host_settings.first_text(8700))
    for name in settings.COMMANDS:
        for key, option in options(cli.commands[name]).items():
            if isinstance(option.default, int | float):
                assert every[name][key] == option.default, key
    assert every["run"]["socket"] == str(config.HOST_SOCKET)
    assert every["homes"] == asdict(host_settings.Homes())


def test_it_sets_nothing_but_how_many_copies_are_kept(tmp_path: Path) -> None:
    tables = {"run": {}, "backup": {"keep": 7}, "homes": {}, "prune": {}}
    assert settings.read(write(tmp_path, host_settings.first_text(8700)), cli) == tables
    assert settings.read(write(tmp_path, host_settings.first_text(8800)), cli)["run"] == {"port": 8800}


def test_the_host_reads_of_it_what_its_units_depend_on(tmp_path: Path) -> None:
    assert host_settings.read(tmp_path / "none") is None
    assert host_settings.read(write(tmp_path, host_settings.first_text(8700))) == host_settings.ServerSettings()
    found = host_settings.read(write(tmp_path, 'database = "postgresql://colony:x@db.example.org:5432/colony"\n[run]\nport = 0\n'))
    assert found
    assert (found.is_sqlite, found.database_host, found.database_file, found.port) == (False, "db.example.org", None, 0)
    with pytest.raises(errors.Invalid, match="database must be a text"):
        host_settings.read(write(tmp_path, "database = 1"))
    with pytest.raises(errors.Invalid, match="the server can write in /var/lib/colony only"):
        host_settings.read(write(tmp_path, 'database = "sqlite:////srv/colony.db"'))


def test_what_is_kept_of_homes_is_for_the_host_to_read(tmp_path: Path) -> None:
    path = write(tmp_path, "[homes]\nkeep = 3\n")
    assert settings.read(path, cli)
    assert host_settings.read(path) == host_settings.ServerSettings(homes=host_settings.Homes(3))
    for text in ("homes = 1", "[homes]\nkept = 3", "[homes]\nkeep = 0", "[homes]\nkeep = true", "[homes]\nmax_mb = 'much'"):
        with pytest.raises(errors.Invalid, match="homes must be a table") as caught:
            host_settings.read(write(tmp_path, text))
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgresql://colony@db.example.org/colony", "db.example.org"),
        ("postgresql+psycopg://colony:x@10.0.0.1:5433/colony", "10.0.0.1"),
        ("postgresql:///colony?host=db.example.org", "db.example.org"),
        ("postgresql:///colony?host=/run/postgresql", ""),
        ("postgresql:///colony", ""),
        ("postgresql://localhost/colony", ""),
        ("postgresql://[::1]:5432/colony", ""),
        ("sqlite:////var/lib/colony/other.db", ""),
        ("", ""),
    ],
)
def test_the_database_s_machine_is_in_its_url(url: str, host: str) -> None:
    assert host_settings.ServerSettings(url).database_host == host


# --- migrate --check


def test_a_check_tells_what_is_due_and_changes_nothing(tmp_path: Path) -> None:
    home = ("--home", tmp_path)
    (tmp_path / "colony.db").touch()
    due = colony_server(*home, "migrate", "--check")
    assert (due.returncode, due.stdout) == (10, f"{tmp_path}/colony.db: new → {migrations.HEAD}\n")
    assert colony_server(*home, "migrate", "--check").returncode == 10
    colony_server(*home, "migrate")
    done = colony_server(*home, "migrate", "--check")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/colony.db: up to date\n")
