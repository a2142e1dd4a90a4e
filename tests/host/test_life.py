"""Agents that live on a real machine: what people do with them, and what keeps them within their bounds."""

from __future__ import annotations

import json
import time

import pytest

from tests.guest.guest import Guest
from tests.host.cast import answer, answers, birth, one_line, prepare, say, status, until


@pytest.fixture(scope="module")
def host(shared_machine: Guest) -> Guest:
    """Scout lives here."""
    prepare(shared_machine)
    birth(shared_machine, "scout", "--memory-max", "256M")
    return shared_machine


def pid_of(host: Guest, unit: str = "agent-scout-worker") -> str:
    return host.unit(unit, "MainPID")["MainPID"]


def is_working(host: Guest) -> bool:
    return status(host, "scout")["member"]["turn_id"] is not None


def test_who_is_paused_lets_things_wait_and_who_is_resumed_answers_them(host: Guest) -> None:
    assert host.run("colony-agent", "pause", "scout", "--note", "tea").stdout == "scout is paused\n"
    asked = say(host, "@scout are you there?")
    assert status(host, "scout")["member"]["status"] == "paused"
    assert status(host, "scout")["trouble"] == "tea"
    time.sleep(1)
    assert answers(host, asked) == []
    assert host.run("colony-agent", "resume", "scout").stdout == "scout is healthy\n"
    assert answer(host, asked) == "you said: @scout are you there?"


def test_status_is_for_everyone_and_names_who_lives_here(host: Guest) -> None:
    host.run("sh", "-c", "id human || useradd --create-home human")
    shown = host.run("colony-agent", "status", "scout").stdout.splitlines()
    assert shown[0].split("\t")[:4] == ["agent", "state", "worker", "memory"]
    assert shown[1].split("\t")[:3] == ["scout", "healthy", "active"]
    assert "here live scout" in one_line(host.run("colony-agent", "status", "nobody-here", check=False))
    seen = host.run("colony-agent", "status", "scout", user="human")
    assert seen.stdout.splitlines()[1].split("\t")[:3] == ["scout", "?", "active"]
    assert seen.stderr.startswith("colony-agent: Linux user human is no user of this colony; sudo colony-server user add human")


def test_a_reader_that_leaves_early_ends_it_without_a_word(host: Guest) -> None:
    for command in ("status --watch", "logs scout -f", "logs scout -n 10000", "status"):
        ran = host.run("bash", "-c", f"colony-agent {command} | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}")
        assert ran.stderr == "", command
        assert command != "status --watch" or ran.stdout == "141\n"


def test_a_restart_hands_the_work_back_and_goes_on_with_it(host: Guest) -> None:
    asked = say(host, "@scout take your time")
    until(lambda: is_working(host))
    before = pid_of(host)
    host.run("colony-agent", "restart", "scout")
    assert pid_of(host) != before
    until(lambda: is_working(host))
    host.run("colony", "stop", str(status(host, "scout")["member"]["turn_id"]))
    until(lambda: not is_working(host))
    attempts = json.loads(host.run("colony", "explain", str(asked), "--json").stdout)["turns"][0]["attempts"]
    assert [attempt["error_code"] for attempt in attempts] == ["stopped", "cancelled"]


def test_a_turn_that_eats_all_memory_dies_and_the_worker_lives(host: Guest) -> None:
    before = pid_of(host)
    asked = say(host, "@scout eat it all")
    until(lambda: "crashed" in host.run("colony", "explain", str(asked)).stdout)
    assert (pid_of(host), status(host, "scout")["worker"]["restarts"]) == (before, 0)
    turn = json.loads(host.run("colony", "turns", "scout", "--json").stdout)["turns"][0]["id"]
    host.run("colony", "stop", str(turn))


def test_a_worker_that_hangs_is_started_again(host: Guest) -> None:
    host.write("/etc/systemd/system/agent-scout-worker.service.d/test.conf", "[Service]\nWatchdogSec=2\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "agent-scout-worker")
    before = pid_of(host)
    host.run("kill", "-STOP", before)
    until(lambda: pid_of(host) not in (before, "0"))
    assert answer(host, say(host, "@scout and now?")) == "you said: @scout and now?"
    assert "watchdog" in host.journal("agent-scout-worker").lower()
    host.run("rm", "-r", "/etc/systemd/system/agent-scout-worker.service.d")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "agent-scout-worker")


