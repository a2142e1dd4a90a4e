"""Canaries: what systemd or the kernel would ignore in silence if a guest were set up wrongly.

Tests about limits and isolation mean nothing on a machine where these fail.
"""

from __future__ import annotations

import itertools
import subprocess

import pytest

from tests.guest.guest import Guest

_units = itertools.count(1)


def ran(machine: Guest, *argv: str, **properties: str) -> tuple[str, subprocess.CompletedProcess[str]]:
    """systemd's word for how a unit with these properties ended, and what it wrote."""
    unit = f"canary-{next(_units)}.service"
    options = [f"--property={name}={value}" for name, value in properties.items()]
    done = machine.run("systemd-run", f"--unit={unit}", "--wait", "--pipe", "--quiet", *options, "--", *argv, check=False)
    return machine.unit(unit, "Result")["Result"], done


def python(source: str) -> tuple[str, str, str]:
    return "python3", "-c", source


TAKES_MEMORY = python("print(len(bytearray(200 << 20)))")


def test_memory_max_kills(shared_bare_machine: Guest) -> None:
    result, _ = ran(shared_bare_machine, *TAKES_MEMORY, MemoryMax="50M", MemorySwapMax="0")
    assert result in ("oom-kill", "signal")  # with cgroup v1 systemd doesn't know what killed it
    result, done = ran(shared_bare_machine, *TAKES_MEMORY, MemoryMax="1G")
    assert (result, done.stdout) == ("success", f"{200 << 20}\n")


FORKS = """
import os, signal, time
try:
    for number in range(40):
        if os.fork() == 0:
            time.sleep(60)
    print("all")
except BlockingIOError:
    print(number)
"""


def test_tasks_max_refuses_more(shared_bare_machine: Guest) -> None:
    _, done = ran(shared_bare_machine, *python(FORKS), TasksMax="10")
    assert done.stdout == "9\n"
    _, done = ran(shared_bare_machine, *python(FORKS), TasksMax="100")
    assert done.stdout == "all\n"


# Until it has used half a second of CPU; then it says how often it was held back.
SPINS = """
import pathlib, time
while time.process_time() < 0.5:
    pass
paths = {}
for line in open("/proc/self/cgroup"):
    _, controllers, path = line.strip().split(":")
    paths |= {controller: pathlib.Path("/sys/fs/cgroup", controllers, path.lstrip("/")) for controller in controllers.split(",")}
stat = paths["cpu" if "cpu" in paths else ""] / "cpu.stat"
print(dict(line.split() for line in stat.open()).get("nr_throttled", 0))
"""


def test_cpu_quota_holds_back(shared_bare_machine: Guest) -> None:
    _, done = ran(shared_bare_machine, *python(SPINS), CPUQuota="20%")
    assert int(done.stdout) > 0, done.stderr
    _, done = ran(shared_bare_machine, *python(SPINS))
    assert int(done.stdout) == 0, done.stderr


CONNECTS = """
import socket
server = socket.create_server(("127.0.0.1", 0))
try:
    socket.create_connection(server.getsockname(), timeout=2)
    print("reached")
except (TimeoutError, PermissionError):
    print("refused")
"""


def test_ip_address_deny_denies(shared_bare_machine: Guest) -> None:
    assert ran(shared_bare_machine, *python(CONNECTS))[1].stdout == "reached\n"
    assert ran(shared_bare_machine, *python(CONNECTS), IPAddressDeny="any")[1].stdout == "refused\n"
    assert ran(shared_bare_machine, *python(CONNECTS), IPAddressDeny="any", IPAddressAllow="localhost")[1].stdout == "reached\n"


def test_protect_proc_hides_others(shared_bare_machine: Guest) -> None:
    look = ("ls", "-d", "/proc/1")
    assert ran(shared_bare_machine, *look, User="nobody")[1].stdout == "/proc/1\n"
    assert "No such file" in ran(shared_bare_machine, *look, User="nobody", ProtectProc="invisible")[1].stderr


@pytest.mark.parametrize("value", ["yes", "tmpfs"])
def test_protect_home_hides_homes(shared_bare_machine: Guest, value: str) -> None:
    shared_bare_machine.write("/home/note", "hello")
    assert ran(shared_bare_machine, "cat", "/home/note")[1].stdout == "hello"
    assert "No such file" in ran(shared_bare_machine, "cat", "/home/note", ProtectHome=value)[1].stderr


def test_protect_system_makes_it_read_only(shared_bare_machine: Guest) -> None:
    assert ran(shared_bare_machine, "touch", "/etc/touched")[0] == "success"
    assert "Read-only" in ran(shared_bare_machine, "touch", "/etc/touched", ProtectSystem="strict")[1].stderr


def test_a_system_call_filter_refuses(shared_bare_machine: Guest) -> None:
    mount = python("import ctypes; c = ctypes.CDLL(None, use_errno=True); print(c.unshare(0x20000), ctypes.get_errno())")
    assert ran(shared_bare_machine, *mount)[1].stdout == "0 0\n"
    refusing = {"SystemCallFilter": "~unshare", "SystemCallErrorNumber": "EPERM"}
    assert ran(shared_bare_machine, *mount, **refusing)[1].stdout == "-1 1\n"


def test_an_ordinary_user_builds_a_sandbox(shared_bare_machine: Guest) -> None:
    sandbox = ("bwrap", "--unshare-all", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64")
    seen = ran(shared_bare_machine, *sandbox, "--proc", "/proc", "--dev", "/dev", "/usr/bin/ls", "/proc/1/exe", "/home", User="nobody")[1]
    assert "/proc/1/exe" in seen.stdout
    assert "cannot access '/home'" in seen.stderr


def test_a_watchdog_bites(shared_bare_machine: Guest) -> None:
    hangs = ("sh", "-c", "systemd-notify --ready; exec sleep 60")
    result, _ = ran(shared_bare_machine, *hangs, Type="notify", NotifyAccess="all", WatchdogSec="1", TimeoutAbortSec="1")
    assert result == "watchdog"
