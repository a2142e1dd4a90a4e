"""The machine on which the attempts are made: scout, rook, a stranger, and everything that could be taken from them."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import zipapp
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from string import Template

from tests.guest.guest import Guest
from tests.host import cast
from tests.host.apart import twin
from tests.host.apart.table import By, Call, Who
from tests.host.world import OUT, WEB, open_world

PROBE = "/usr/local/lib/probe.pyz"  # below /usr, where a sandbox sees it
CALLS = "/usr/local/lib/calls.json"
VICTIM = "/usr/local/lib/victim.py"
PLANTED = "sk-planted-secret"
LINK_LOCAL = "169.254.169.254"  # where clouds answer with their metadata
HOSTS = f"""\
127.0.0.1 localhost inside.example
{WEB} web.example evil.web.example rooks.example evil.example secret.evil.example
{LINK_LOCAL} cloud.example
{OUT} own.example
10.1.2.3 private.example
"""
NAMES = f"""
import itertools, socket
leads = itertools.cycle([socket.inet_aton("{WEB}"), socket.inet_aton("127.0.0.1")])
lead_of = {{b"moving": lambda: next(leads), b"\\x04wiki\\x04corp": lambda: socket.inet_aton("{WEB}")}}
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.bind(("127.0.0.1", 53))
while True:
    question, asker = line.recvfrom(512)
    end = question.index(bytes(1), 12) + 5
    lead = next((lead for name, lead in lead_of.items() if name in question), None)
    is_address = question[end - 4:end - 2] == bytes([0, 1]) and lead is not None
    head = question[:2] + bytes([129, 128, 0, 1, 0, is_address, 0, 0, 0, 0]) + question[12:end]
    line.sendto(head + (bytes([192, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]) + lead() if is_address else b""), asker)
