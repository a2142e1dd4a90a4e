"""A host looks after itself: services that gave up come back, a server that hangs is killed, #ops hears of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.guest import Guest
from tests.guest.layers import Layers
from tests.host.cast import ops
from tests.host.hosting import SERVER

WATCH = "colony-watch.service"


@pytest.fixture(scope="module")
def host(installed: Path, layers: Layers) -> Iterator[Guest]:
    """Its timer is off: the tests say when it looks."""
    with Guest(layers=[installed], binds=layers.binds()) as guest:
        guest.run("systemctl", "stop", "colony-watch.timer")
        yield guest


def look(host: Guest) -> None:
    host.run("systemctl", "reset-failed", WATCH, check=False)  # a start limit counts what is started on purpose, too
    host.run("systemctl", "start", WATCH)


def news(host: Guest, before: list[str]) -> list[str]:
    return ops(host)[len(before) :]


def until_failed(host: Guest, unit: str) -> None:
    """Kill it as often as it takes until systemd starts it no more."""
    host.wait_until("sh", "-c", f"systemctl kill --signal=KILL {unit}; systemctl is-failed --quiet {unit}", seconds=60)


def age(host: Guest) -> None:
    """As if what the watch remembers were of an hour ago, nearly."""
    path = host.path("/run/colony-watch/revived.json")
    path.write_text(json.dumps({unit: each | {"at": each["at"] - 1000} for unit, each in json.loads(path.read_text()).items()}))


def test_a_quiet_host_is_no_news(host: Guest) -> None:
    before = ops(host)
    look(host)
    look(host)
    assert news(host, before) == []
    assert host.journal(WATCH) == ""


def test_a_server_that_gave_up_comes_back_and_ops_hears_of_it(host: Guest) -> None:
    before = ops(host)
    until_failed(host, SERVER)
    look(host)
    look(host)
    assert host.unit(SERVER, "ActiveState")["ActiveState"] == "failed", "it rests for a minute"
    age(host)
    look(host)
    host.wait_until("colony", "whoami")
    look(host)
    told = news(host, before)
    assert len(told) == 2
    assert "colony-server.service has failed (signal): `journalctl -u colony-server.service` says more." in told[0]
    assert told[1] == "colony-server.service is well again."
    look(host)
    assert len(news(host, before)) == 2


def test_a_failed_backup_is_news_and_one_that_works_is_its_end(host: Guest) -> None:
    before = ops(host)
    host.run("mv", "/var/lib/colony/backups", "/var/lib/colony/aside", check=False)
    host.write("/var/lib/colony/backups", "no folder")
    assert host.run("systemctl", "start", "colony-backup", check=False).returncode != 0
    look(host)
    host.run("rm", "/var/lib/colony/backups")
    host.run("systemctl", "start", "colony-backup")
    look(host)
    assert [text.split(":")[0] for text in news(host, before)] == [
        "colony-backup.service has failed (exit-code)",
        "colony-backup.service is well again.",
    ]


def test_a_disk_that_fills_is_news(installed: Path, layers: Layers) -> None:
    with Guest(layers=[installed], binds=layers.binds(), disk_bytes=3 * 10**9) as small:
        small.run("systemctl", "stop", "colony-watch.timer")
        before = ops(small)
        look(small)
        assert news(small, before) == []
        small.run("fallocate", "--length=2200M", "/var/tmp/filler")
        look(small)
        look(small)
        [told] = news(small, before)
        assert told.startswith("The disk of /var/lib/colony")
        small.run("rm", "/var/tmp/filler")
        look(small)
        assert news(small, before)[1:] == [f"{told.split(' is nearly')[0]} has room again."]


def test_a_server_that_hangs_is_killed_and_begins_anew(host: Guest) -> None:
    host.run("mkdir", "--parents", f"/run/systemd/system/{SERVER}.d")
    host.write(f"/run/systemd/system/{SERVER}.d/soon.conf", "[Service]\nWatchdogSec=3\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", SERVER)
    pid = host.unit(SERVER, "MainPID")["MainPID"]
    [worker] = host.run("pgrep", "--parent", pid).stdout.split()
    host.run("kill", "-STOP", worker)
    host.wait_until("sh", "-c", f"test $(systemctl show --property=NRestarts --value {SERVER}) = 1")
    host.wait_until("colony", "whoami")
    assert "Watchdog timeout" in host.journal(SERVER)


def test_killed_it_is_there_again_at_once(host: Guest) -> None:
    for who in ("main", "all"):
        host.run("systemctl", "reset-failed", SERVER)
        host.run("systemctl", "kill", "--signal=KILL", f"--kill-whom={who}", SERVER)
        host.wait_until("colony", "whoami")


def test_killed_in_its_run_it_looks_again_without_its_timer(host: Guest) -> None:
    host.run("systemctl", "reset-failed", WATCH)
    begin, kill = f"systemctl start --no-block {WATCH}; sleep 0.05", f"systemctl kill --signal=KILL {WATCH}"
    host.wait_until("sh", "-c", f"{begin}; {kill}; test $(systemctl show -PResult {WATCH}) = signal")
    host.wait_until("sh", "-c", f"test $(systemctl show -PActiveState {WATCH}) = inactive")
    assert host.unit(WATCH, "Result", "NRestarts") == {"Result": "success", "NRestarts": "1"}


def test_it_looks_every_two_minutes(machine: Guest) -> None:
    look(machine)
    [timer] = json.loads(machine.run("systemctl", "list-timers", "--output=json", "colony-watch.timer").stdout)
    assert timer["next"] / 1e6 - time.time() < 135
