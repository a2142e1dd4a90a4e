"""A guest is a whole machine: it boots, reboots, loses power, and knows nobody beside it."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.guest.fixtures import need_guests
from tests.guest.guest import Guest, why_not

pytestmark = pytest.mark.usefixtures("layers")

LIVES = """
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""


def test_all_that_it_starts_is_running(shared_bare_machine: Guest) -> None:
    assert shared_bare_machine.run("systemctl", "is-system-running").stdout.strip() == "running"
    assert shared_bare_machine.unit("dbus.service", "ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"}


def test_it_starts_nothing_of_what_this_machine_starts(shared_bare_machine: Guest) -> None:
    listed = shared_bare_machine.run("systemctl", "list-units", "--type=service,timer,path", "--plain", "--no-legend").stdout
    assert {line.split()[0] for line in listed.splitlines()} <= {
        "dbus.service",
        "systemd-journal-flush.service",
        "systemd-journald.service",
        "systemd-logind.service",
        "systemd-tmpfiles-setup-dev.service",
        "systemd-tmpfiles-setup.service",
        "systemd-user-sessions.service",
    }


def test_it_knows_no_colony_and_nobodys_home(shared_bare_machine: Guest) -> None:
    for folder in ("/opt/colony", "/etc/colony", "/var/lib/colony", "/home"):
        assert shared_bare_machine.run("find", folder, "-mindepth", "1", check=False).stdout == ""
    assert shared_bare_machine.run("getent", "passwd", "colony", check=False).returncode == 2
    assert not shared_bare_machine.path("/root/.ssh/authorized_keys").exists()


