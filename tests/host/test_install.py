"""A machine becomes a host: what is there then, for whom, and what stands in the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.host import files
from tests.guest.guest import Guest
from tests.guest.layers import SOURCE, Layers
from tests.host.cast import one_line
from tests.host.hosting import SERVER, arm, release, serves, steps

UNITS = ("colony-server.service", "colony-backup.timer", "colony-home-backup.timer", "colony-prune.timer", "colony-watch.timer")
FIRST = ("accounts", "folders", "settings", "units", "code", "start", "commands", "gate", "ape")


@pytest.fixture(scope="module")
def host(installed: Path, layers: Layers) -> Iterator[Guest]:
    """For all tests of this file; each leaves it as it was. The Claude Code CLI is too large to be copied about."""
    with Guest(layers=[installed], binds=layers.binds()) as guest:
        guest.run("useradd", "--create-home", "human")
        guest.run("useradd", "--create-home", "eve")
        [claude] = guest.path("/opt/colony/claude").glob("*/claude")
        claude.unlink()
        claude.write_text("#!/bin/sh\n")
        claude.chmod(0o755)
        guest.run("cp", "-a", "/opt/colony", "/opt/kept")
        guest.path("/opt/kept/current").unlink()
        yield guest


def anew(host: Guest) -> str:
    """The code is there, and nothing else of a colony; gives its `colony-server`."""
    server = f"{release(host)}/.venv/bin/colony-server"
    host.run(server, "uninstall", "--purge", "--yes")
    host.run("cp", "-a", "/opt/kept", "/opt/colony")
    return server


def test_the_server_runs_and_comes_back_after_a_reboot(host: Guest) -> None:
    assert serves(host) == release(host)
    host.reboot()
    host.wait_until("colony", "whoami")
    for unit in UNITS:
        assert host.unit(unit, "ActiveState")["ActiveState"] == "active", unit
    assert host.run("systemctl", "list-units", "--failed", "--plain", "--no-legend").stdout == ""


def test_once_more_changes_nothing(host: Guest) -> None:
    ran = host.run("make", "--directory", SOURCE, "install")
    assert f"nothing to do: this machine is a host of agents, on release {release(host).name}; " in ran.stdout
    assert steps(host) == []


def test_each_command_says_which_release_it_is(host: Guest) -> None:
    for command in ("colony", "colony-agent", "colony-server"):
        assert host.run(command, "--version", user="eve").stdout == f"{command}, version {release(host).name}\n"


MODES = {
    "/opt/colony": "755 root root",
    "/var/lib/colony": "750 colony colony",
    "/var/lib/colony/colony.db": "600 colony colony",
    "/home/agents": "711 root root",
    "/etc/colony": "750 root colony",
    "/etc/colony/server.toml": "640 root colony",
    "/etc/colony/agents": "755 root root",
    "/etc/colony/credentials": "700 root root",
    "/var/backups/colony-agents": "700 root root",
    "/run/colony": "755 colony colony",
    "/run/colony/api.sock": "666 colony colony",
}


@pytest.mark.parametrize("path", MODES)
def test_each_place_is_whose_it_should_be(host: Guest, path: str) -> None:
    assert host.run("stat", "--format=%a %U %G", path).stdout.strip() == MODES[path]


def test_everybody_can_run_the_code_and_nobody_but_root_can_change_it(host: Guest) -> None:
    for user in ("eve", "colony"):
        assert host.run("find", "/opt/colony/", "-not", "-type", "l", "-writable", user=user).stdout == ""
        assert host.run("colony-agent", "--help", user=user).returncode == 0
        assert host.run("find", "/opt/colony/", "!", "-readable", user=user).stdout == ""
    assert host.run("find", "/opt/colony/releases", "-not", "-user", "root").stdout == ""


def test_what_the_services_import_is_compiled(host: Guest) -> None:
    for package in ("colony", "colony_agent", "egress", "provisioning", "server"):
        sources = host.run("find", f"{release(host)}/{package}", "-name", "*.py").stdout.split()
        compiled = host.run("find", f"{release(host)}/{package}", "-name", "*.pyc").stdout.split()
        assert len(sources) == len(compiled) > 0, package


def test_claude_code_lies_there_once_for_all_releases(host: Guest) -> None:
    link = host.path(f"{release(host)}/.venv/bin/claude").readlink()
    assert link.parts[:4] == ("/", "opt", "colony", "claude")


def test_no_service_is_more_exposed_than_it_may_be(host: Guest) -> None:
    listed = host.run("systemctl", "list-unit-files", "--plain", "--no-legend", "colony-*.service").stdout
    services = [line.split()[0] for line in listed.splitlines()]
    assert services == [name for name in files.unit_names() if name.endswith(".service")]
    for service in services:
        told = json.loads(host.run("systemd-analyze", "security", "--json=short", service).stdout)
        exposure = sum(float(each["exposure"] or 0) for each in told)
        assert host.run("systemd-analyze", "security", "--threshold=20", service).returncode == 0, (service, exposure)


@pytest.mark.parametrize("service", ["colony-backup", "colony-home-backup", "colony-prune", "colony-watch"])
def test_what_a_timer_starts_works_within_its_walls(host: Guest, service: str) -> None:
    host.run("systemctl", "start", f"{service}.service")
    assert host.unit(f"{service}.service", "Result")["Result"] == "success"
    if service == "colony-backup":
        [copy] = host.run("find", "/var/lib/colony/backups", "-name", "colony-*.db").stdout.split()
        assert host.run("colony-server", "--database", f"sqlite:///{copy}", "check", user="colony").stdout


def test_the_settings_file_is_the_server_s(host: Guest) -> None:
    host.run("sed", "-i", "s/^#port = 8700/port = 8811/", "/etc/colony/server.toml")
    host.run("systemctl", "restart", SERVER)
    host.run("curl", "--fail", "--silent", "http://127.0.0.1:8811/healthz")
    assert steps(host) == [], "what people have set stays"
    host.run("sed", "-i", "s/^port = 8811/prot = 8811/", "/etc/colony/server.toml")
    refused = one_line(host.run("colony-server", "install", check=False))
    assert refused.startswith("colony-server: /etc/colony/server.toml: [run] prot is unknown; known are port"), "before it stops anything"
    assert host.run("systemctl", "restart", SERVER, check=False).returncode != 0
    assert refused in host.journal(SERVER)
    host.run("sed", "-i", "s/^prot = 8811/#port = 8700/", "/etc/colony/server.toml")
    assert steps(host) in (["start", "gate"], []), "perhaps systemd was faster"
    assert serves(host) == release(host)


# --- who is who


def test_who_called_sudo_is_the_first_person(host: Guest) -> None:
    assert steps(host, env={"SUDO_USER": "human"}) == ["ape"]
    assert json.loads(host.run("colony", "whoami", "--json", user="human").stdout)["username"] == "human"
    assert steps(host, env={"SUDO_USER": "human"}) == []
    stranger = host.run("colony", "whoami", user="eve", check=False)
    assert one_line(stranger).startswith("colony: Linux user eve is no user of this colony; ")


def test_a_person_can_be_named_who_has_no_account_here(host: Guest) -> None:
    assert steps(host, "--ape", "far-away") == ["ape"]
    assert "far-away" in host.run("colony", "users").stdout
    refused = host.run("colony-server", "install", "--ape", "Not A Name", check=False)
    assert "'Not A Name' can't be a person's name in the colony" in one_line(refused)


# --- what was taken away comes back

DAMAGES = {
    "a stopped server": (["systemctl", "stop", SERVER], ["start", "gate"]),  # nobody can say whom the colony knows
    "a stopped gate": (["systemctl", "stop", "colony-egress"], ["start"]),
    "a timer that is off": (["systemctl", "disable", "--now", "colony-backup.timer"], ["start"]),
    "a lost unit": (["rm", f"/etc/systemd/system/{SERVER}"], ["stop", "units", "start"]),
    "a changed unit": (["sed", "-i", "s/WatchdogSec=60/WatchdogSec=6/", f"/etc/systemd/system/{SERVER}"], ["stop", "units", "start"]),
    "a lost command": (["rm", "/usr/local/bin/colony"], ["commands"]),
    "a folder that all can write": (["chmod", "777", "/var/lib/colony"], ["folders"]),
    "lost settings": (["rm", "/etc/colony/server.toml"], ["settings"]),
    "a lost group": (["groupdel", "colony-agents"], ["accounts"]),
    "a lost link": (["rm", "/opt/colony/current"], ["stop", "code", "start"]),
    "a release that nobody runs": (["mkdir", "/opt/colony/releases/0.0.1-old"], ["tidy"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_taken_away_comes_back(host: Guest, damage: str) -> None:
    command, expected = DAMAGES[damage]
    server = f"{release(host)}/.venv/bin/colony-server"
    host.run(*command)
    done = json.loads(host.run(server, "install", "--json").stdout)["steps"]
    assert [step["name"] for step in done] == expected
    assert steps(host) == []
    assert serves(host) == release(host)


# --- interrupted, twice at once


@pytest.mark.parametrize("step", FIRST)
def test_killed_after_any_step_another_install_completes_it(host: Guest, step: str) -> None:
    server = anew(host)
    killed = host.run(server, "install", "--ape", "human", env=arm(host, step), check=False)
    assert killed.returncode == 137
    host.run(server, "install", "--ape", "human")
    assert steps(host, "--ape", "human") == []
    assert host.run("colony", "whoami", user="human").returncode == 0


def test_two_at_once_do_it_one_after_the_other(host: Guest) -> None:
    server = anew(host)
    both = [host.start(server, "install", "--json") for _ in range(2)]
    said = [each.communicate(timeout=60) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    done = sorted(len(json.loads(out)["steps"]) for out, _ in said)
    assert done == [0, len(FIRST) - 1], "one did it all, the other had nothing to do"
    assert sum("another install is at work; waiting for it" in err for _, err in said) <= 1


# --- what stands in the way


def test_only_root_may(host: Guest) -> None:
    for command in (["colony-server", "install"], ["colony-server", "uninstall"], [f"{SOURCE}/bin/install"], [f"{SOURCE}/bin/uninstall"]):
        assert "root" in one_line(host.run(*command, user="human", check=False))


@pytest.mark.parametrize(("option", "says"), [("--prot", "unknown option --prot"), ("--ape", "--ape needs a value"), ("x", "option x")])
def test_a_wrong_option_is_said_before_anything_else(host: Guest, option: str, says: str) -> None:
    assert says in one_line(host.run(f"{SOURCE}/bin/install", option, user="human", check=False))


def test_without_systemd_there_is_no_host(host: Guest) -> None:
    hidden = "mount -t tmpfs none /run/systemd && exec "
    for command in (f"{SOURCE}/bin/install", "colony-server install", "colony-server uninstall"):
        ran = host.run("unshare", "--mount", "sh", "-c", hidden + command, check=False)
        assert "systemd does not run here" in one_line(ran)


def test_a_port_that_is_taken_is_said_at_once(host: Guest) -> None:
    server = anew(host)
    taking = "import socket, time; s = socket.create_server(('127.0.0.1', 8700)); time.sleep(600)"
    host.run("systemd-run", "--unit=taker", "/usr/bin/python3", "-c", taking)
    host.wait_until("sh", "-c", "ss -Htln | grep -q :8700")
    assert one_line(host.run(server, "install", check=False)) == "colony-server: port 8700 is taken; name another with --port"
    assert not host.path("/etc/colony").exists(), "nothing was begun"
    host.run(server, "install", "--port", "8822")
    host.run("curl", "--fail", "--silent", "http://127.0.0.1:8822/healthz")
    host.run("systemctl", "stop", "taker")
    refused = host.run("colony-server", "install", "--port", "8833", check=False)
    assert "server.toml says port 8822; name another in /etc/colony/server.toml" in one_line(refused)


def test_a_person_called_colony_is_not_the_server(host: Guest) -> None:
    server = anew(host)
    host.run("useradd", "--create-home", "colony")
    assert "there is a Linux user colony already" in one_line(host.run(server, "install", check=False))
    assert not host.path("/etc/colony").exists()
    host.run("userdel", "--remove", "colony")
    host.run(server, "install")


def test_a_full_disk_is_said_at_once(installed: Path, layers: Layers) -> None:
    with Guest(layers=[installed], binds=layers.binds(), disk_bytes=400 * 2**20) as small:
        small.run("fallocate", "--length=300M", "/var/tmp/filler")
        assert "MB free; free at least 200 MB" in one_line(small.run("colony-server", "install", check=False))
        small.run("rm", "-r", "/opt/colony/releases")
        refused = small.run(f"{SOURCE}/bin/install", check=False)
        assert "/opt has" in one_line(refused)
        assert not small.path("/opt/colony/releases").exists()


def test_without_a_purge_is_asked_for_by_its_word_nothing_goes(host: Guest) -> None:
    for said in ("", "yes\n"):
        refused = host.run("colony-server", "uninstall", "--purge", stdin=said, check=False)
        assert refused.stderr.splitlines()[-1].endswith("nothing was removed")
        assert refused.returncode == 2
    assert steps(host) == []
    assert "data" in steps(host, "--purge", "--dry-run", command="uninstall")
    assert steps(host) == []
