"""Living agents are given another soul, on a real machine: whole, interrupted anywhere, and where it can't be."""

from __future__ import annotations

import json
import time

import pytest

from colony.command_line import INTERRUPTED
from tests.guest.guest import Guest
from tests.host.cast import BRAIN, SOUL, answer, answers, birth, death, messages, one_line, prepare, say, status, traces, until
from tests.host.hosting import arm

HOME = "/home/agents/scout"
OTHER = "/opt/brains/other.md"
OTHER_TEXT = """\
---
watch: [ops]
runner: "command:/opt/brains/loud"
limits: {turns_per_hour: 100, memory_max: 300M, turn_timeout_seconds: 30}
pulse_minutes: 5
---
# Another
You repeat it louder.
"""
STEPS = ["stop", "settings", "units", "start", "soul", "limits", "watch"]
KILLED = 137
DROP_IN = "/etc/systemd/system/agent-scout-worker.service.d"


@pytest.fixture(scope="module")
def host(shared_machine: Guest) -> Guest:
    prepare(shared_machine)
    loud = shared_machine.path(BRAIN).read_text().replace('"you said:"', '"YOU SAID:"')
    shared_machine.write("/opt/brains/loud", loud, 0o755)
    shared_machine.write(OTHER, OTHER_TEXT)
    return shared_machine


@pytest.fixture
def scout(host: Guest) -> Guest:
    """The machine, on which scout has just been born."""
    host.run("rm", "-rf", DROP_IN)
    if "scout" in host.run("colony-agent", "status").stdout:
        death(host, "scout", "--purge")
    birth(host, "scout", "--memory-max", "256M")
    return host


def planned(host: Guest, soul: str, name: str = "scout") -> list[str]:
    ran = host.run("colony-agent", "soul", "set", name, soul, "--dry-run", "--json")
    return [step["name"] for step in json.loads(ran.stdout)["steps"]]


def subjects(host: Guest) -> list[str]:
    return host.run("git", "-C", HOME, "log", "--format=%s", user="scout").stdout.splitlines()


def worker(host: Guest) -> str:
    return host.unit("agent-scout-worker", "MainPID")["MainPID"]


def found(host: Guest) -> list[str]:
    """All that stands in files of how it lives."""
    files = (f"{HOME}/.colony.toml", f"{HOME}/CLAUDE.md", "/etc/colony/agents/scout.toml", "/etc/systemd/system/agent-scout-worker.service")
    return [host.run("cat", file).stdout for file in files]


def lives_by_the_other(host: Guest) -> None:
    assert planned(host, OTHER) == []
    assert answer(host, say(host, "@scout hello")) == "YOU SAID: @scout hello"
    watched = say(host, "hello ops", "ops")
    until(lambda: answers(host, watched, "ops") == ["YOU SAID: hello ops"])
    assert host.unit("agent-scout-worker", "MemoryMax")["MemoryMax"] == str(300 * 2**20)
    assert host.run("cat", f"{HOME}/CLAUDE.md").stdout == "# Another\nYou repeat it louder.\n"
    assert status(host, "scout")["member"]["turns_per_hour"] == 100
    assert host.run("stat", "--format=%U %a", f"{HOME}/CLAUDE.md", f"{HOME}/.colony.toml").stdout == "scout 600\n" * 2
    assert json.loads(host.run("colony-agent", "doctor", "scout", "--json").stdout)["findings"] == []


def test_what_is_shown_and_set_again_changes_nothing(scout: Guest) -> None:
    shown = scout.run("colony-agent", "soul", "show", "scout").stdout
    assert shown.endswith("---\n# An agent\nYou repeat what you hear.\n")
    assert "memory_max: 256M\n" in shown
    scout.write("/root/shown.md", shown)
    before = worker(scout)
    assert scout.run("colony-agent", "soul", "set", "scout", "/root/shown.md").stdout == "nothing to do: scout has this soul already\n"
    assert planned(scout, SOUL) == []
    assert worker(scout) == before


def test_a_living_agent_gets_another_soul_and_a_rerun_plans_nothing(scout: Guest) -> None:
    before = traces(scout)
    assert planned(scout, OTHER) == STEPS
    assert traces(scout) == before
    assert scout.run("colony-agent", "soul", "set", "scout", OTHER).stdout == "scout lives by it now\n"
    lives_by_the_other(scout)
    scout.write("/root/shown.md", scout.run("colony-agent", "soul", "show", "scout").stdout)
    assert planned(scout, "/root/shown.md") == []
    scout.run("colony-agent", "soul", "set", "scout", SOUL)
    assert answer(scout, say(scout, "@scout back?")) == "you said: @scout back?"


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_another_set_completes_it(scout: Guest, step: str) -> None:
    ran = scout.run("colony-agent", "soul", "set", "scout", OTHER, env=arm(scout, step), check=False)
    assert ran.returncode == KILLED, ran
    scout.run("colony-agent", "soul", "set", "scout", OTHER)
    lives_by_the_other(scout)


