"""What can be done to a settlement. A strike returns when the blow is over: from then on nobody helps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from server.watch import LOOK_SECONDS
from tests.host.mind import DIES
from tests.host.people import Talk
from tests.host.processes import Process, kill
from tests.host.settlement import AGENTS, GATE, SERVER, WORKERS, Settlement

Strike = Callable[[Settlement], object]

WHOLE = "COLONY_WHOLE_BLOWS"  # set, outages and watchdogs are as long as they really are
IS_WHOLE = bool(os.environ.get(WHOLE))
OUTAGE_SECONDS = 600 if IS_WHOLE else 75
QUICK_WATCHDOG, QUICK_LOOK = "WatchdogSec=5", "OnUnitActiveSec=5s"  # in place of minutes
FULL_SECONDS = 3.0  # that a disk is full
PROGRAMS = "/opt/colony/current/.venv/bin"
WATCHED = ("has failed", "is well again")
CLOCK, CLOCK_LIBRARY = "/etc/wrong-clock", "/usr/local/lib/wrong_clock.so"

FIRST, ANSWERS = "the server's first process", "the server's process that answers"
WORKER, TURN, BWRAP, INIT, BRAIN = "the workers", "the turns", "bubblewrap", "bubblewrap's process inside", "what thinks"


# --- processes


def role(process: Process, known: dict[int, Process]) -> str:
    """What a process of the server or of a worker does."""
    parent = known.get(process.parent)
    if process.unit == f"{SERVER}.service":
        return ANSWERS if parent else FIRST
    if process.argv[0].endswith("bwrap"):
        return INIT if parent and parent.argv[0].endswith("bwrap") else BWRAP
    if not parent:
        return WORKER
    return TURN if "turn" in process.argv else BRAIN


def by_role(settlement: Settlement) -> dict[str, list[Process]]:
    """All processes of the server and of the agents, those of all agents together."""
    found = settlement.processes()
    known = {process.pid: process for process in found}
    roles: dict[str, list[Process]] = {}
    for process in found:
        roles.setdefault(role(process, known), []).append(process)
    return roles


def kills(role: str, signal: str = "KILL") -> Strike:
    return lambda settlement: kill(settlement.machine, by_role(settlement)[role], signal)


def kill_all(settlement: Settlement) -> None:
    kill(settlement.machine, settlement.processes())


def runs(*argv: str) -> Strike:
    return lambda settlement: settlement.machine.run(*argv)


def remember(settlement: Settlement, agent: str, *more: str) -> None:
    """Something new, so that there is something to dream of."""
    settlement.machine.run("sh", "-c", "; ".join((f"cd /home/agents/{agent}/memory", "date +%N > diary/today.md", *more)), user=agent)


def begin_dreams(settlement: Settlement, *agents: str) -> None:
    """Those that are begun think when this returns; they have found a memory with the number 0, and something new."""
    for agent in agents:
        remember(settlement, agent, "echo 0 > memory.md")
        settlement.machine.run("systemctl", "start", "--no-block", f"agent-{agent}-dream")
    settlement.until(lambda: len(settlement.dreaming()) == len(agents))


def cut_the_power_in_dreams(settlement: Settlement) -> None:
    begin_dreams(settlement, *AGENTS)
    settlement.machine.power_cut()


def kill_what_timers_start(settlement: Settlement) -> None:
    def running(unit: str) -> list[Process]:
        return [process for process in settlement.processes() if process.unit == unit]

    def was_killed(unit: str) -> bool:
        return machine.unit(unit, "Result") == {"Result": "signal"}

    machine = settlement.machine
    begin_dreams(settlement, *AGENTS)
    for unit in (*(f"agent-{agent}-dream.service" for agent in AGENTS), "colony-backup.service", "colony-prune.service"):
        machine.run("systemctl", "start", "--no-block", unit)
        settlement.until(partial(running, unit))
        kill(machine, running(unit))
        settlement.until(partial(was_killed, unit))


@contextmanager
def watchdogs(settlement: Settlement) -> Iterator[None]:
    """They bite soon, unless all shall be as it really is."""
    units = (SERVER, *WORKERS)
    with dropped_in(settlement, {f"{unit}.service": f"[Service]\n{QUICK_WATCHDOG}\n" for unit in units}, units):
        yield


@contextmanager
def resumed(settlement: Settlement) -> Iterator[None]:
    """What still stands after the blow goes on: it did no harm."""
    yield
    kill(settlement.machine, settlement.processes(), "CONT")


@contextmanager
def dropped_in(settlement: Settlement, texts: dict[str, str], restarted: tuple[str, ...] = ()) -> Iterator[None]:
    """Those drop-ins for units of these names, unless all shall be as it really is."""
    machine = settlement.machine
    if IS_WHOLE:
        yield
        return
    for unit, text in texts.items():
        machine.write(f"/etc/systemd/system/{unit}.d/quick.conf", text)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", *restarted or texts)
    settlement.settle(20)
    try:
        yield
    finally:
        machine.run("rm", "-r", *(f"/etc/systemd/system/{unit}.d" for unit in texts))
        machine.run("systemctl", "daemon-reload")


def bids(name: str) -> Strike:
    """Let what thinks do this, once for each agent, and see it done."""

    def strike(settlement: Settlement) -> None:
        files = [settlement.machine.path(f"/home/agents/{agent}/{name}") for agent in AGENTS]
        for file in files:
            file.touch()
        with Talk(settlement):
            settlement.until(lambda: not any(file.exists() for file in files))

    return strike


# --- the gate


def hits_the_gate(signal: str = "KILL") -> Strike:
    return runs("systemctl", "kill", f"--signal={signal}", GATE)


def fill_the_gates_disk(settlement: Settlement) -> None:
    """Where it has its socket and the certificate that its agents trust; and it is killed."""
    machine = settlement.machine
    machine.run("mount", "-o", "remount,size=64m", "/run")
    fills("/run", hits_the_gate())(settlement)


@contextmanager
def gates_watchdog(settlement: Settlement) -> Iterator[None]:
    """It bites soon, unless all shall be as it really is."""
    with dropped_in(settlement, {f"{GATE}.service": f"[Service]\n{QUICK_WATCHDOG}\n"}, (GATE,)):
        yield


# --- the machine


def reboot(settlement: Settlement) -> None:
    settlement.machine.reboot()


def cut_the_power(settlement: Settlement) -> None:
    settlement.machine.power_cut()


def reboot_while_paused(settlement: Settlement) -> None:
    """Who was paused is so afterwards, and what it was asked waits; then people resume it."""
    settlement.set_status("rook", "paused")
    with Talk(settlement) as talk:
        talk.await_messages(6, 20)
        settlement.machine.reboot()
        talk.await_messages(3, 20)
    settlement.until(lambda: settlement.agents()["scout"].inbox == 0)
    rook = settlement.agents()["rook"]
    assert (rook.status, rook.turn_id) == ("paused", None)
    assert rook.inbox > 0
    settlement.set_status("rook", "healthy")


def eat_the_memory(settlement: Settlement) -> None:
    """Somebody else takes all that the machine has, until the kernel ends that one, too."""
    eats = "eaten = []\nwhile True: eaten.append(bytearray(2**22))"
    ran = settlement.machine.run("systemd-run", "--quiet", "--collect", "--pipe", "--uid=nobody", "python3", "-c", eats, check=False)
    assert ran.returncode != 0


def eat_the_memory_thrice(settlement: Settlement) -> None:
    for _ in range(3):
        eat_the_memory(settlement)


def starve_the_server(settlement: Settlement) -> None:
    """The memory is gone, and it is the server's turn to be ended by the kernel."""
    before = [process for process in settlement.processes() if process.unit == f"{SERVER}.service"]
    for process in before:
        settlement.machine.path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
    eat_the_memory(settlement)
    assert not {*before} & {*settlement.processes()}


