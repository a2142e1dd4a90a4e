"""What doctor says of agents that are half born or half dead, to people who are not root, and where hardly anything is left to ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.guest.guest import Guest
from tests.host.cast import SOUL, answer, birth, death, messages, one_line, prepare
from tests.host.hosting import arm
from tests.host.test_doctor import doctor, require

PROGRAM = "/opt/colony/current/.venv/bin/colony-agent"
OLD = "/opt/colony/releases/old"
HOLDS = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); print('locked', flush=True); sys.stdin.read()"


@pytest.fixture(scope="module")
def host(shared_machine: Guest) -> Guest:
    prepare(shared_machine)
    shared_machine.run("useradd", "--create-home", "human")
    birth(shared_machine, "scout", "--memory-max", "256M")
    answer(shared_machine, messages(shared_machine)[0]["id"])  # the welcome; from now on it has nothing to do
    require(doctor(shared_machine)["findings"], [])
    return shared_machine


def killed_after(host: Guest, step: str, *command: str) -> None:
    assert host.run("colony-agent", *command, env=arm(host, step), check=False).returncode == 137


@contextmanager
def without(host: Guest, *paths: str) -> Iterator[None]:
    """As if these were not there."""
    for path in paths:
        host.run("mv", path, f"{path}.away")
    try:
        yield
    finally:
        for path in paths:
            host.run("mv", f"{path}.away", path)


# --- half born, half dead


@pytest.mark.parametrize("step", ["record", "member", "home", "start"])
def test_a_birth_that_was_interrupted_is_found_and_can_be_ended(host: Guest, step: str) -> None:
    killed_after(host, step, "birth", "crow", "--soul", SOUL)
    [finding] = doctor(host)["findings"]
    require([finding], ["crow: its birth was not completed"])
    complete, end = finding["remedy"].replace("FILE", SOUL).split("; or ")
    assert complete == f"colony-agent birth crow --soul {SOUL}"
    host.run("sh", "-c", end)
    require(doctor(host)["findings"], [])


@pytest.mark.parametrize("step", ["draining", "home", "user", "dead"])
def test_a_death_that_was_interrupted_is_found_and_can_be_completed(host: Guest, step: str) -> None:
    birth(host, "crow")
    killed_after(host, step, "death", "crow", "--purge")
    [finding] = doctor(host)["findings"]
    require([finding], ["crow: its death was interrupted"])
    host.run("sh", "-c", finding["remedy"])
    require(doctor(host)["findings"], [])


@pytest.mark.parametrize(
    "leave",
    [
        "install -d -m 700 /home/agents/crow",
        "useradd --system --home-dir /home/agents/crow --comment 'Colony agent' crow",
        "echo '[Service]' > /etc/systemd/system/agent-crow-worker.service",
        "colony create-user crow --kind agent --linux-user crow",
    ],
    ids=["a home", "a Linux user", "a unit", "a member"],
)
def test_what_belongs_to_nobody_is_found_and_can_be_removed(host: Guest, leave: str) -> None:
    host.run("sh", "-c", leave)
    [finding] = doctor(host)["findings"]
    assert finding["subject"] == "crow"
    assert finding["what"].endswith("of an agent that the host has no record of: a birth or a death was interrupted")
    host.run("sh", "-c", finding["remedy"])
    require(doctor(host)["findings"], [])


def test_who_is_made_ready_and_waits_for_a_second_birth_is_well(host: Guest) -> None:
    birth(host, "crow", "--no-start")
    said = doctor(host)
    require(said["findings"], [])
    assert said["checks"] > doctor(host, "scout")["checks"]
    for command in (("restart", "crow"), ("dream", "crow", "--now")):
        refused = host.run("colony-agent", *command, check=False)
        assert refused.stderr == "colony-agent: crow was never born to the end; colony-agent birth crow, without --no-start, completes it\n"
    death(host, "crow", "--purge")


def test_an_agent_that_is_being_changed_is_left_alone(host: Guest) -> None:
    host.run("install", "-d", "-m", "700", "/home/agents/crow")
    busy = host.start("python3", "-c", HOLDS, "/run/colony-locks/crow")
    assert busy.stdout
    assert busy.stdout.readline() == "locked\n"
    said = doctor(host)
    require(said["findings"], [])
    assert [each["why"] for each in said["not_looked_at"]] == ["somebody is giving birth to it, or copies, changes or ends it, right now"]
    busy.kill()
    busy.communicate()
    host.wait_until("flock", "--nonblock", "/run/colony-locks/crow", "true")
    require(doctor(host)["findings"], ["crow: the home /home/agents/crow of an agent that the host has no record of"])
    host.run("rm", "-r", "/home/agents/crow")


def test_a_colony_that_was_restored_from_before_an_agents_birth_is_told_of_it_again(host: Guest) -> None:
    host.run("systemctl", "start", "colony-backup")
    birth(host, "raven")
    restore = "runuser -u colony -- colony-server restore --force /var/lib/colony/backups/*.db"
    host.run("sh", "-c", f"systemctl stop colony-server; {restore} && systemctl start colony-server")
    [finding] = doctor(host)["findings"]
    require([finding], ["raven: the colony does not know it"])
    host.run("sh", "-c", finding["remedy"])
    require(doctor(host)["findings"], [])
    death(host, "raven", "--purge")


# --- what it can't mend, and what it is not to


def test_what_can_not_be_mended_is_said_and_everything_else_is_mended(host: Guest) -> None:
    settings = "/home/agents/scout/.colony.toml"
    with without(host, settings):
        host.run("systemctl", "stop", "agent-scout-worker", "agent-scout-dream.timer")
        said = doctor(host, "--fix", seconds=120)
    assert [each["what"] for each in said["mended"]] == ["agent-scout-dream.timer is inactive"]
    [failed] = said["not_mended"]
    assert failed["why"].startswith("that agent-scout-worker.service runs: agent-scout-worker.service is failed (exit-code)")
    host.run("colony-agent", "restart", "scout")
    require(doctor(host)["findings"], [])


def test_who_is_paused_is_not_started_by_anybody_but_people(host: Guest) -> None:
    host.run("colony-agent", "pause", "scout")
    host.run("systemctl", "stop", "agent-scout-worker")
    [finding] = doctor(host, "--fix", "scout")["findings"]
    require([finding], ["scout: agent-scout-worker.service is inactive"])
    assert not finding["is_fixable"]
    host.run("colony-agent", "resume", "scout")
    require(doctor(host, "--fix", "scout")["findings"], [])


def test_an_agent_of_an_older_release_is_told_apart_from_one_that_was_changed(host: Guest) -> None:
    unit = "/etc/systemd/system/agent-scout-worker.service"
    release = host.run("readlink", "/opt/colony/current").stdout.strip()
    host.run("sh", "-c", f"cp -a {unit} /root/unit; sed -i s,{release},{OLD}, {unit}; systemctl daemon-reload")
    require(
        doctor(host, "scout")["findings"],
        [
            "scout: its worker runs the release old, of which old is missing",
            "scout: its worker has run since before its unit was changed",
            f"scout: its worker still runs the release {release.rpartition('/')[2]}, and its unit names old",
        ],
    )
    scripts = f"find {OLD}/.venv -type f '(' -path '*/bin/*' -o -name '*.pth' ')'"
    host.run("sh", "-c", f"mkdir -p {OLD}; cp -a {release}/. {OLD}; {scripts} | xargs sed -i s,{release},{OLD},")
    host.run("colony-agent", "restart", "scout")
    [finding] = doctor(host, "scout")["findings"]
    require([finding], ["scout: it runs the release old, and the host's is"])
    host.run("sh", "-c", finding["remedy"])
    require(doctor(host, "scout")["findings"], [])
    host.run("rm", "-r", OLD)


# --- who asks, and what is there to ask


def test_it_says_in_one_line_that_all_is_well(host: Guest) -> None:
    ran = host.run("colony-agent", "doctor")
    words = ran.stdout.split()
    assert words[:3] == ["nothing", "found", "by"]
    assert int(words[3]) > 40
    assert ran.stderr == ""


def test_it_shows_each_finding_with_its_remedy_and_what_it_mends(host: Guest) -> None:
    host.run("chmod", "755", "/home/agents/scout")
    ran = host.run("colony-agent", "doctor", "scout", check=False)
    assert ran.returncode == 1
    assert ran.stdout.splitlines() == [
        "scout: broken: /home/agents/scout is 0755 scout:scout, not 0700 scout:scout",
        "    install -d -m 700 -o scout -g scout /home/agents/scout",
    ]
    assert "1 finding by" in ran.stderr
    assert ran.stderr.endswith("; --fix mends 1 of them\n")
    ran = host.run("colony-agent", "doctor", "scout", "--fix")
    assert ran.stderr.startswith("  /home/agents/scout as it should be (")
    assert ran.stdout.startswith("nothing found by")


def test_who_is_not_root_hears_what_could_not_be_looked_at(host: Guest) -> None:
    host.run("systemctl", "stop", "agent-scout-worker")
    said = doctor(host, user="human")
    host.run("systemctl", "start", "agent-scout-worker")
    require(said["findings"], ["scout: agent-scout-worker.service is inactive"])
    unseen = {(each["subject"], each["name"]): each["why"] for each in said["not_looked_at"]}
    assert unseen["host", "its folders"] == "only root may look"
    assert unseen["scout", "itself in the colony"].startswith("Linux user human is no user of this colony")
    assert ("host", "its release") not in unseen
    assert "only root may" in one_line(host.run("colony-agent", "doctor", "--fix", user="human", check=False))


def test_a_name_that_nothing_speaks_of_is_one_line(host: Guest) -> None:
    assert "speaks of an agent nobody-here" in one_line(host.run("colony-agent", "doctor", "nobody-here", check=False))
    assert "can't be an agent's name" in one_line(host.run("colony-agent", "doctor", "../etc", check=False))


def test_where_no_colony_is_there_is_one_thing_to_say(host: Guest) -> None:
    program = host.run("readlink", "-f", PROGRAM).stdout.strip()
    paths = ("/opt/colony/current", "/etc/colony", "/var/lib/colony", "/etc/systemd/system/colony-server.service")
    with without(host, *paths):
        require(doctor(host, command=program)["findings"], ["host: no colony is installed on this machine"])


def test_without_a_present_release_that_is_said_and_the_rest_is_looked_at(host: Guest) -> None:
    program = host.run("readlink", "-f", PROGRAM).stdout.strip()
    with without(host, "/opt/colony/current"):
        said = doctor(host, command=program)
    require(said["findings"], ["host: /opt/colony/current is no link to a release"])
    assert any(each["name"] == "its unit files" for each in said["not_looked_at"])


def test_a_disk_that_is_nearly_full_is_found(host: Guest) -> None:
    host.run("mount", "-t", "tmpfs", "-o", "size=1m,mode=711", "none", "/home/agents")
    told = [finding["what"] for finding in doctor(host)["findings"]]
    host.run("umount", "/home/agents")
    assert any(what.startswith("The disk of /home/agents is nearly full: 0.0 GB") for what in told)


def test_a_kernel_that_filters_what_a_service_reaches_is_told_from_one_that_does_not(host: Guest) -> None:
    asks = "import sys; from provisioning.checks import cgroup, firewall; print(firewall.is_filtered(cgroup.folder(int(sys.argv[1]))))"
    for unit, is_filtered in (("colony-server", True), ("agent-scout-worker", True), ("dbus", False)):
        pid = host.unit(unit, "MainPID")["MainPID"]
        assert host.run(PROGRAM.replace("colony-agent", "python"), "-c", asks, pid).stdout == f"{is_filtered}\n"


def test_without_systemd_that_is_said_and_the_rest_is_looked_at(host: Guest) -> None:
    with without(host, "/run/systemd/system"):
        said = doctor(host)
    require(said["findings"], ["host: systemd does not run here"])
    assert said["checks"] > 20