"""
MODEL_URL = "http://127.0.0.1:8099"
MODEL = """
import http.server
class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = b'{"usage": {"input_tokens": 1, "output_tokens": 1}}'
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    do_GET = do_POST
http.server.ThreadingHTTPServer(("127.0.0.1", 8099), Model).serve_forever()
"""
PYTHON = ("/usr/bin/python3", "-I")
SECONDS = 200.0  # that all attempts of one kind may take together
_HERE = Path(__file__).parent
_READ_ALL = (0x02000001).to_bytes(4, "little") + (1 << 2).to_bytes(4, "little") + bytes(12)  # cap_dac_read_search, as in capability.h


class Stage:
    """Scout lives, and rook lives and holds what is dear to it."""

    def __init__(self, machine: Guest) -> None:
        self.machine = machine
        self._put_programs()
        self._put_people()
        self._put_world()
        self._bear_agents()
        self.facts = self._hold()

    def outcomes(self, who: Who | By, calls: Mapping[str, Call], drop_in: str = "") -> dict[str, str]:
        """How each of the calls ends there; `drop_in` changes the unit that it is tried from."""
        facts = self.facts | _own(who)
        words = {says: [Template(word).safe_substitute(facts) for word in call] for says, call in calls.items()}
        found: dict[str, str] = json.loads(self._said(who, json.dumps(words), drop_in))
        assert found.keys() == calls.keys()
        return found

    def contained_outcomes(self, calls: Mapping[str, Call]) -> dict[str, str]:
        """How each of the calls ends in a turn that runs in podman's container."""
        self._settle("podman")
        try:
            return self.outcomes(Who.TURN, calls)
        finally:
            self._settle("bwrap")

    def _settle(self, sandbox: str) -> None:
        self.machine.write("/opt/brains/settled.md", f"---\nsandbox: {sandbox}\n---\nA spy.\n")
        self.machine.run("colony-agent", "soul", "set", "scout", "/opt/brains/settled.md")

    def _said(self, who: Who | By, calls: str, drop_in: str) -> str:
        if who is By.MACHINE:
            return _on_this_machine(calls)
        self.machine.write(CALLS, calls)
        probe = (*PYTHON, PROBE, CALLS)
        match who:
            case Who.SERVICE | By.SCOUT:
                return twin.run(self.machine, "agent-scout-worker.service", probe, drop_in)
            case Who.GATE:
                return twin.run(self.machine, "colony-egress.service", probe, drop_in)
            case Who.SERVER:
                return twin.run(self.machine, "colony-server.service", probe, drop_in)
            case Who.TURN | By.TURN:
                return cast.answer(self.machine, cast.say(self.machine, "@scout try"), SECONDS)
            case Who.STRANGER | By.STRANGER:
                return self.machine.run(*probe, user="human", seconds=SECONDS).stdout
            case By.ROOK:  # where its turn runs
                inside = ("nsenter", f"--target={self.facts['pid']}", "--mount", "--ipc", "--net", "--")
                rook = ("setpriv", "--reuid=rook", "--regid=rook", "--clear-groups", "--")
                return self.machine.run(*inside, *rook, *probe, seconds=SECONDS).stdout
            case _:
                return self.machine.run(*probe, seconds=SECONDS).stdout

    def _put_programs(self) -> None:
        self.machine.path(PROBE).write_bytes(_packed())
        self.machine.write(VICTIM, (_HERE / "victim.py").read_text())
        for name, original, mode in (
            ("setuid-python", "python3", 0o4755),
            ("setgid-python", "python3", 0o2755),
            ("capable-cat", "cat", 0o755),
        ):
            self.machine.run("cp", "--dereference", f"/usr/bin/{original}", f"/usr/local/lib/{name}")
            self.machine.path(f"/usr/local/lib/{name}").chmod(mode)
        mark = f"import os; os.setxattr('/usr/local/lib/capable-cat', 'security.capability', {_READ_ALL!r})"
        self.machine.run(*PYTHON, "-c", mark)

    def _put_people(self) -> None:
        self.machine.run("useradd", "--create-home", "human")
        self.machine.run("colony-server", "user", "add", "ann")
        self.machine.run("mkdir", "--parents", "--mode=700", "/run/user/1/bus")
        self.machine.run(*PYTHON, VICTIM, "--share")
        self.machine.write("/root/secret", PLANTED, 0o600)
        self.machine.write("/etc/systemd/system/bystander.service", "[Service]\nExecStart=/bin/sleep infinity\n")
        self.machine.run("ip", "address", "add", f"{LINK_LOCAL}/32", "dev", "lo")
        self.machine.start(*PYTHON, "-m", "http.server", "--bind", LINK_LOCAL, "80")

    def _put_world(self) -> None:
        """Hosts that agents may reach, some of whose names lead where nobody may go, and something that answers for the model."""
        self.machine.write("/etc/hosts", HOSTS)
        self.machine.write("/opt/names.py", NAMES)
        self.machine.start(*PYTHON, "/opt/names.py")
        self.machine.write("/etc/resolv.conf", "nameserver 127.0.0.1\nsearch corp\noptions timeout:2 attempts:1\n")
        open_world(self.machine)
        self.machine.write("/opt/model.py", MODEL)
        self.machine.start(*PYTHON, "/opt/model.py")
        self.machine.wait_until("curl", "--fail", "--silent", f"{MODEL_URL}/v1/models")

    def _let_out(self) -> None:
        inside = ("inside.example:8700", "cloud.example:80", "own.example:80", "private.example:80", "moving.example:8700")
        leads = ("web.example:80", "wiki:80", *inside)
        self.machine.run("colony", "egress", "allow", "scout", *leads)
        self.machine.run("colony", "egress", "allow", "rook", "rooks.example:80")
        self.machine.run("colony-agent", "credential", "set", "ANTHROPIC_BASE_URL", stdin=MODEL_URL)

    def _bear_agents(self) -> None:
        self.machine.write(CALLS, "{}")
        self.machine.write(cast.SOUL, f'---\nrunner: "command:{" ".join(PYTHON)} {PROBE} {CALLS}"\npulse_minutes: 0\n---\nA spy.\n')
        cast.birth(self.machine, "scout")
        self.machine.run("colony-agent", "credential", "set", "ANTHROPIC_API_KEY", stdin=PLANTED)
        self.machine.write("/opt/brains/rook.md", "---\nrunner: claude\npulse_minutes: 0\n---\nA victim.\n")
        cast.birth(self.machine, "rook", "--no-start", "--repo", "/usr/src/colony", soul="/opt/brains/rook.md")
        # Without a sandbox it has more to lose.
        settings = self.machine.path("/home/agents/rook/.colony.toml")
        holds = f'runner = "command"\ncommand = {json.dumps([*PYTHON, VICTIM])}\nsandbox = "none"'
        settings.write_text(settings.read_text().replace('runner = "claude"', holds))
        self.machine.run("sh", "-c", "echo secret > /home/agents/rook/memory/memory.md", user="rook")
        # In a namespace of its own a process has a low number: rook's must not be one of those.
        self.machine.run("sh", "-c", "i=0; while [ $i -lt 2000 ]; do /bin/true; i=$((i+1)); done")
        cast.birth(self.machine, "rook", soul="/opt/brains/rook.md")
        self.machine.run("systemctl", "start", "colony-backup")
        self._let_out()
        cast.birth(self.machine, "ghost")
        cast.death(self.machine, "ghost")

    def _hold(self) -> dict[str, str]:
        """Rook takes hold of its things and keeps them; the facts that attempts need."""
        cast.say(self.machine, "@rook hold plover")
        held = json.loads(self.machine.wait_until("cat", "/home/agents/rook/facts.json"))
        cast.say(self.machine, "@rook and then?")  # it waits
        waiting = json.loads(self.machine.run("colony", "inbox", "--user", "rook", "--json").stdout)["items"]
        [tmp] = self._glob("/tmp/systemd-private-*-agent-rook-worker.service-*/tmp")
        [bound] = self.machine.run(
            *("find", "/sys/fs/cgroup", "-path", "*agent-scout-worker.service/memory.*"),
            *("(", "-name", "memory.max", "-or", "-name", "memory.limit_in_bytes", ")"),
        ).stdout.split()
        return {name: str(value) for name, value in held.items()} | {
            "worker": self._pid_of("agent-rook-worker"),
            "scouts_worker": self._pid_of("agent-scout-worker"),
            "server": self._pid_of("colony-server"),
            "memory_bound": bound,
            "cgroup": bound.rpartition("/")[0],
            "release": self.machine.run("readlink", "-f", "/opt/colony/current").stdout.strip(),
            "private_tmp": tmp,
            "tools_of_rook": self._glob(f"{tmp}/colony-*/tools.sock")[0],
            "backup": self._glob("/var/lib/colony/backups/*.db")[0],
            "terminal": self._glob("/dev/pts/[0-9]*")[0],
            "ended_turn": "1",
            "item": str(waiting[0]["id"]),
            "token": self.machine.run("colony-server", "token", "ann").stdout.split()[0],
            "secret": PLANTED,
            "web": WEB,
        }

    def _pid_of(self, unit: str) -> str:
        return self.machine.unit(unit, "MainPID")["MainPID"]

    def _glob(self, pattern: str) -> list[str]:
        return self.machine.run("sh", "-c", f"ls -d {pattern}").stdout.split()


def _own(who: Who | By) -> dict[str, str]:
    """A folder to write in, and a name that nobody has used."""
    is_scout = who in (Who.SERVICE, Who.TURN, By.SCOUT, By.TURN)
    return {"room": "/home/agents/scout" if is_scout else "/var/tmp", "nonce": secrets.token_hex(4)}


@cache
def _packed() -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        zipapp.create_archive(_HERE.parent, file.name, main="probe.__main__:main", filter=_is_of_the_probe)
        return Path(file.name).read_bytes()


def _is_of_the_probe(path: Path) -> bool:
    return path.parts[0] == "probe" and "__pycache__" not in path.parts


def _on_this_machine(calls: str) -> str:
    with tempfile.NamedTemporaryFile() as program, tempfile.NamedTemporaryFile("w") as file:
        program.write(_packed())
        program.flush()
        file.write(calls)
        file.flush()
        probe = [sys.executable, "-I", program.name, file.name]
        return subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
