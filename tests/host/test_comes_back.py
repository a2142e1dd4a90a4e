"""Whatever befalls a host, everything comes back by itself, and each mention has one answer or one notice that says why not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.guest.guest import Guest
from tests.guest.layers import Layers
from tests.guest.network import made_inside
from tests.host import blows, mind, page, strikes
from tests.host.blows import Blow
from tests.host.cast import birth, death, messages, status
from tests.host.people import Talk
from tests.host.settlement import AGENTS, SOUL, Settlement
from tests.host.strikes import IS_WHOLE, OUTAGE_SECONDS
from tests.host.thinkers import Thinkers
from tests.standin import Standin

pytestmark = pytest.mark.timeout(300 + 2 * OUTAGE_SECONDS)
CHECK = ("colony-server", "--config", "/etc/colony/server.toml", "check")
SHIPPED_BACKOFF, QUICK_BACKOFF = 30, 1  # seconds that a turn rests whose program fell over


@pytest.fixture(scope="module")
def settlement(shared_machine: Guest) -> Settlement:
    return settled(shared_machine)


@pytest.fixture(scope="module")
def small(installed: Path, layers: Layers) -> Iterator[Settlement]:
    """On a machine with little memory and a small disk."""
    with Guest(layers=[installed], binds=layers.binds(), disk_bytes=2**26, memory_bytes=700 * 2**20) as guest:
        yield settled(guest)


@pytest.fixture(scope="module")
def timed(installed: Path, layers: Layers) -> Iterator[Settlement]:
    """Where a turn that failed rests for long."""
    with Guest(layers=[installed], binds=layers.binds()) as guest:
        yield settled(guest, SHIPPED_BACKOFF)


@pytest.fixture(scope="module")
def thinkers(installed: Path, layers: Layers) -> Iterator[Settlement]:
    """Where Claude Code thinks."""
    with Guest(layers=[installed], binds=layers.binds()) as guest, made_inside(guest, Standin) as api:
        yield settled(Thinkers(guest, api))


def settled(where: Guest | Settlement, first_backoff_seconds: int = SHIPPED_BACKOFF if IS_WHOLE else QUICK_BACKOFF) -> Settlement:
    settlement = where if isinstance(where, Settlement) else Settlement(where)
    settlement.furnish(first_backoff_seconds)
    settlement.settle(30)
    return settlement


def comes_back(settlement: Settlement, blow: Blow) -> None:
    """Strike, and see that all is well within the time and that nothing was lost or said twice."""
    settlement.machine.run("systemctl", "reset-failed")  # the restarts that other blows have cost are no part of this one
    already = len(settlement.asked)
    with blow.setting(settlement):
        over = struck(settlement, blow)
        settlement.settle(over + blow.within - time.monotonic())
        seconds = time.monotonic() - over
        verdict = settlement.judged()
        assert verdict.violations == {kind: [] for kind in verdict.violations}
        assert settlement.unexplained(settlement.asked[already:]) == []
        blow.check(settlement)
        settlement.machine.run(*CHECK)
    print(f"{blow.title}: {seconds:.1f} s")
    if IS_WHOLE:
        page.note(blow, seconds)


def struck(settlement: Settlement, blow: Blow) -> float:
    """When the blow was over. People talk after it, and if it is to find everybody busy, before and meanwhile, too."""
    if not blow.busy:
        blow.strike(settlement)
    over = time.monotonic()
    with Talk(settlement) as talk:
        if blow.busy:
            talk.await_messages(3, 20)
            settlement.until(lambda: len(settlement.thinking()) == len(AGENTS))
            blow.strike(settlement)
            over = time.monotonic()
        talk.await_messages(5, blow.within)
    return over


def each(table: tuple[Blow, ...]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return pytest.mark.parametrize("blow", table, ids=[blow.title for blow in table])


@each((*blows.BODY, *blows.DISKS))
def test_it_comes_back(settlement: Settlement, blow: Blow) -> None:
    comes_back(settlement, blow)


@each(blows.MACHINE)
def test_it_comes_back_with_the_machine(small: Settlement, blow: Blow) -> None:
    comes_back(small, blow)


@each(blows.CLOCK)
def test_it_comes_back_from_another_time(timed: Settlement, blow: Blow) -> None:
    comes_back(timed, blow)


@each(blows.THINKERS)
def test_it_comes_back_with_claude_code(thinkers: Settlement, blow: Blow) -> None:
    comes_back(thinkers, blow)


def test_it_comes_back_from_what_lasts(installed: Path, layers: Layers) -> None:
    """Each on a machine of its own, and all at once: most of the time nothing is done."""

    def alone(guest: Guest, blow: Blow) -> None:
        comes_back(settled(guest), blow)

    with ExitStack() as stack, ThreadPoolExecutor(len(blows.LONG)) as pool:
        guests = [stack.enter_context(Guest(layers=[installed], binds=layers.binds())) for _ in blows.LONG]
        running = [pool.submit(alone, guest, blow) for guest, blow in zip(guests, blows.LONG, strict=True)]
        failed = [error for each in running if (error := each.exception())]
        if failed:
            print(*(guest.last_words() for guest in guests), sep="\n\n")
            raise BaseExceptionGroup("not all came back", failed)


def test_each_process_there_is_gets_killed(settlement: Settlement) -> None:
    roles = {strikes.FIRST, strikes.ANSWERS, strikes.WORKER, strikes.TURN, strikes.BWRAP, strikes.INIT, strikes.BRAIN}
    with Talk(settlement):
        settlement.until(lambda: len(settlement.thinking()) == len(AGENTS))
        found = strikes.by_role(settlement)
    settlement.settle(20)
    assert found.keys() == roles
    assert all(any(blow.name == f"kill -9: {role}" for blow in blows.BODY) for role in roles)
    assert [len(found[role]) for role in (strikes.WORKER, strikes.TURN, strikes.BRAIN)] == [len(AGENTS)] * 3


# --- dreams and births


def dream(settlement: Settlement) -> None:
    settlement.machine.run("systemctl", "stop", "agent-scout-dream")
    settlement.machine.run("systemctl", "reset-failed")
    strikes.begin_dreams(settlement, "scout")


def memory(settlement: Settlement) -> int:
    """Its number, if it is whole."""
    text = settlement.machine.path("/home/agents/scout/memory/memory.md").read_text()
    number = int(text.splitlines()[0])
    assert text == ("0\n" if number == 0 else mind.memory(number))
    return number


def wake_up(settlement: Settlement) -> None:
    """A dream that was lost holds its agent until its lease ends, or another one begins."""
    strikes.remember(settlement, "scout")  # the last one may have been dreamt to its end
    assert settlement.machine.run("colony-agent", "dream", "scout", "--now").stdout == "scout has dreamt\n"
    settlement.settle(20)


KILL_DREAM = ("systemctl", "kill", "--signal=KILL", "agent-scout-dream")


def test_a_dream_that_is_killed_at_any_moment_leaves_the_old_memory_or_the_new(small: Settlement) -> None:
    dream(small)
    small.machine.run(*KILL_DREAM)
    assert memory(small) == 0
    dream(small)
    small.machine.power_cut()
    assert memory(small) == 0
    found = {killed_after_thinking(small, milliseconds) for milliseconds in (0, 10, 20, 30, 50, 80, 120)}
    assert found <= {0, 1}
    dream(small)
    small.until(lambda: not small.dreaming())
    small.machine.power_cut()
    assert memory(small) in (0, 1)
    wake_up(small)


def killed_after_thinking(settlement: Settlement, milliseconds: int) -> int:
    dream(settlement)
    settlement.until(lambda: not settlement.dreaming())
    time.sleep(milliseconds / 1000)
    settlement.machine.run(*KILL_DREAM, check=False)
    return memory(settlement)


def test_a_dream_without_room_leaves_the_memory_as_it_was(settlement: Settlement) -> None:
    with strikes.small_disks(settlement):
        dream(settlement)
        strikes.fills(blows.HOMES, lambda settlement: settlement.until(lambda: not settlement.dreaming()))(settlement)
    assert memory(settlement) == 0
    assert status(settlement.machine, "scout")["trouble"] == "its last dream failed"
    wake_up(settlement)
    assert memory(settlement) == 1


INTERRUPTED = {
    "wren": "/etc/colony/agents/wren.toml",
    "crow": "/home/agents/crow/CLAUDE.md",
    "heron": "/etc/systemd/system/agent-heron-worker.service",
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_a_birth_that_a_power_cut_interrupts_is_completed_by_a_rerun(small: Settlement, name: str) -> None:
    machine = small.machine
    born = machine.start("colony-agent", "birth", name, "--soul", SOUL)
    small.until(machine.path(INTERRUPTED[name]).exists)
    machine.power_cut()
    assert born.wait(10) != 0
    small.settle(30)
    birth(machine, name, soul=SOUL)
    assert json.loads(birth(machine, name, "--json", soul=SOUL).stdout)["steps"] == []
    assert sum(message["body"].startswith(f"@{name} welcome") for message in messages(machine)) == 1
    small.settle(30)
    assert status(machine, name)["member"]["status"] == "healthy"
    death(machine, name, "--purge")


# --- the page


def test_the_page_shows_the_table_that_is_tested_and_what_it_promises() -> None:
    assert page.PAGE.read_text() == page.made()
    seen = page.seen()
    assert [*seen] == [blow.title for blow in blows.ALL]
    assert [blow.title for blow in blows.ALL if seen[blow.title] > blow.within] == []