def test_a_new_text_alone_leaves_the_worker_and_its_turn_in_peace(scout: Guest) -> None:
    scout.write("/opt/brains/text.md", "# Only\nanother text.\n")
    asked = say(scout, "@scout take your time")
    until(lambda: status(scout, "scout")["member"]["turn_id"] is not None)
    before = worker(scout)
    scout.run("colony-agent", "soul", "set", "scout", "/opt/brains/text.md")
    assert worker(scout) == before
    [brain] = scout.run("pgrep", "--uid", "scout", "--full", "^/usr/bin/python3 -I /opt/brains/echo").stdout.split()
    wrote = scout.run("nsenter", f"--target={brain}", "--mount", "--", "sh", "-c", f"echo mine >> {HOME}/CLAUDE.md", check=False)
    assert "Read-only file system" in wrote.stderr, "it must not come to light in the turn that runs"
    turn = status(scout, "scout")["member"]["turn_id"]
    assert turn in [each["id"] for each in json.loads(scout.run("colony", "explain", str(asked), "--json").stdout)["turns"]]
    scout.run("colony", "stop", str(turn))


def test_what_was_written_by_hand_is_shown_first_and_then_found_in_the_history(scout: Guest) -> None:
    scout.run("sh", "-c", f"echo 'You whistle.' >> {HOME}/CLAUDE.md", user="scout")
    assert "You whistle." in scout.run("colony-agent", "soul", "show", "scout").stdout
    shown = scout.run("colony-agent", "soul", "set", "scout", OTHER, "--dry-run").stdout
    assert "\n-You whistle.\n" in shown
    assert "\n+You repeat it louder.\n" in shown
    scout.run("colony-agent", "soul", "set", "scout", OTHER)
    assert subjects(scout) == ["Its soul changed", "As it was before its soul changed", "Birth of scout"]
    assert "You whistle." in scout.run("git", "-C", HOME, "show", "HEAD~1:CLAUDE.md", user="scout").stdout


def test_an_agent_that_rests_gets_it_too_and_rests_on(scout: Guest) -> None:
    scout.run("colony-agent", "pause", "scout")
    scout.run("colony-agent", "soul", "set", "scout", OTHER)
    assert status(scout, "scout")["member"]["status"] == "paused"
    scout.run("colony-agent", "resume", "scout")
    lives_by_the_other(scout)


def test_a_command_becomes_claude_code_and_a_command_again(scout: Guest) -> None:
    scout.write("/opt/brains/claude.md", "---\nrunner: claude\nmodel: claude-x\n---\n# An agent\nYou think.\n")
    before = traces(scout)
    said = one_line(scout.run("colony-agent", "soul", "set", "scout", "/opt/brains/claude.md", check=False))
    assert said == "colony-agent: Claude Code needs a key: sudo colony-agent credential set ANTHROPIC_API_KEY"
    assert traces(scout) == before
    scout.run("colony-agent", "credential", "set", "ANTHROPIC_API_KEY", stdin="sk-planted-123")
    scout.run("colony-agent", "soul", "set", "scout", "/opt/brains/claude.md")
    assert scout.unit("agent-scout-worker", "PrivateNetwork")["PrivateNetwork"] == "yes"
    assert "runner: claude\nmodel: claude-x\n" in scout.run("colony-agent", "soul", "show", "scout").stdout
    assert json.loads(scout.run("colony-agent", "doctor", "scout", "--json").stdout)["findings"] == []
    scout.run("colony-agent", "soul", "set", "scout", OTHER)
    scout.run("colony-agent", "credential", "rm", "ANTHROPIC_API_KEY")
    lives_by_the_other(scout)


def test_who_interrupts_it_gets_the_former_agent_back(scout: Guest) -> None:
    before, former = found(scout), worker(scout)
    scout.write(f"{DROP_IN}/test.conf", "[Service]\nExecStartPre=/bin/sleep 8\n")
    scout.run("systemctl", "daemon-reload")
    changing = scout.start("colony-agent", "soul", "set", "scout", OTHER)
    until(lambda: scout.unit("agent-scout-worker", "SubState")["SubState"] == "start-pre", 60)
    time.sleep(1)  # it has asked systemd for everything, and waits
    [pid] = scout.run("pgrep", "--full", "colony-agent soul set scout").stdout.split()
    scout.run("kill", "-INT", pid)
    said, why = changing.communicate(timeout=60)
    assert (changing.returncode, said) == (INTERRUPTED, "")
    assert "Traceback" not in why
    assert found(scout) == before
    assert scout.unit("agent-scout-worker", "ActiveState")["ActiveState"] == "active"
    assert worker(scout) != former, "else it was interrupted before it had begun"


def test_an_agent_that_does_not_come_back_lives_as_before(scout: Guest) -> None:
    before = found(scout)
    scout.write(f"{DROP_IN}/test.conf", f"[Service]\nExecStartPre=/bin/grep -q echo {HOME}/.colony.toml\n")
    scout.run("systemctl", "daemon-reload")
    ran = scout.run("colony-agent", "soul", "set", "scout", OTHER, check=False, seconds=120)
    assert "did not come back, and runs as before" in ran.stderr.splitlines()[-1]
    assert found(scout) == before
    assert status(scout, "scout")["member"]["turns_per_hour"] is None
    assert answer(scout, say(scout, "@scout still?")) == "you said: @scout still?"


