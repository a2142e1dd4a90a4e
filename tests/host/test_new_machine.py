"""A host is lost, and what its backups hold lives on another machine, brought there by the commands that docs/storage.md shows."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

from tests.guest.guest import Guest
from tests.guest.layers import CHECKOUT, INSTALLS_WITHIN, PIP, SOURCE, Layers
from tests.host.cast import answer, birth, messages, say, until
from tests.host.test_doctor import doctor, require

BRAIN, SOUL = "/opt/brains/dreamer", "/opt/brains/dreamer.md"
DREAMER = """\
#!/usr/bin/python3 -I
import json, sys
from pathlib import Path
turn = json.load(sys.stdin)["turn"]
memory = Path("memory/memory.md")
if turn["kind"] == "dream":
    print("<memory>\\nI dreamt of tea\\n</memory>")
else:
    print("I remember:", memory.read_text().strip())
"""
SOUL_TEXT = f'---\nrunner: "command:{BRAIN}"\npulse_minutes: 0\n---\n# Scout\nYou remember.\n'


def commands() -> list[str]:
    """Those that the page shows, one by one."""
    section = (CHECKOUT / "docs/storage.md").read_text().partition("## Onto another machine")[2]
    [block] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return re.findall(r"^(?:for .*?^done|.+?)$", block, re.MULTILINE | re.DOTALL)


def brained(machine: Guest) -> None:
    machine.write(BRAIN, DREAMER, 0o755)
    machine.write(SOUL, SOUL_TEXT)


def bodies(machine: Guest) -> list[str]:
    return [message["body"] for message in messages(machine)]


def test_a_host_is_brought_back_on_another_machine(layers: Layers, installed: Path, tmp_path: Path) -> None:
    with Guest(layers=[installed], binds=layers.binds()) as old:
        brained(old)
        old.run("sed", "-i", "s/^#max_running_turns = 32/max_running_turns = 31/", "/etc/colony/server.toml")
        for name in ("scout", "rook"):
            birth(old, name, "--memory-max", "256M", soul=SOUL)
        old.run("colony", "limits", "scout", "--turns-per-hour", "500")
        assert answer(old, say(old, "@scout what do you remember?")) == "I remember:"
        old.run("sh", "-c", "echo tea > /home/agents/scout/memory/diary/today.md", user="scout")
        assert old.run("colony-agent", "dream", "scout", "--now").stdout == "scout has dreamt\n"
        old.run("colony-agent", "pause", "scout")
        old.run("colony", "secret", "set", "TOKEN", "--host", "api.example", stdin="a-token-of-the-old-host")
        waiting = say(old, "@scout and now?")
        said = messages(old)
        old.run("systemctl", "start", "colony-backup", "colony-home-backup")
        for source, target in {"/var/lib/colony/backups": "backups", "/var/backups/colony-agents/living": "living"}.items():
            shutil.copytree(old.path(source), tmp_path / target)
        for kept in ("/etc/colony/server.toml", "/var/lib/colony/secret-keys"):
            shutil.copy(old.path(kept), tmp_path)
        old.power_cut()
    with Guest(binds={**layers.binds(), "/mnt/old": tmp_path}) as new:
        new.write("/etc/pip.conf", PIP)
        brained(new)
        for command in commands():
            began = time.monotonic()
            folder = SOURCE if command.startswith("make") else "/mnt"  # nothing can be laid into the checkout
            new.run("sh", "-ec", f"cd {folder}; {command}", seconds=INSTALLS_WITHIN)
            print(f"{command.splitlines()[0][:60]:60} {time.monotonic() - began:6.1f} s")
        until(lambda: "I remember: I dreamt of tea" in bodies(new))
        assert "scout (mention): answered" in new.run("colony", "explain", str(waiting)).stdout
        now = messages(new)
        assert [each for each in now if each["id"] <= said[-1]["id"]] == said
        assert sum("welcome back" in each["body"] for each in now) == 2
        assert new.run("colony-server", "secret-key", "check").stdout.startswith("all secrets can be opened")
        assert "TOKEN" in new.run("colony", "secret", "list").stdout
        assert answer(new, say(new, "@rook you too?")) == "I remember:"
        scout = json.loads(new.run("colony-agent", "status", "scout", "--json").stdout)[0]["member"]
        assert (scout["turns_per_hour"], scout["status"]) == (500, "healthy")
        assert new.run("git", "-C", "/home/agents/scout", "log", "-1", "--format=%s", user="scout").stdout.startswith("Dream of ")
        assert "max_running_turns = 31" in new.path("/etc/colony/server.toml").read_text()
        require(doctor(new)["findings"], [])
