"""Homes of the living are kept, whatever agents put there, and an agent is born with one that was."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.guest.guest import Guest
from tests.host.cast import ANSWERS_WITHIN, SOUL, answer, birth, death, one_line, prepare, say, status, traces, until
from tests.host.hosting import arm
from tests.host.test_birth import STEPS
from tests.host.test_doctor import doctor, require

ARCHIVES = "/var/backups/colony-agents"
LIVING = f"{ARCHIVES}/living"
HOME = "/home/agents/scout"
KILLED = 137
NEST = "import os\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')"
HOSTILE = f"""
cd {HOME}
mkfifo pipe
truncate --size=1T hole
head -c 3000000 /dev/urandom > big
ln -s /etc/shadow way
ln -s . loop
echo mine > closed; chmod 0 closed
mkdir shut; chmod 0 shut
touch 'line
break'
mkdir deep; cd deep; python3 -c "{NEST}"
"""


@pytest.fixture(scope="module")
def host(shared_machine: Guest) -> Guest:
    """Scout lives here, and likes tea."""
    prepare(shared_machine)
    birth(shared_machine, "scout", "--memory-max", "256M", "--repo", "/usr/src/colony")
    shared_machine.run("sh", "-c", f"echo tea > {HOME}/memory/memory.md", user="scout")
    answer(shared_machine, say(shared_machine, "@scout hello"))
    return shared_machine


def backup(host: Guest, *words: str) -> str:
    """What was said of it."""
    return host.run("colony-agent", "backup", *words).stdout


def kept(host: Guest, name: str = "scout") -> list[str]:
    return sorted(path.name for path in host.path(LIVING).glob(f"{name}-20??????T*"))


def newest(host: Guest) -> str:
    return f"{LIVING}/{kept(host)[-1]}"


def listed(host: Guest, archive: str) -> list[str]:
    return host.run("tar", "--list", "--file", archive).stdout.splitlines()


def test_a_home_is_kept_with_its_record_and_without_what_can_be_had_again(host: Guest) -> None:
    said = backup(host, "scout")
    assert said.startswith(newest(host) + ": ")
    assert said.endswith(" s, checked\n")
    names = listed(host, newest(host))
    assert names[0] == "record.toml"
    assert {"scout/CLAUDE.md", "scout/memory/memory.md", "scout/.git/HEAD"} <= {*names}
    assert not any(name.startswith(("scout/repo", "scout/.colony-state")) for name in names)
    assert host.run("stat", "--format=%a %U", LIVING, newest(host)).stdout == "700 root\n600 root\n"


def test_the_oldest_go_and_those_of_others_stay(host: Guest) -> None:
    birth(host, "scout-2", "--no-start")
    backup(host, "scout-2")
    for number in (1, 2, 3):
        host.write(f"{LIVING}/scout-2030010{number}T120000Z.tar.gz", "old", 0o600)
    host.run("colony-agent", "backup", "--all", "--keep", "2")
    assert [name for name in kept(host) if name.startswith("scout-2030")] == ["scout-20300103T120000Z.tar.gz"]
    assert len(kept(host)) == 2
    assert len(kept(host, "scout-2")) in (1, 2)  # within one second they have one name
    death(host, "scout-2")
    assert kept(host, "scout-2") != []
    host.run("rm", f"{LIVING}/scout-20300103T120000Z.tar.gz")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name one or more agents, or give --all"),
        (["scout", "--all"], "name one or more agents, or give --all"),
        (["crow"], "no agent crow lives on this machine; here live scout"),
        (["../scout"], "no agent ../scout lives on this machine"),
        (["scout", "--keep", "0"], "0 is not in the range"),
    ],
)
def test_what_can_not_be_kept_is_said_in_one_line(host: Guest, words: list[str], says: str) -> None:
    before = kept(host)
    assert says in one_line(host.run("colony-agent", "backup", *words, check=False))
    assert kept(host) == before


def test_only_root_keeps_homes(host: Guest) -> None:
    assert "only root may" in one_line(host.run("colony-agent", "backup", "scout", user="nobody", check=False))


def test_whatever_an_agent_puts_into_its_home_the_backup_is_bounded_and_says_what_it_lacks(host: Guest) -> None:
    settings = host.path("/etc/colony/server.toml")
    before = settings.read_text()
    settings.write_text(before.replace("#max_mb = 256", "max_mb = 2"))
    host.run("sh", "-c", HOSTILE, user="scout")
    began = time.monotonic()
    ran = host.run("colony-agent", "backup", "scout")
    assert time.monotonic() - began < ANSWERS_WITHIN
    assert "left out: " in ran.stderr
    for said in (
        "2 beyond 2 MB (the first: scout/big)",
        "1 neither file nor folder (the first: scout/pipe)",
        "2 not to be read",
        "1 nested",
    ):
        assert said in ran.stderr, ran.stderr
    assert ran.stderr.count("\n") == 1
    names = listed(host, newest(host))
    assert {"scout/memory/memory.md", "scout/way", "scout/loop"} <= {*names}
    assert host.path(newest(host)).stat().st_size < 2 * 10**6
    settings.write_text(before)
    host.run("sh", "-c", f"cd {HOME}; chmod 700 shut; rm -rf pipe hole big way loop closed shut deep line*", user="scout")


def test_a_backup_waits_for_a_turn_and_then_goes_on_beside_it(host: Guest) -> None:
    asked = say(host, "@scout take your time")
    until(lambda: status(host, "scout")["member"]["turn_id"])
    began = time.monotonic()
    assert " beside a turn, checked" in backup(host, "scout")
    assert 29 < time.monotonic() - began < 60
    host.run("colony", "stop", str(status(host, "scout")["member"]["turn_id"]))
    until(lambda: not status(host, "scout")["member"]["turn_id"])
    assert "stopped" in host.run("colony", "explain", str(asked)).stdout


def test_killed_in_the_middle_it_leaves_nothing_that_looks_whole(host: Guest) -> None:
    host.run("sh", "-c", f"head -c 120000000 /dev/urandom > {HOME}/noise", user="scout")
    before = kept(host)
    running = host.start("colony-agent", "backup", "scout")
    until(lambda: (staged := host.path(f"{LIVING}/.scout.new")).exists() and staged.stat().st_size > 10**6)
    host.run("pkill", "--full", "-KILL", "colony-agent backup")
    running.communicate(timeout=20)
    assert kept(host) == before
    host.run("rm", f"{HOME}/noise")
    host.wait_until("colony-agent", "backup", "scout")
    assert host.run("ls", "-A", LIVING).stdout.split() == sorted([*kept(host), *kept(host, "scout-2")])


def test_a_full_disk_costs_the_new_backup_and_no_other(host: Guest) -> None:
    host.run("sh", "-c", f"head -c 1000000 /dev/urandom > {HOME}/noise", user="scout")
    host.run("mount", "-t", "tmpfs", "-o", "size=200k,mode=700", "none", LIVING)
    said = one_line(host.run("colony-agent", "backup", "scout", check=False))
    assert "scout-" in said
    assert "was not made: " in said
    assert "No space left on device" in said
    assert host.run("ls", "-A", LIVING).stdout == ""
    host.run("umount", LIVING)
    host.run("rm", f"{HOME}/noise")


def test_backups_that_stay_away_are_found_and_told_of(host: Guest) -> None:
    require(doctor(host)["findings"], [])
    host.run("sh", "-c", f"touch --date='3 days ago' {LIVING}/*.gz /etc/colony/agents/*.toml /etc/systemd/system/colony-home-backup.timer")
    host.run("systemctl", "daemon-reload")
    [finding] = doctor(host)["findings"]
    require([finding], ["host: There is no new backup of the home of scout since"])
    until(lambda: "There is no new backup of the home of scout since" in ops(host), 90)
    host.run("sh", "-c", finding["remedy"])
    require(doctor(host)["findings"], [])
    until(lambda: "There are new backups of all homes." in ops(host), 90)


def ops(host: Guest) -> str:
    """What #ops was told, once the watch has looked again."""
    host.run("systemctl", "start", "colony-watch", check=False)
    time.sleep(1)
    return host.run("colony", "read", "ops", check=False).stdout


