"""Births on a real machine: whole, interrupted anywhere, two at once, and those that can't be."""

from __future__ import annotations

import json

import pytest

from tests.guest.guest import Guest
from tests.host.cast import SOUL, answer, birth, death, messages, one_line, prepare, say, status, traces

STEPS = ["record", "member", "user", "home", "limits", "watch", "units", "start", "healthy", "welcome", "born"]
FAILPOINTS = "/run/failpoints"
KILLED = 137
WHOLE_SOUL = "/opt/brains/whole.md"


@pytest.fixture(scope="module")
def host(shared_machine: Guest) -> Guest:
    prepare(shared_machine)
    soul = shared_machine.path(SOUL).read_text().replace("pulse_minutes", "watch: general\nlimits: {turns_per_hour: 100}\npulse_minutes")
    shared_machine.write(WHOLE_SOUL, soul)
    return shared_machine


def killed_after(host: Guest, step: str, *command: str) -> None:
    host.write(f"{FAILPOINTS}/host.step.{step}", "crash")
    ran = host.run("colony-agent", *command, env={"COLONY_FAILPOINTS": FAILPOINTS}, check=False)
    assert ran.returncode == KILLED, ran


def welcomes(host: Guest, name: str) -> int:
    return sum(message["body"].startswith(f"@{name} welcome") for message in messages(host))


def test_the_steps_are_those_that_are_tested_below(host: Guest) -> None:
    before = traces(host)
    planned = json.loads(birth(host, "whole", "--dry-run", "--json", soul=WHOLE_SOUL).stdout)["steps"]
    assert [step["name"] for step in planned] == STEPS
    assert traces(host) == before


def test_a_newborn_introduces_itself_and_answers_and_a_rerun_plans_nothing(host: Guest) -> None:
    birth(host, "wren", "--repo", "/usr/src/colony")
    [welcome] = [message for message in messages(host) if message["body"].startswith("@wren welcome")]
    assert answer(host, welcome["id"]).startswith("you said: @wren welcome")
    assert answer(host, say(host, "@wren hello")) == "you said: @wren hello"
    again = birth(host, "wren", "--json")
    assert json.loads(again.stdout)["steps"] == []
    assert welcomes(host, "wren") == 1
    assert host.run("git", "-C", "/home/agents/wren", "log", "--format=%s", user="wren").stdout == "Birth of wren\n"
    assert host.run("git", "-C", "/home/agents/wren/repo", "remote", "get-url", "origin", user="wren").stdout == "/usr/src/colony\n"
    death(host, "wren", "--purge")


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_another_birth_completes_it(host: Guest, step: str) -> None:
    name = f"k-{step}"
    killed_after(host, step, "birth", name, "--soul", WHOLE_SOUL)
    birth(host, name, soul=WHOLE_SOUL)
    assert json.loads(birth(host, name, "--json", soul=WHOLE_SOUL).stdout)["steps"] == []
    found = status(host, name)
    assert (found["member"]["status"], found["worker"]["active"], found["member"]["turns_per_hour"]) == ("healthy", "active", 100)
    assert answer(host, say(host, f"@{name} hello")) == f"you said: @{name} hello"
    assert welcomes(host, name) == 1
    death(host, name, "--purge")


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_a_death_removes_every_trace(host: Guest, step: str) -> None:
    name = f"d-{step}"
    before = traces(host)
    killed_after(host, step, "birth", name, "--soul", WHOLE_SOUL)
    assert traces(host) != before
    death(host, name, "--purge")
    assert traces(host) == before


@pytest.mark.parametrize("step", ["draining", "units", "home", "user", "dead", "record"])
def test_killed_after_any_step_another_death_completes_it(host: Guest, step: str) -> None:
    name = f"e-{step}"
    before = traces(host)
    birth(host, name)
    killed_after(host, step, "death", name)
    if step == "record":  # the last one
        assert "no agent" in one_line(death(host, name, check=False))
    else:
        death(host, name)
    assert traces(host) == before
    [archive] = host.run("find", "/var/backups/colony-agents", "-name", f"{name}-*.tar.gz").stdout.split()
    assert f"{name}/CLAUDE.md" in host.run("tar", "--list", "--file", archive).stdout.split()
    assert host.run("stat", "--format=%a %U", archive.rpartition("/")[0]).stdout == "700 root\n"


def test_two_births_of_one_name_at_once_give_one_agent(host: Guest) -> None:
    both = [host.start("colony-agent", "birth", "twin", "--soul", SOUL) for _ in range(2)]
    said = [each.communicate(timeout=60) for each in both]
    assert sorted(each.returncode for each in both) == [0, 5], said
    [loser] = [err for each, (_, err) in zip(both, said, strict=True) if each.returncode]
    assert loser == "colony-agent: somebody else is giving birth to twin, or copies, changes or ends it; try again when that is done\n"
    assert answer(host, say(host, "@twin one?")) == "you said: @twin one?"
    assert welcomes(host, "twin") == 1
    death(host, "twin", "--purge")


def test_births_of_different_names_are_not_in_each_others_way(host: Guest) -> None:
    names = [f"many{number}" for number in range(6)]
    births = [host.start("colony-agent", "birth", name, "--soul", SOUL) for name in names]
    assert [(each.communicate(timeout=60)[1].count("Traceback"), each.returncode) for each in births] == [(0, 0)] * 6
    asked = {name: say(host, f"@{name} hello") for name in names}  # in one message they would mention each other with what they repeat
    for name in names:
        assert answer(host, asked[name]) == f"you said: @{name} hello"
        death(host, name, "--purge")


