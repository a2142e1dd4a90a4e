"""What bounds agents together, and their homes: however much they take, the host and the colony live on, and everybody hears why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.guest.guest import Guest
from tests.guest.layers import Layers
from tests.host.cast import answer, birth, messages, ops, prepare, rest, say, status, until

MEMORY_BYTES = 700 * 2**20
GREEDY = ("crow", "heron", "rook", "wren")
KILLED = "it was killed: most likely it took more memory than there is for it"
WRITER = "/opt/brains/writer"
WRITES = """\
#!/usr/bin/python3 -I
import json, sys
json.load(sys.stdin)
try:
    with open("large", "wb") as file:
        while True:
            file.write(bytes(2**20))
except OSError as error:
    print(error.strerror)
"""
HOLDS = "import time; held = b'x' * (300 * 2**20); print('holds', flush=True); time.sleep(600)"
DROP_IN = "/etc/systemd/system/colony-agents.slice.d/override.conf"  # where `systemctl edit` writes


@pytest.fixture(scope="module")
def small(installed: Path, layers: Layers) -> Iterator[Guest]:
    """A machine with little memory, on which agents live that may each take more than it has."""
    with Guest(layers=[installed], binds=layers.binds(), memory_bytes=MEMORY_BYTES) as machine:
        prepare(machine)
        rest(machine, 0.2)
        machine.write("/opt/brains/holds.py", HOLDS)
        machine.write("/etc/systemd/system/bystander.service", "[Service]\nExecStart=/usr/bin/python3 /opt/brains/holds.py\n")
        for name in GREEDY:
            birth(machine, name)
        for message in messages(machine):
            if message["author"] == "colony":
                answer(machine, message["id"])
        yield machine


def pids(machine: Guest, *others: str) -> dict[str, str]:
    """What must live on."""
    units = ("colony-server", "dbus", "systemd-journald", *(f"agent-{name}-worker" for name in GREEDY), *others)
    found = {unit: machine.unit(unit, "MainPID")["MainPID"] for unit in units}
    assert "0" not in found.values(), found
    return found


def explained(machine: Guest, message: int) -> dict[str, Any]:
    return dict(json.loads(machine.run("colony", "explain", str(message), "--json").stdout))


def all_eat(machine: Guest, *others: str) -> None:
    """At once, until each is given up with the reason; nothing else dies."""
    living, before = pids(machine, *others), len(messages(machine))
    asked = say(machine, " ".join(f"@{name}" for name in GREEDY) + " eat it all")
    until(lambda: all(fate["outcome"] for fate in explained(machine, asked)["fates"]), 120)
    told = explained(machine, asked)
    attempts = [attempt for turn in told["turns"] for attempt in turn["attempts"]]
    assert [fate["outcome"] for fate in told["fates"]] == ["dead"] * len(GREEDY)
    assert {(attempt["error_code"], attempt["error"]) for attempt in attempts} == {("crashed", KILLED)}
    notices = [message["body"] for message in messages(machine)[before:] if message["type"] == "notice"]
    assert sorted(notice.split()[0] for notice in notices) == list(GREEDY)
    assert all(KILLED in notice for notice in notices)
    assert pids(machine, *others) == living
    for name in GREEDY:
        assert answer(machine, say(machine, f"@{name} hello")) == f"you said: @{name} hello"


def test_agents_that_eat_all_memory_at_once_leave_the_machine_what_it_needs(small: Guest) -> None:
    bound = int(small.unit("colony-agents.slice", "MemoryMax")["MemoryMax"])
    assert MEMORY_BYTES * 0.75 < bound < MEMORY_BYTES * 0.85
    all_eat(small)


def test_without_that_bound_the_kernel_ends_turns_before_what_is_larger(small: Guest) -> None:
    small.write(DROP_IN, "[Slice]\nMemoryMax=infinity\n")
    small.run("systemctl", "daemon-reload")
    small.run("systemctl", "start", "bystander")
    small.wait_until("sh", "-c", "journalctl -u bystander | grep holds")
    all_eat(small, "bystander")
    small.run("systemctl", "stop", "bystander")


def test_an_edit_of_the_slice_takes_effect_at_once_and_doctor_sees_that_it_does(small: Guest) -> None:
    small.write(DROP_IN, "[Slice]\nMemoryMax=300M\nTasksMax=99\n")
    small.run("systemctl", "daemon-reload")
    limits = ("find", "/sys/fs/cgroup", "-path", "*colony-agents.slice/*")
    memory = ("-path", "*agents.slice/memory.max", "-o", "-path", "*agents.slice/memory.limit_in_bytes")
    found = small.run(*limits, "(", *memory, "-o", "-path", "*agents.slice/pids.max", ")", "-exec", "cat", "{}", ";").stdout
    assert {*found.split()} == {str(300 * 2**20), "99"}
    assert "colony-agents.slice says" not in small.run("colony-agent", "doctor", check=False).stdout
    small.run("rm", DROP_IN)
    small.run("systemctl", "daemon-reload")


@pytest.fixture(scope="module")
def host(shared_machine: Guest) -> Guest:
    """Scout lives in a small home. The watch looks when the tests say so."""
    shared_machine.run("systemctl", "stop", "colony-watch.timer")
    prepare(shared_machine)
    shared_machine.write(WRITER, WRITES, 0o755)
    birth(shared_machine, "scout", "--home-max", "64M")
    answer(shared_machine, messages(shared_machine)[0]["id"])
    return shared_machine


def look(host: Guest) -> None:
    """As after ten minutes: measure, and look at what was measured."""
    host.run("systemctl", "reset-failed", "colony-watch", "colony-home-sizes", check=False)
    host.run("systemctl", "start", "colony-home-sizes")
    host.run("systemctl", "start", "colony-watch")


FILLS = {
    "large files": ("for i in 1 2 3; do head -c 30M /dev/zero > part$i; done", "90 MB and may hold 64 MB"),
    "many files": ("mkdir many; cd many; seq 5000 | xargs touch", "files and may hold 4096, one for each 16 KB of 64 MB"),
    "what it hides": ("mkdir hidden; head -c 40M /dev/zero > hidden/a; cp hidden/a hidden/b; chmod 0 hidden", "80 MB and may hold 64 MB"),
}


@pytest.mark.parametrize("fill", FILLS)
def test_a_home_that_holds_too_much_pauses_its_agent_once(host: Guest, fill: str) -> None:
    command, says = FILLS[fill]
    look(host)
    before = ops(host)
    host.run("sh", "-c", f"mkdir ~/{fill.split()[0]}; cd ~/{fill.split()[0]}; {command}", user="scout")
    look(host)
    [told] = ops(host)[len(before) :]
    assert told.startswith("The home of scout holds ")
    assert says in told
    found = status(host, "scout")
    assert (found["member"]["status"], found["trouble"]) == ("paused", told)
    doctor = host.run("colony-agent", "doctor", "scout", check=False).stdout
    assert f"scout: warning: its home holds {told.removeprefix('The home of scout holds ').partition(';')[0]}" in doctor
    asked = say(host, "@scout can you clean up?")
    assert told in messages(host)[-1]["body"]
    host.run("colony-agent", "resume", "scout")
    assert answer(host, asked) == "you said: @scout can you clean up?"
    look(host)
    assert status(host, "scout")["member"]["status"] == "healthy", "whoever resumes it has the last word"
    host.run("sh", "-c", f"chmod -R u+rwx ~/{fill.split()[0]}; rm -r ~/{fill.split()[0]}", user="scout")
    look(host)
    assert ops(host)[len(before) :] == [told, "The home of scout is within its bound again."]
    assert "its home holds" not in host.run("colony-agent", "doctor", "scout", check=False).stdout


def test_the_watch_has_homes_measured_when_that_is_due(host: Guest) -> None:
    host.run("rm", "-f", "/run/colony-home-sizes/sizes.json")
    host.run("systemctl", "start", "colony-watch")
    host.wait_until("test", "-s", "/run/colony-home-sizes/sizes.json")
    host.run("systemctl", "start", "colony-watch")
    assert host.journal("colony-watch.service") == host.journal("colony-home-sizes.service") == ""


def test_a_single_file_ends_at_the_bound_of_its_home(host: Guest) -> None:
    soul = "/opt/brains/writer.md"
    host.write(soul, f'---\nrunner: "command:{WRITER}"\npulse_minutes: 0\nlimits: {{home_max: 64M}}\n---\nYou write.\n')
    birth(host, "writer", soul=soul)
    [welcome] = [message["id"] for message in messages(host) if message["body"].startswith("@writer welcome")]
    assert answer(host, welcome) == "File too large"
    assert host.run("stat", "--format=%s", "/home/agents/writer/large").stdout == f"{64 * 2**20}\n"
    host.run("colony-agent", "death", "writer", "--purge")