def test_an_agent_that_comes_back_neither_way_is_said_to_be_down(scout: Guest) -> None:
    before = found(scout)
    scout.write(f"{DROP_IN}/test.conf", "[Service]\nExecStartPre=/bin/false\n")
    scout.run("systemctl", "daemon-reload")
    ran = scout.run("colony-agent", "soul", "set", "scout", OTHER, check=False, seconds=120)
    assert "scout is down: it came back neither with the change nor as before" in ran.stderr.splitlines()[-1]
    assert found(scout) == before


def test_what_an_agent_has_put_in_the_way_of_its_soul_is_put_aside(scout: Guest) -> None:
    scout.run("sh", "-c", f"rm {HOME}/CLAUDE.md; ln -s /etc/shadow {HOME}/CLAUDE.md", user="scout")
    assert "CLAUDE.md of scout is missing, empty or no file" in one_line(scout.run("colony-agent", "soul", "show", "scout", check=False))
    scout.run("sh", "-c", f"rm -rf {HOME}/.git; echo x > {HOME}/.git", user="scout")
    scout.run("colony-agent", "soul", "set", "scout", OTHER)
    lives_by_the_other(scout)


REFUSED = {
    "nobody of that name": (["crow", OTHER], "crow does not live on this machine; colony-agent birth brings it to life"),
    "a bad name": (["../scout", OTHER], "can't be an agent's name"),
    "no file": (["scout", "/nowhere.md"], "no soul at /nowhere.md"),
    "another's soul": (["scout", "/opt/brains/crow.md"], "that is the soul of crow, not of scout"),
    "an unknown channel": (["scout", "/opt/brains/nowhere.md"], "there is no channel nowhere to watch"),
    "a model for a command": (["scout", "/opt/brains/model.md"], "model is for the runner claude"),
    "a program that agents don't see": (["scout", "/opt/brains/hidden.md"], "agents don't see /root/brain"),
}


def test_what_can_not_be_is_one_clear_line_and_changes_nothing(scout: Guest) -> None:
    scout.write("/root/brain", "#!/bin/sh\n", 0o755)
    for name, head in (
        ("crow", "name: crow"),
        ("nowhere", "watch: nowhere"),
        ("model", "model: opus"),
        ("hidden", "runner: command:/root/brain"),
    ):
        scout.write(f"/opt/brains/{name}.md", f"---\n{head}\n---\nYou.\n")
    before = traces(scout), worker(scout), messages(scout)
    for words, says in REFUSED.values():
        assert says in one_line(scout.run("colony-agent", "soul", "set", *words, check=False))
    for command in (["set", "scout", OTHER], ["show", "scout"]):
        assert "only root may; try sudo" in one_line(scout.run("colony-agent", "soul", *command, user="nobody", check=False))
    assert (traces(scout), worker(scout), messages(scout)) == before


def test_settings_that_are_none_are_named(scout: Guest) -> None:
    scout.run("sh", "-c", f"echo 'agent = 3' > {HOME}/.colony.toml", user="scout")
    assert f"{HOME}/.colony.toml holds no settings of an agent" in one_line(
        scout.run("colony-agent", "soul", "set", "scout", OTHER, check=False)
    )


def test_birth_of_who_lives_leads_to_the_change_of_its_soul(scout: Guest) -> None:
    said = f"nothing to do: scout lives already; to change how: colony-agent soul set scout {OTHER}\n"
    assert birth(scout, "scout", soul=OTHER).stdout == said
    ran = birth(scout, "scout", "--runner", "claude", check=False)
    assert one_line(ran) == "colony-agent: scout lives, and runs command; for claude: colony-agent soul set scout FILE"


def test_a_full_disk_leaves_it_at_work_as_before(machine: Guest) -> None:
    prepare(machine)
    machine.run("mount", "-t", "tmpfs", "-o", "size=1m,mode=711", "none", "/home/agents")
    birth(machine, "scout")
    machine.write("/root/other.md", f"---\nrunner: command:{BRAIN} x\n---\n# Another\n{'You wait. ' * 800}\n")
    machine.run("sh", "-c", "dd if=/dev/zero of=/home/agents/filler bs=1k status=none || true")
    ran = machine.run("colony-agent", "soul", "set", "scout", "/root/other.md", check=False, seconds=120)
    assert ran.returncode != 0
    assert "No space left on device" in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr
    assert machine.unit("agent-scout-worker", "ActiveState")["ActiveState"] == "active"
    machine.run("rm", "/home/agents/filler")
    assert answer(machine, say(machine, "@scout hello")) == "you said: @scout hello"
    machine.run("colony-agent", "soul", "set", "scout", "/root/other.md")
    assert machine.run("head", "-1", f"{HOME}/CLAUDE.md").stdout == "# Another\n"