# --- disks


@contextmanager
def small_disks(settlement: Settlement) -> Iterator[None]:
    """The data and the homes lie on disks of their own, for good."""
    # The database's log alone grows to 16 MB.
    data = "/var/lib/colony", (SERVER, "colony-watch.timer"), "40m,nr_inodes=100"
    homes = "/home/agents", WORKERS, "6m,nr_inodes=600"
    for path, users, size in (data, homes):
        if settlement.machine.run("mountpoint", path, check=False).returncode:
            move_to_a_disk(settlement, path, users, size)
    yield


def move_to_a_disk(settlement: Settlement, path: str, users: tuple[str, ...], size: str) -> None:
    machine = settlement.machine
    machine.run("systemctl", "stop", *users)
    machine.run("mv", path, "/root/aside")
    machine.run("mkdir", path)
    machine.run("mount", "-t", "tmpfs", "-o", f"size={size}", "none", path)
    machine.run("cp", "-aT", "/root/aside", path)
    machine.run("rm", "-r", "/root/aside")
    machine.run("systemctl", "start", *users)


def fills(path: str, then: Strike = lambda settlement: None) -> Strike:
    """No byte is free for a while, in which this is done besides."""
    return _takes(f"dd if=/dev/zero of={path}/filler bs=4k status=none", f"{path}/filler", then)