# --- birth --from


def test_it_is_born_with_the_home_that_was_kept(host: Guest) -> None:
    archive = newest(host)
    before = host.path(f"{HOME}/CLAUDE.md").read_text()
    death(host, "scout")
    birth_from(host, "scout", archive)
    assert host.path(f"{HOME}/memory/memory.md").read_text() == "tea\n"
    assert host.path(f"{HOME}/CLAUDE.md").read_text() == before
    assert host.run("find", HOME, "(", "-not", "-user", "scout", "-o", "-perm", "/7077", ")", "-not", "-type", "l").stdout == ""
    assert host.run("git", "-C", f"{HOME}/repo", "remote", "get-url", "origin", user="scout").stdout == "/usr/src/colony\n"
    assert host.run("git", "-C", HOME, "log", "--format=%s", user="scout").stdout == "Birth of scout\n"
    assert "memory_max_bytes = 268435456" in host.path("/etc/colony/agents/scout.toml").read_text()
    assert answer(host, say(host, "@scout there?")) == "you said: @scout there?"
    assert json.loads(birth_from(host, "scout", archive, "--json"))["steps"] == []
    require(doctor(host)["findings"], [])


def birth_from(host: Guest, name: str, archive: str, *options: str) -> str:
    return host.run("colony-agent", "birth", name, "--from", archive, *options).stdout


