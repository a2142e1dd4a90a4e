"""What tests do with a machine on which Colony is installed: births, mentions, deaths, and what an agent leaves on it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.guest.commands import SOON
from tests.guest.guest import Guest

BRAIN = "/opt/brains/echo"
ECHO = """\
#!/usr/bin/python3 -I
import json, sys, time
turn = json.load(sys.stdin)["turn"]
if turn["kind"] == "dream":
    sys.exit(print("HEARTBEAT_OK"))
said = [item["message"]["body"] for item in turn["items"]]
for body in said:
    if "take your time" in body:
        time.sleep(600)
    if "eat it all" in body:
        eaten = []
        while True:
            eaten.append(bytearray(2**24))
print("you said:", said[-1] if said else "nothing")
"""
SOUL = "/opt/brains/soul.md"
SOUL_TEXT = f'---\nrunner: "command:{BRAIN}"\npulse_minutes: 0\n---\n# An agent\nYou repeat what you hear.\n'
ANSWERS_WITHIN = 20.0  # seconds, on a busy machine


def prepare(machine: Guest) -> None:
    """Give the machine a soul whose brain is a small program."""
    machine.write(BRAIN, ECHO, 0o755)
    machine.write(SOUL, SOUL_TEXT)


def rest(machine: Guest, first_backoff_seconds: float) -> None:
    """Let a turn whose program fell over rest for so long, at first."""
    settings = machine.path("/etc/colony/server.toml")
    settings.write_text(settings.read_text().replace("[run]", f"[run]\nfirst_backoff = {first_backoff_seconds}"))
    machine.run("systemctl", "restart", "colony-server")


def birth(machine: Guest, name: str, *options: str, soul: str = SOUL, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
    return machine.run("colony-agent", "birth", name, "--soul", soul, *options, check=check, **more)


def death(machine: Guest, name: str, *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return machine.run("colony-agent", "death", name, *options, **more)


def say(machine: Guest, text: str, channel: str = "general") -> int:
    """Post as root, which speaks for the colony; the message's id."""
    return int(json.loads(machine.run("colony", "post", channel, text, "--json").stdout)["id"])


def messages(machine: Guest, channel: str = "general") -> list[dict[str, Any]]:
    return list(json.loads(machine.run("colony", "read", channel, "--limit", "500", "--json").stdout)["messages"])


def ops(machine: Guest) -> list[str]:
    """What #ops was told so far."""
    channels = json.loads(machine.run("colony", "channels", "--json").stdout)["channels"]
    return [message["body"] for message in messages(machine, "ops")] if "ops" in {channel["name"] for channel in channels} else []


def answers(machine: Guest, asked: int, channel: str = "general") -> list[str]:
    """What was answered to the message so far."""
    return [message["body"] for message in messages(machine, channel) if message["reply_to"] == asked]


def answer(machine: Guest, asked: int, seconds: float = ANSWERS_WITHIN) -> str:
    """The answer to the message, as soon as there is one."""
    deadline = time.monotonic() + seconds
    while not (found := answers(machine, asked)):
        assert time.monotonic() < deadline, f"no answer within {seconds} s; {machine.run('colony', 'explain', str(asked)).stdout}"
        time.sleep(0.1)
    return found[0]


def until(what: Callable[[], object], seconds: float = SOON) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"it did not come to that within {seconds:.0f} s"
        time.sleep(0.1)


def status(machine: Guest, name: str) -> dict[str, Any]:
    return dict(json.loads(machine.run("colony-agent", "status", name, "--json").stdout)[0])


def traces(machine: Guest) -> dict[str, object]:
    """All that births and deaths may change on a machine; the colony's own memory of the dead does not count."""
    users = json.loads(machine.run("colony", "users", "--json").stdout)["users"]
    folders = ("/etc/systemd/system", "/home/agents", "/etc/colony/agents", "/etc/colony/credentials", "/var/mail", "/dev/shm")
    listed = machine.run("find", *folders, "-printf", "%p %M %u\n", check=False).stdout.splitlines()
    return {
        "accounts": machine.path("/etc/passwd").read_text(),
        "groups": machine.path("/etc/group").read_text(),
        "files": sorted(line for line in listed if "/home/agents/" not in line or line.count("/") < 4),
        "members": sorted(user["username"] for user in users if user["status"] != "dead"),
        "units": machine.run("systemctl", "list-units", "agent-*", "--all", "--plain", "--no-legend").stdout,
    }


def one_line(ran: subprocess.CompletedProcess[str]) -> str:
    """What a command that failed said: a single line, and no traceback."""
    lines = ran.stderr.strip().splitlines()
    assert ran.returncode != 0, ran
    assert ran.returncode != 1 or "Traceback" not in ran.stderr, ran.stderr
    assert len(lines) == 1, ran.stderr
    return lines[0]