def test_the_journal_can_be_asked_by_agent_turn_and_channel(host: Guest) -> None:
    answer(host, say(host, "@scout note this"))
    turn = json.loads(host.run("colony", "turns", "scout", "--json").stdout)["turns"][0]["id"]
    host.run("journalctl", "--sync")
    found = host.run("journalctl", "--output=json", "COLONY_AGENT=scout", f"COLONY_TURN={turn}", "COLONY_CHANNEL=general").stdout
    assert any("turn done" in json.loads(line)["MESSAGE"] for line in found.splitlines())
    assert {json.loads(line)["SYSLOG_IDENTIFIER"] for line in found.splitlines()} == {"agent-scout"}
    assert "turn done" in host.run("colony-agent", "logs", "scout").stdout
    assert "no agent crow lives on this machine" in host.run("colony-agent", "logs", "crow").stderr


def no_dream(host: Guest) -> str:
    """Why it does not dream."""
    ran = host.run("colony-agent", "dream", "scout", "--now", check=False)
    assert ran.returncode == 75
    return one_line(ran).removeprefix("scout does not dream now: ")


def test_a_dream_comes_when_it_is_asked_for_and_by_itself(host: Guest) -> None:
    assert no_dream(host) == "there is nothing to dream of yet"
    host.run("sh", "-c", "echo 'ann likes tea' > /home/agents/scout/memory/memory.md", user="scout")
    assert host.run("colony-agent", "dream", "scout", "--now").stdout == "scout has dreamt\n"
    assert no_dream(host) == "nothing is new since the last dream"
    host.run("colony-agent", "pause", "scout")
    host.run("sh", "-c", "echo 'bob likes cake' >> /home/agents/scout/memory/memory.md", user="scout")
    assert no_dream(host) == "scout is paused"
    host.run("colony-agent", "resume", "scout")
    kinds = [turn["kind"] for turn in json.loads(host.run("colony", "turns", "scout", "--json").stdout)["turns"]]
    assert kinds[0] == "dream"
    timer = host.run("systemctl", "show", "agent-scout-dream.timer").stdout
    for said in ("ActiveState=active", "OnActiveUSec=30min", "OnUnitActiveUSec=4h", "RandomizedDelayUSec=30min", "FixedRandomDelay=yes"):
        assert said in timer


def test_it_dreams_not_while_a_turn_runs(host: Guest) -> None:
    say(host, "@scout take your time")
    until(lambda: is_working(host))
    assert no_dream(host) == "a turn or a dream of it runs"
    host.run("colony", "stop", str(status(host, "scout")["member"]["turn_id"]))


def test_a_memory_can_be_looked_into_and_gone_back_to(host: Guest) -> None:
    memory = "/home/agents/scout/memory/memory.md"
    for text in ("one", "two"):
        host.run("sh", "-c", f"echo {text} > {memory}", user="scout")
        host.run("colony-agent", "dream", "scout", "--now")
    host.run("sh", "-c", f"echo three > {memory}", user="scout")
    assert "+three" in host.run("colony-agent", "memory", "scout", "diff").stdout
    commits = json.loads(host.run("colony-agent", "memory", "scout", "log", "--json").stdout)
    assert commits[0]["subject"].startswith("Dream of")
    assert host.run("colony-agent", "memory", "scout", "revert", "HEAD~1").stdout == "scout remembers what it did at HEAD~1\n"
    assert host.run("cat", memory).stdout == "one\n"
    assert host.run("stat", "--format=%U %a", memory).stdout == "scout 600\n"
    assert "is no revision" in one_line(host.run("colony-agent", "memory", "scout", "diff", "--", "--output=/etc/x", check=False))
    assert "no agent crow" in one_line(host.run("colony-agent", "memory", "crow", "log", check=False))