def test_the_archive_of_a_death_brings_back_all_of_it(host: Guest) -> None:
    host.run("sh", "-c", f"cd {HOME}; mkfifo pipe; ln -s /etc/shadow way; echo x > tool; chmod 6777 tool", user="scout")
    death(host, "scout")
    archive = host.run("sh", "-c", f"ls {ARCHIVES}/scout-*.gz | tail --lines=1").stdout.strip()
    birth_from(host, "raven", archive)
    home = Path("/home/agents/raven")
    assert host.path(home / "memory/memory.md").read_text() == "tea\n"
    assert host.run("find", str(home), "-perm", "/7077", "-not", "-type", "l").stdout == ""
    assert not host.path(home / "pipe").exists()
    assert host.run("readlink", str(home / "way")).stdout == "/etc/shadow\n"
    assert 'repo = "repo"' in host.path(home / ".colony.toml").read_text()
    assert answer(host, say(host, "@raven there?")) == "you said: @raven there?"
    death(host, "raven", "--purge")
    birth_from(host, "scout", newest(host))


def test_a_soul_and_options_come_before_what_the_archive_says(host: Guest) -> None:
    host.write("/opt/brains/other.md", "---\nlimits: {memory_max: 128M}\n---\n# Other\n")
    birth_from(host, "raven", newest(host), "--soul", "/opt/brains/other.md", "--repo", "", "--runner", "command:/bin/cat")
    assert host.path("/home/agents/raven/CLAUDE.md").read_text() == "# Other\n"
    assert host.path("/home/agents/raven/memory/memory.md").read_text() == "tea\n"
    assert not host.path("/home/agents/raven/repo").exists()
    assert 'command = ["/bin/cat"]' in host.path("/home/agents/raven/.colony.toml").read_text()
    assert "memory_max_bytes = 134217728" in host.path("/etc/colony/agents/raven.toml").read_text()
    death(host, "raven", "--purge")


def test_a_lost_home_is_brought_back_as_doctor_says(host: Guest) -> None:
    until(lambda: host.run("rm", "-r", HOME, check=False).returncode == 0)  # a turn may write into it meanwhile
    remedies = [finding["remedy"] for finding in doctor(host, "scout")["findings"] if "its home" in finding["what"]]
    [command] = {remedy.split(", or: ")[0] for remedy in remedies if "--from" in remedy}
    host.run("sh", "-c", command.replace("-….", "-*.").replace(f"{LIVING}/scout-*.tar.gz", newest(host)))
    assert host.path(f"{HOME}/memory/memory.md").read_text() == "tea\n"
    assert answer(host, say(host, "@scout back?")) == "you said: @scout back?"
    require(doctor(host)["findings"], [])


@pytest.mark.parametrize("step", [step for step in STEPS if step not in ("limits", "watch")])
def test_killed_after_any_step_the_same_birth_completes_it(host: Guest, step: str) -> None:
    name = f"k-{step}"
    words = ("colony-agent", "birth", name, "--from", newest(host))
    assert host.run(*words, env=arm(host, step), check=False).returncode == KILLED
    if step in ("record", "member", "user"):
        assert "was to have its home from" in one_line(birth(host, name, check=False))
    host.run(*words)
    assert host.path(f"/home/agents/{name}/memory/memory.md").read_text() == "tea\n"
    assert answer(host, say(host, f"@{name} hello")) == f"you said: @{name} hello"
    death(host, name, "--purge")


