"""The blows that a settlement has to come back from. The table for people, docs/comes-back.md, is made from this one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from tests.host import mind, strikes
from tests.host.settlement import AGENTS, SERVER, WORKERS, Settlement
from tests.host.strikes import ANSWERS, BRAIN, BWRAP, FIRST, INIT, TURN, WORKER, Strike, kills, runs

HOUR, DAY = 3600, 86_400
DATA, HOMES = "/var/lib/colony", "/home/agents"
GATE_SOCKET = "/run/colony-egress/egress.sock"


def as_it_is(settlement: Settlement) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Blow:
    name: str
    back_by: str  # what brings everything back
    within: float  # seconds after the blow: by then all is well and whatever was said has its answer
    strike: Strike
    busy: bool = False  # it falls while both agents think and people talk; else while nobody does anything
    setting: Callable[[Settlement], AbstractContextManager[None]] = as_it_is
    check: Callable[[Settlement], None] = lambda settlement: None  # what must be true afterwards besides

    @property
    def title(self) -> str:
        return f"{self.name}, in a turn" if self.busy else self.name


RESTART = "systemd starts it again"
REDO = "the worker begins the turn again"
BOOT = "systemd starts everything"
NOTHING = "nothing needs to"
WATCHDOG = "systemd's watchdog kills it and starts it again"
ROOM = "there is room again"
WATCH = "colony-watch starts it again"
LATER = "who could not think for it tries again after a minute"
CLOCKS = "what lasts is measured by a clock that nobody sets; what was to end at a time looks again"


def both(name: str, back_by: str, within: float, strike: Strike) -> tuple[Blow, Blow]:
    return Blow(name, back_by, within, strike), Blow(name, back_by, within, strike, busy=True)


def dreamt(settlement: Settlement) -> None:
    for agent in AGENTS:
        assert settlement.machine.path(f"/home/agents/{agent}/memory/memory.md").read_text() == mind.memory(1)


def told_once(*units: str) -> Callable[[Settlement], None]:
    def check(settlement: Settlement) -> None:
        settlement.until(lambda: all(len(strikes.news_of(settlement, unit)) > 1 for unit in units), 90)
        assert [strikes.news_of(settlement, unit) for unit in units] == [list(strikes.WATCHED)] * len(units)

    return check


def told_nothing(settlement: Settlement) -> None:
    assert settlement.notices() == []


BODY = (
    Blow("nothing", NOTHING, 45, lambda settlement: None, busy=True),
    *both(f"kill -9: {FIRST}", RESTART, 45, kills(FIRST)),
    *both(f"kill -9: {ANSWERS}", "the first process starts another", 45, kills(ANSWERS)),
    *both(f"kill -9: {WORKER}", RESTART, 45, kills(WORKER)),
    *(Blow(f"kill -9: {who}", REDO, 90, kills(who), busy=True) for who in (TURN, BWRAP, INIT, BRAIN)),
    *both("kill -9: all processes at once", RESTART, 45, strikes.kill_all),
    Blow("kill -9: dreams, backup and prune", RESTART, 60, strikes.kill_what_timers_start, check=dreamt),
    Blow("the turns take too much memory", REDO, 90, strikes.bids(mind.EATS)),
    Blow("kill -STOP: the server's first process", NOTHING, 45, kills(FIRST, "STOP"), setting=strikes.resumed),
    Blow(f"kill -STOP: {ANSWERS}", WATCHDOG, 150, kills(ANSWERS, "STOP"), setting=strikes.watchdogs),
    Blow(f"kill -STOP: {WORKER}", WATCHDOG, 150, kills(WORKER, "STOP"), setting=strikes.watchdogs),
    Blow("systemd executes itself anew", NOTHING, 45, runs("systemctl", "daemon-reexec"), busy=True),
    Blow("the message bus is restarted", NOTHING, 45, runs("systemctl", "restart", "dbus"), busy=True),
    Blow("kill -9: the journal", RESTART, 45, runs("systemctl", "kill", "--signal=KILL", "systemd-journald"), busy=True),
)
MACHINE = (
    *both("reboot", BOOT, 60, strikes.reboot),
    *both("power cut", BOOT, 60, strikes.cut_the_power),
    Blow("reboot while an agent is paused", f"{BOOT}, and who was paused stays so", 60, strikes.reboot_while_paused),
    Blow("somebody else takes all memory", f"the kernel ends turns and that one; {REDO}", 90, strikes.eat_the_memory_thrice, busy=True),
    Blow("the kernel ends the server for want of memory", RESTART, 45, strikes.starve_the_server),
    Blow("the whole disk is full", ROOM, 60, strikes.fills("/var"), busy=True),
)
DISKS = tuple(
    Blow(name, back_by, within, strike, busy=True, setting=strikes.small_disks)
    for name, back_by, within, strike in (
        ("the server's disk is full", ROOM, 60, strikes.fills(DATA)),
        ("the server's disk is full, and all processes are killed", ROOM, 60, strikes.fills(DATA, strikes.kill_all)),
        ("the server's disk has no inode left", ROOM, 60, strikes.uses_up_inodes(DATA)),
        ("the homes' disk is full", ROOM, 60, strikes.fills(HOMES)),
        ("the homes' disk is full, and all processes are killed", ROOM, 60, strikes.fills(HOMES, strikes.kill_all)),
        ("the homes' disk has no inode left", ROOM, 60, strikes.uses_up_inodes(HOMES)),
    )
)
CLOCK = tuple(
    Blow(name, CLOCKS, within, strike, busy, setting=strikes.wrong_clocks, check=told_nothing)
    for name, within, strike, busy in (
        ("the clock jumps ahead by 2 hours", 75, strikes.set_clocks(2 * HOUR), True),
        ("the clock jumps ahead by 400 days", 75, strikes.set_clocks(400 * DAY), True),
        ("the clock is set back by 2 hours", 75, strikes.set_clocks(-2 * HOUR), True),
        ("the clock is set back by 2 hours while failed turns rest", 75, strikes.rest_then(strikes.set_clocks(-2 * HOUR)), False),
        ("the clock is set back by 400 days while the server is down", 75, strikes.set_back_unseen, False),
    )
)
THINKERS = tuple(
    Blow(f"{name}, with Claude Code", back_by, within, strike, busy=True, setting=setting)
    for name, back_by, within, strike, setting in (
        ("nothing", NOTHING, 60, lambda settlement: None, as_it_is),
        ("kill -9: the gate", f"{RESTART}; {LATER}", 150, strikes.hits_the_gate(), as_it_is),
        ("kill -STOP: the gate", f"{WATCHDOG}; {LATER}", 240, strikes.hits_the_gate("STOP"), strikes.gates_watchdog),
        ("the gate's socket is deleted", f"{WATCHDOG}; {LATER}", 240, runs("rm", GATE_SOCKET), strikes.gates_watchdog),
        ("the gate's disk is full, and it is killed", f"{ROOM}; {LATER}", 150, strikes.fill_the_gates_disk, as_it_is),
        ("the server is down for 20 s", NOTHING, 150, lambda settlement: strikes.be_away(settlement, 20), as_it_is),
        ("the clock jumps ahead by 2 hours", CLOCKS, 150, strikes.set_clocks(2 * HOUR), strikes.wrong_clocks),
        ("the clock is set back by 2 hours", CLOCKS, 150, strikes.set_clocks(-2 * HOUR), strikes.wrong_clocks),
    )
)
LONG = (
    Blow("the server is down for minutes", "the workers ask every 30 s at least", 75, strikes.be_away, busy=True),
    Blow("power cut in dreams", f"{BOOT}; a lost dream's lease ends", 120, strikes.cut_the_power_in_dreams),
    Blow(
        "the workers' program is broken for a while",
        WATCH,
        180,
        strikes.breaks("colony-agent", WORKER, *WORKERS),
        setting=strikes.looked_at_often,
        check=told_once(*WORKERS),
    ),
    Blow(
        "the server's program is broken for a while",
        WATCH,
        180,
        strikes.breaks("colony-server", FIRST, SERVER),
        setting=strikes.looked_at_often,
        check=told_once(SERVER),
    ),
)
ALL = (*BODY, *MACHINE, *DISKS, *CLOCK, *THINKERS, *LONG)