def test_a_credential_is_for_the_gate_alone(host: Guest) -> None:
    host.run("colony-agent", "credential", "set", "ANTHROPIC_API_KEY", stdin="sk-planted-123")
    host.run("colony-agent", "credential", "set", "ANTHROPIC_BASE_URL", "--agent", "thinker", stdin="http://127.0.0.1:9")
    assert host.run("colony-agent", "credential", "list").stdout == "ANTHROPIC_API_KEY\tall agents\nANTHROPIC_BASE_URL\tthinker\n"
    host.write("/opt/brains/thinker.md", "---\nrunner: claude\n---\nThink.\n")
    birth(host, "thinker", soul="/opt/brains/thinker.md")
    folder = "/run/credentials/colony-egress.service"
    assert host.run("cat", f"{folder}/ANTHROPIC_API_KEY").stdout == "sk-planted-123"
    assert host.run("cat", f"{folder}/thinker.ANTHROPIC_BASE_URL").stdout == "http://127.0.0.1:9"
    assert host.run("find", "/run/credentials", "-path", "*agent-*").stdout == ""
    for user in ("scout", "thinker", "nobody", "colony"):
        assert host.run("cat", f"{folder}/ANTHROPIC_API_KEY", user=user, check=False).returncode != 0
    assert "sk-planted" not in host.run("systemctl", "show", "agent-thinker-worker", "agent-scout-worker", "colony-egress").stdout
    found = host.run("grep", "-rlas", "sk-planted", "/etc", "/home", "/var/lib/colony", "/run/colony", check=False)
    assert found.stdout == ""
    assert "printable" in one_line(host.run("colony-agent", "credential", "set", "ANTHROPIC_API_KEY", stdin="two\nlines", check=False))
    said = one_line(host.run("colony-agent", "credential", "set", "ANTHROPIC_BASE_URL", stdin="http://gateway.example:4000", check=False))
    assert "would send the key unprotected" in said
    host.run("colony-agent", "death", "thinker", "--purge")
    assert host.run("find", folder, "-name", "thinker.*").stdout == ""
    host.run("rm", "/etc/colony/credentials/ANTHROPIC_API_KEY")
    host.run("systemctl", "restart", "colony-egress")  # a credential that is gone must not keep it from all others
    host.run("touch", "/etc/colony/credentials/ANTHROPIC_API_KEY")
    host.run("colony-agent", "credential", "rm", "ANTHROPIC_API_KEY")
    assert host.run("colony-agent", "credential", "list").stdout == ""


def test_an_upgrade_brings_the_present_release_and_hands_no_answer_over_twice(host: Guest) -> None:
    assert host.run("colony-agent", "upgrade", "scout").stdout == "scout runs the present release\n"
    before = pid_of(host)
    new_release(host, "better")
    record = host.path("/etc/colony/agents/scout.toml").read_text()
    host.write("/etc/colony/agents/scout.toml", record.replace(str(256 * 2**20), str(300 * 2**20)), 0o600)
    host.run("colony-agent", "upgrade", "--all", "--now")
    assert pid_of(host) != before
    found = host.unit("agent-scout-worker", "ExecStart", "MemoryMax")
    assert "/releases/better/" in found["ExecStart"]
    assert found["MemoryMax"] == str(300 * 2**20)
    assert answer(host, say(host, "@scout new?")) == "you said: @scout new?"


def test_a_release_that_does_not_work_is_left_again(host: Guest) -> None:
    answer(host, say(host, "@scout before"))
    unit = host.path("/etc/systemd/system/agent-scout-worker.service").read_text()
    was = host.run("readlink", "-f", "/opt/colony/current").stdout.strip()
    new_release(host, "broken")
    host.write("/opt/colony/releases/broken/.venv/bin/colony-agent", "#!/bin/sh\nexit 3\n", 0o755)
    ran = host.run(f"{was}/.venv/bin/colony-agent", "upgrade", "scout", "--now", check=False, seconds=120)
    host.run("ln", "-sfn", was, "/opt/colony/current")
    assert "did not come back, and runs as before" in one_line(ran)
    assert host.path("/etc/systemd/system/agent-scout-worker.service").read_text() == unit
    assert answer(host, say(host, "@scout after")) == "you said: @scout after"


def new_release(host: Guest, name: str) -> None:
    """Another release beside the present one, with the same code; only its `colony-agent` is a file of its own."""
    real = host.run("readlink", "-f", "/opt/colony/current").stdout.strip()
    there = f"/opt/colony/releases/{name}"
    host.run("mkdir", "-p", f"{there}/.venv/bin")
    host.run("sh", "-c", f"ln -s {real}/.venv/bin/* {there}/.venv/bin/")
    host.run("cp", "--remove-destination", f"{real}/.venv/bin/colony-agent", f"{there}/.venv/bin/")
    host.run("ln", "-sfn", there, "/opt/colony/current")


def test_a_stranger_to_this_machine_can_be_neither_restarted_nor_upgraded(host: Guest) -> None:
    for command in ("restart", "upgrade"):
        assert "no agent crow lives on this machine" in one_line(host.run("colony-agent", command, "crow", check=False))
        assert "name one or more agents, or give --all" in one_line(host.run("colony-agent", command, check=False))
    assert "no agent crow" in one_line(host.run("colony-agent", "dream", "crow", "--now", check=False))


def test_the_soul_is_the_operators_and_each_release_brings_its_rules(host: Guest) -> None:
    assert host.run("cat", "/home/agents/scout/CLAUDE.md").stdout == "# An agent\nYou repeat what you hear.\n"
    host.run("sh", "-c", "echo mine > /home/agents/scout/.claude/rules/colony.md", user="scout")
    host.run("colony-agent", "upgrade", "scout")
    assert "You are an agent of a colony" in host.run("cat", "/home/agents/scout/.claude/rules/colony.md").stdout