REFUSED = {
    "nothing to be born from": ([], "give the soul that it is born from, --soul FILE, or the archive of its home, --from ARCHIVE"),
    "no archive": (["--from", "/nowhere.tar.gz"], "there is no archive /nowhere.tar.gz"),
    "a folder": (["--from", "/opt"], "/opt: it is no file"),
    "half an archive": (["--from", "/opt/half.tar.gz"], "/opt/half.tar.gz: it is no whole archive of a home"),
    "something else": (["--from", SOUL], f"{SOUL}: it is no whole archive of a home"),
    "two homes": (["--from", "/opt/two.tar.gz"], "it holds 2 homes, not one"),
    "a way out": (["--from", "/opt/out.tar.gz"], "which belongs in no home"),
    "no soul in it": (["--from", "/opt/soulless.tar.gz"], "has no CLAUDE.md that could be the agent's soul; give one with --soul FILE"),
    "no program in it": (
        ["--from", "/opt/soulless.tar.gz", "--soul", "/opt/brains/plain.md", "--runner", "command:/opt/nothing"],
        "/opt/nothing is no file that can be run",
    ),
    "a clone that nobody names": (["--from", "/opt/cloneless.tar.gz"], "lacks the clone that the agent had; say of what it was: --repo"),
    "settings that nobody knows": (["--from", "/opt/odd.tar.gz"], "/opt/odd.tar.gz: unknown key agent.mood"),
}
ODD_ARCHIVES = f"""
head --bytes=2000 $(ls {LIVING}/scout-*.gz | tail --lines=1) > /opt/half.tar.gz
rm -rf /opt/odd; mkdir -p /opt/odd/crow /opt/odd/rook; cd /opt/odd
echo x > crow/x
tar -czf /opt/two.tar.gz crow rook
tar -czf /opt/soulless.tar.gz crow
tar -czPf /opt/out.tar.gz --transform=s,x$,../../x, crow
echo soul > crow/CLAUDE.md; printf '[agent]\nmood = 1\n' > crow/.colony.toml
tar -czf /opt/odd.tar.gz crow
printf '[agent]\nrepo = "repo"\n' > crow/.colony.toml
tar -czf /opt/cloneless.tar.gz crow
printf 'A plain soul.\n' > /opt/brains/plain.md
"""


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_come_back_is_one_clear_line_and_changes_nothing(host: Guest, case: str) -> None:
    host.run("sh", "-c", ODD_ARCHIVES)
    words, says = REFUSED[case]
    before = traces(host)
    assert says in one_line(host.run("colony-agent", "birth", "crow", *words, check=False))
    assert traces(host) == before


def test_no_home_is_written_over(host: Guest) -> None:
    other = f"/opt/other-{kept(host)[-1]}"
    host.run("cp", newest(host), other)
    said = one_line(host.run("colony-agent", "birth", "scout", "--from", other, check=False))
    assert f"scout has a home already: {HOME}; it must go first: colony-agent death scout" in said


def test_a_full_disk_leaves_what_the_same_birth_completes(machine: Guest) -> None:
    prepare(machine)
    birth(machine, "scout")
    machine.run("sh", "-c", f"head -c 900000 /dev/urandom > {HOME}/noise", user="scout")
    backup(machine, "scout")
    archive = newest(machine)
    death(machine, "scout")
    machine.run("mount", "-t", "tmpfs", "-o", "size=600k,mode=711", "none", "/home/agents")
    ran = machine.run("colony-agent", "birth", "scout", "--from", archive, check=False)
    assert ran.returncode != 0
    assert "No space left on device" in ran.stderr.splitlines()[-1]
    assert ran.stderr.endswith("scout is not complete: repeat the birth, or end it with colony-agent death scout\n")
    machine.run("mount", "-o", "remount,size=20m", "/home/agents")
    birth_from(machine, "scout", archive)
    assert size_of(machine, f"{HOME}/noise") == 900000
    assert answer(machine, say(machine, "@scout hello")) == "you said: @scout hello"


def size_of(machine: Guest, path: str) -> int:
    return int(machine.run("stat", "--format=%s", path).stdout)


def test_a_purge_of_the_dead_takes_their_backups_too(host: Guest) -> None:
    assert kept(host) != []
    death(host, "scout", "--purge")
    assert kept(host) == []