def uses_up_inodes(path: str, then: Strike = lambda settlement: None) -> Strike:
    """No file can be made for a while."""
    return _takes(f"mkdir {path}/filler; n=0; while : > {path}/filler/$n; do n=$((n+1)); done", f"{path}/filler", then)


def _takes(command: str, filler: str, then: Strike) -> Strike:
    def strike(settlement: Settlement) -> None:
        taken = settlement.machine.run("bash", "-c", command, check=False)
        assert "No space left" in taken.stderr, taken
        then(settlement)
        time.sleep(FULL_SECONDS)
        settlement.machine.run("rm", "-r", filler)

    return strike


# --- outages


def be_away(settlement: Settlement, seconds: float = OUTAGE_SECONDS) -> None:
    settlement.machine.run("systemctl", "stop", SERVER)
    time.sleep(seconds)
    settlement.machine.run("systemctl", "start", SERVER)


@contextmanager
def looked_at_often(settlement: Settlement) -> Iterator[None]:
    with dropped_in(settlement, {"colony-watch.timer": f"[Timer]\n{QUICK_LOOK}\nAccuracySec=1s\n"}):
        settlement.machine.run("systemctl", "start", "colony-watch")  # the first look of a boot comes after a minute
        yield


def breaks(program: str, role: str, *units: str) -> Strike:
    """The program falls over at once, until its units have failed and colony-watch has seen it; then it is whole again."""

    def strike(settlement: Settlement) -> None:
        machine, path = settlement.machine, f"{PROGRAMS}/{program}"
        machine.run("mv", path, f"{path}.whole")
        machine.run("sh", "-c", f"printf '#!/bin/sh\\nexit 3\\n' > {path} && chmod 755 {path}")
        kills(role)(settlement)
        for unit in units:
            machine.wait_until("systemctl", "is-failed", unit, seconds=60)
            machine.wait_until("grep", unit, "/run/colony-watch/revived.json", seconds=90)
        machine.run("mv", f"{path}.whole", path)

    return strike


def news_of(settlement: Settlement, unit: str) -> list[str]:
    """What #ops was told about the unit, in a few words."""
    return [each for notice in settlement.notices() if f"{unit}.service" in notice for each in WATCHED if each in notice]


# --- clocks


@contextmanager
def wrong_clocks(settlement: Settlement) -> Iterator[None]:
    """The server, the gate and the agents follow a clock of their own, for good."""
    machine = settlement.machine
    if not machine.path(CLOCK_LIBRARY).exists():
        machine.write("/root/wrong_clock.c", Path(__file__).with_name("wrong_clock.c").read_text())
        words = ("-Wall", "-Werror", "-O2", "-shared", "-fPIC", f'-DAHEAD="{CLOCK}"')
        machine.run("gcc", *words, "-o", CLOCK_LIBRARY, "/root/wrong_clock.c")
        for unit in (SERVER, GATE, *WORKERS):
            machine.write(f"/etc/systemd/system/{unit}.service.d/clock.conf", f"[Service]\nEnvironment=LD_PRELOAD={CLOCK_LIBRARY}\n")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", SERVER, GATE, *WORKERS)
    set_clocks(0)(settlement)
    settlement.settle(45)  # agents are called silent after a jump ahead, until their next heartbeat
    time.sleep(LOOK_SECONDS + 1)  # a clock that goes to and fro between two looks has not moved for the server
    yield


def set_clocks(ahead_seconds: int) -> Strike:
    def strike(settlement: Settlement) -> None:
        settlement.machine.write(f"{CLOCK}.new", f"{ahead_seconds}\n")
        settlement.machine.run("mv", f"{CLOCK}.new", CLOCK)  # at once: never is there half a time

    return strike


def rest_then(strike: Strike) -> Strike:
    """Both agents' programs fall over, so that their turns rest; then that."""

    def struck(settlement: Settlement) -> None:
        bids(DIES)(settlement)
        settlement.until(lambda: all(agent.inbox and not agent.turn_id for agent in settlement.agents().values()))
        strike(settlement)

    return struck


def set_back_unseen(settlement: Settlement) -> None:
    set_clocks(400 * 86_400)(settlement)
    rest_then(runs("systemctl", "stop", SERVER))(settlement)
    set_clocks(0)(settlement)
    settlement.machine.run("systemctl", "start", SERVER)