def test_a_command_runs_as_root_or_as_a_user_with_a_clean_environment(shared_bare_machine: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKED", "yes")
    shared_bare_machine.run("useradd", "--create-home", "--groups", "users", "walker")
    show = ("sh", "-c", "id --user --name; id --groups --name; env; pwd; cat")
    told = shared_bare_machine.run(*show, user="walker", stdin="from outside", env={"GIVEN": "1"}).stdout
    assert told.startswith("walker\nwalker users\n")
    assert {"HOME=/home/walker", "USER=walker", "GIVEN=1", "/", "from outside"} <= set(told.splitlines())
    assert "LEAKED" not in told
    assert {"root", "HOME=/root"} <= set(shared_bare_machine.run(*show).stdout.splitlines())
    assert "CapEff:\t0000000000000000\n" in shared_bare_machine.run("cat", "/proc/self/status", user="walker").stdout


def test_a_command_that_fails_shows_all_it_wrote(shared_bare_machine: Guest) -> None:
    with pytest.raises(AssertionError, match=r"(?s)ended with 3.*heard.*complained"):
        shared_bare_machine.run("sh", "-c", "echo heard; echo complained >&2; exit 3")
    assert shared_bare_machine.run("false", check=False).returncode == 1
    with pytest.raises(AssertionError, match=r"sleep 30.*not done after 1 s"):
        shared_bare_machine.run("sh", "-c", "sleep 30; true", seconds=1)
    with pytest.raises(LookupError, match="no user nobody-such"):
        shared_bare_machine.run("true", user="nobody-such")


def test_a_command_that_is_killed_from_outside_dies_inside(shared_bare_machine: Guest) -> None:
    sleeping = shared_bare_machine.start("sleep", "98765", user="nobody")
    shared_bare_machine.wait_until("pgrep", "-f", "sleep 98765")
    sleeping.kill()
    sleeping.wait(10)
    shared_bare_machine.wait_until("sh", "-c", "! pgrep -f 'sleep 9876[5]'")


def test_its_files_are_reached_from_outside(shared_bare_machine: Guest) -> None:
    shared_bare_machine.write("/etc/new/secret", "hush", mode=0o600)
    assert shared_bare_machine.run("cat", "/etc/new/secret").stdout == "hush"
    assert stat.S_IMODE(shared_bare_machine.path("/etc/new/secret").stat().st_mode) == 0o600
    shared_bare_machine.run("sh", "-c", "echo fresh >/tmp/note; echo >/run/note")
    assert shared_bare_machine.path("/tmp/note").read_text() == "fresh\n"
    assert shared_bare_machine.path("/run/note").exists()
    assert not os.path.exists("/etc/new")


def test_it_reboots_with_its_files_and_its_enabled_units(bare_machine: Guest) -> None:
    identity = settle(bare_machine)
    bare_machine.run("systemctl", "start", "idles.service")
    bare_machine.reboot()
    assert_settled(bare_machine, identity)
    assert bare_machine.unit("idles.service", "ActiveState") == {"ActiveState": "inactive"}
    assert "Stopped lives.service" in bare_machine.journal("lives.service"), "it was stopped in order, and the journal outlives the boot"


def test_a_power_cut_leaves_what_was_written(bare_machine: Guest) -> None:
    identity = settle(bare_machine)
    bare_machine.power_cut()
    assert_settled(bare_machine, identity)
    assert "Stopped lives.service" not in bare_machine.journal("lives.service")


def settle(machine: Guest) -> str:
    for name in ("lives", "idles"):
        machine.write(f"/etc/systemd/system/{name}.service", LIVES)
    machine.run("systemctl", "enable", "--now", "lives.service")
    machine.run("sh", "-c", "echo kept >/var/lib/kept; echo gone >/tmp/gone; echo gone >/run/gone")
    return machine.run("cat", "/etc/machine-id", "/etc/hostname").stdout


def assert_settled(machine: Guest, identity: str) -> None:
    assert machine.path("/var/lib/kept").read_text() == "kept\n"
    assert machine.unit("lives.service", "ActiveState") == {"ActiveState": "active"}
    assert not machine.path("/tmp/gone").exists()
    assert not machine.path("/run/gone").exists()
    assert machine.run("cat", "/etc/machine-id", "/etc/hostname").stdout == identity
    boots = machine.run("journalctl", "--list-boots", "--quiet").stdout
    assert len(boots.splitlines()) == 2


SYS_TIME = 1 << 25  # the capability to set the clock, which is the same for all


def test_a_command_may_do_no_more_than_a_service_and_that_is_not_to_set_the_clock(shared_bare_machine: Guest) -> None:
    show = ("sed", "-n", "s/^Cap[EB].*:.//p", "/proc/self/status")
    command, service = shared_bare_machine.run(*show), shared_bare_machine.run("systemd-run", "--pipe", "--wait", "--quiet", *show)
    assert command.stdout == service.stdout
    assert [int(line, 16) & SYS_TIME for line in command.stdout.split()] == [0, 0]


# --- two at once


@pytest.fixture
def neighbour() -> Iterator[Guest]:
    with Guest() as guest:
        yield guest


def test_two_machines_have_nothing_in_common(bare_machine: Guest, neighbour: Guest) -> None:
    bare_machine.run("systemd-run", "--unit=mine", "sleep", "4711")
    bare_machine.run("touch", "/etc/mine")
    assert bare_machine.unit("mine.service", "ActiveState") == {"ActiveState": "active"}
    assert neighbour.unit("mine.service", "ActiveState") == {"ActiveState": "inactive"}
    assert bare_machine.run("pgrep", "-f", "sleep 4711").stdout
    assert neighbour.run("pgrep", "-f", "sleep 471[1]", check=False).stdout == ""
    assert not neighbour.path("/etc/mine").exists()
    for told in ("/etc/machine-id", "/etc/hostname"):
        assert bare_machine.path(told).read_text() != neighbour.path(told).read_text()
    neighbour.close()
    assert bare_machine.unit("mine.service", "ActiveState") == {"ActiveState": "active"}


# --- its options


def test_its_network_is_its_own_unless_it_has_this_machines(bare_machine: Guest) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        connect = ("python3", "-c", f"import socket; socket.create_connection(('127.0.0.1', {listener.getsockname()[1]}), timeout=10)")
        assert "ConnectionRefusedError" in bare_machine.run(*connect, check=False).stderr
        with Guest(host_network=True) as open_machine:
            open_machine.run(*connect)


def test_its_disk_can_be_small() -> None:
    with Guest(disk_bytes=32 * 2**20) as cramped:
        filled = cramped.run("dd", "if=/dev/zero", "of=/var/filled", "bs=1M", check=False)
        assert "No space left on device" in filled.stderr
        cramped.run("rm", "/var/filled")
        cramped.run("dd", "if=/dev/zero", "of=/var/filled", "bs=1M", "count=4")


def test_its_memory_can_be_bounded() -> None:
    take = ("systemd-run", "--wait", "--quiet", "python3", "-c", "bytearray(300 << 20)")
    with Guest(memory_bytes=200 * 2**20) as small, Guest() as large:
        assert small.run(*take, check=False).returncode != 0
        large.run(*take)


def test_it_sees_a_bound_folder_but_cant_write_to_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bound")
    (folder / "note").write_text("hello")
    with Guest(binds={"/srv/bound": folder}) as guest:
        assert guest.run("cat", "/srv/bound/note").stdout == "hello"
        assert "Read-only file system" in guest.run("touch", "/srv/bound/other", check=False).stderr


# --- where there can be none


def test_without_root_a_test_is_skipped_with_its_reason_but_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs root"):
        need_guests()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="needs root"):
        need_guests()


def test_without_nspawn_the_reason_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert why_not() == "a systemd guest needs systemd-nspawn: apt-get install systemd-container"