def test_the_same_name_can_be_born_again(host: Guest) -> None:
    for life in (1, 2):
        birth(host, "phoenix")
        assert welcomes(host, "phoenix") == life
        assert answer(host, say(host, f"@phoenix life {life}")) == f"you said: @phoenix life {life}"
        death(host, "phoenix")


REFUSED = {
    "a bad name": (["Scout"], "can't be an agent's name"),
    "a name for all": (["agents"], "@agents addresses all of them"),
    "a name with a path": (["../etc"], "can't be an agent's name"),
    "a human's name": (["human"], "a Linux user or group human is there already and is no agent's"),
    "a system user's name": (["daemon"], "a Linux user or group daemon is there already"),
    "a member's name": (["colony"], "is there already"),
    "no soul": (["crow", "--soul", "/nowhere.md"], "no soul at /nowhere.md"),
    "a soul that is not UTF-8": (["crow", "--soul", "/opt/brains/latin.md"], "not UTF-8"),
    "an unknown key in the soul": (["crow", "--soul", "/opt/brains/odd.md"], "unknown key mood; known are name, watch"),
    "a repository that is nowhere": (["crow", "--repo", "/nowhere.git"], "can't clone /nowhere.git"),
    "a repository that is out of reach": (["crow", "--repo", "https://127.0.0.1:1/x.git"], "can't clone https://127.0.0.1:1/x.git"),
    "a folder that is no repository": (["crow", "--repo", "/usr"], "can't clone /usr"),
    "an unknown channel": (["crow", "--watch", "nowhere"], "there is no channel nowhere to watch"),
    "an unknown runner": (["crow", "--runner", "gpt"], "is no runner"),
    "a program that is not there": (["crow", "--runner", "command:/opt/nothing"], "/opt/nothing"),
    "a program that agents don't see": (["crow", "--runner", "command:/root/brain"], "agents don't see /root/brain"),
    "a program for root alone": (["crow", "--runner", "command:/opt/secret"], "agents can't run /opt/secret"),
    "a memory that is no size": (["crow", "--memory-max", "much"], "'much' is no size"),
    "a memory that is too small": (["crow", "--memory-max", "1M"], "no agent can live with 1M"),
    "a home that is too small": (["crow", "--home-max", "1M"], "no agent can live with 1M"),
    "Claude Code without a key": (["crow", "--runner", "claude"], "colony-agent credential set ANTHROPIC_API_KEY"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_is_one_clear_line_and_changes_nothing(host: Guest, case: str) -> None:
    host.run("sh", "-c", "id human || useradd --create-home human")
    host.write("/opt/brains/odd.md", "---\nmood: gay\n---\nhello\n")
    host.path("/opt/brains/latin.md").write_bytes(b"h\xe9llo")
    host.write("/root/brain", "#!/bin/sh\n", 0o755)
    host.write("/opt/secret", "#!/bin/sh\n", 0o700)
    words, says = REFUSED[case]
    before = traces(host)
    options = words[1:] if "--soul" in words else [*words[1:], "--soul", SOUL]
    ran = host.run("colony-agent", "birth", words[0], *options, check=False)
    assert says in one_line(ran)
    assert traces(host) == before


def test_only_root_gives_birth(host: Guest) -> None:
    host.run("sh", "-c", "id human || useradd --create-home human")
    assert "only root may; try sudo" in one_line(host.run("colony-agent", "birth", "crow", "--soul", SOUL, user="human", check=False))
    assert "only root may" in one_line(host.run("colony-agent", "death", "crow", user="human", check=False))


def test_without_the_server_nothing_is_begun_and_everybody_hears_how_to_start_it(host: Guest) -> None:
    host.run("sh", "-c", "id human || useradd --create-home human")
    before = traces(host)
    host.run("systemctl", "stop", "colony-server")
    said = [one_line(birth(host, "crow", check=False)), one_line(death(host, "crow", check=False))]
    said += [one_line(host.run("colony-agent", command, "crow", check=False)) for command in ("pause", "drain")]
    said += [one_line(host.run("colony", "post", "general", "hello", user=user, check=False)) for user in ("root", "human")]
    host.run("systemctl", "start", "colony-server")
    for line in said:
        assert line.endswith("is colony-server running? Start it with: sudo systemctl start colony-server"), line
    assert traces(host) == before


def test_without_systemd_it_is_said_so(host: Guest) -> None:
    host.run("mv", "/run/systemd/system", "/run/systemd/elsewhere")
    said = one_line(birth(host, "crow", check=False))
    host.run("mv", "/run/systemd/elsewhere", "/run/systemd/system")
    assert "systemd does not run here" in said


def test_a_full_disk_leaves_what_another_birth_completes(machine: Guest) -> None:
    prepare(machine)
    machine.run("mkdir", "-p", "/mnt/small")
    machine.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=711", "none", "/home/agents")
    machine.run("dd", "if=/dev/zero", "of=/home/agents/filler", "bs=1k", "count=60", "status=none")
    said = birth(machine, "scout", check=False)
    assert said.returncode != 0
    assert "No space left on device" in said.stderr.splitlines()[-1]
    assert said.stderr.endswith("scout is not complete: repeat the birth, or end it with colony-agent death scout\n")
    assert "Traceback" not in said.stderr
    machine.run("rm", "/home/agents/filler")
    machine.run("mount", "-o", "remount,size=10m", "/home/agents")
    birth(machine, "scout")
    assert answer(machine, say(machine, "@scout hello")) == "you said: @scout hello"
