"""An agent of a real machine that thinks in podman's containers, under the same unit as all others and bounded by it."""

from __future__ import annotations

import json

import pytest

from provisioning.units import MAX_EXPOSURE
from tests.guest.guest import Guest
from tests.host.cast import answer, birth, one_line, prepare, rest, say, status, until
from tests.host.test_bounds import KILLED
from tests.host.world import WEB, open_world

BRAIN = "/opt/brains/contained"
CONTAINED = """\
#!/usr/bin/python3 -I
import json, os, pathlib, socket, subprocess, sys, time, urllib.error, urllib.request
turn = json.load(sys.stdin)["turn"]
if turn["kind"] == "dream":
    sys.exit(print("HEARTBEAT_OK"))
words = turn["items"][-1]["message"]["body"].split()[1:]
try:
    match words:
        case ["where"]:
            print(pathlib.Path("/proc/1/cmdline").read_text().split("\\0")[0], os.getuid(), os.getcwd())
        case ["get", url]:
            print(urllib.request.urlopen(url, timeout=10).read().decode())
        case ["connect", host, port]:
            socket.create_connection((host, int(port)), 5)
            print("reached")
        case ["interfaces"]:
            print(*(name for _, name in socket.if_nameindex()))
        case ["search", what]:
            places = ["/proc/self/environ", "/proc/1/environ", "/etc", "/run", "/tmp", "/dev/shm", "."]
            found = subprocess.run(["grep", "-rlas", what, *places])
            print("found" if found.returncode == 0 else "nothing")
        case ["hold", megabytes]:
            held = b"x" * (int(megabytes) * 2**20)
            time.sleep(600)
        case ["leave", mark]:
            subprocess.Popen(["setsid", "--fork", "sleep", mark], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            print("left")
        case _:
            print("here I am")
except urllib.error.HTTPError as error:
    print(error.code, json.load(error).get("detail"))
except OSError as error:
    print(getattr(error, "reason", None) or error.strerror or error)
"""
SOUL = "/opt/brains/contained.md"
TEXT = f'---\nrunner: "command:{BRAIN}"\nsandbox: podman\npulse_minutes: 0\n---\nYou are in a box.\n'
IMAGE = "/opt/images/tools"
FILLED = f"""
mkdir -p {IMAGE}/etc
cd {IMAGE}
echo 'an image' > etc/issue
for program in sh cat; do
    for file in /usr/bin/$program $(ldd /usr/bin/$program | grep -o '/[^ ]*'); do
        install -D "$file" "usr/${{file#/usr/}}"
    done
done
ln -s usr/bin usr/lib usr/lib64 .
"""
WORKER = "agent-scout-worker"
KEY = "sk-planted-456"


@pytest.fixture(scope="module")
def host(shared_machine: Guest) -> Guest:
    """Scout lives here."""
    machine = shared_machine
    prepare(machine)
    machine.write(BRAIN, CONTAINED, 0o755)
    machine.write(SOUL, TEXT)
    machine.write("/etc/hosts", f"127.0.0.1 localhost\n{WEB} web.example www.web.example\n")
    open_world(machine)
    rest(machine, 0.2)
    machine.run("colony-agent", "credential", "set", "ANTHROPIC_API_KEY", stdin=KEY)
    birth(machine, "scout", "--memory-max", "256M", soul=SOUL)
    answer(machine, say(machine, "@scout where"))
    return machine


def asked(host: Guest, words: str) -> str:
    return answer(host, say(host, f"@scout {words}"))


def stop(host: Guest) -> None:
    """End scout's newest turn, whatever has become of it."""
    host.run("colony", "stop", str(json.loads(host.run("colony", "turns", "scout", "--json").stdout)["turns"][0]["id"]))


def processes(host: Guest) -> list[str]:
    """The programs that run as scout."""
    return host.run("ps", "-u", "scout", "-o", "comm=", check=False).stdout.split()


def test_it_thinks_in_a_container_as_itself_and_in_its_home(host: Guest) -> None:
    uid = host.run("id", "-u", "scout").stdout.strip()
    assert asked(host, "where") == f"/run/podman-init {uid} /home/agents/scout"
    assert 'sandbox = "podman"' in host.run("cat", "/home/agents/scout/.colony.toml").stdout
    assert "sandbox: podman\n" in host.run("colony-agent", "soul", "show", "scout").stdout


def test_its_unit_is_as_sealed_as_all_others(host: Guest) -> None:
    birth(host, "twin", "--sandbox", "bwrap", soul=SOUL)
    units = [host.run("cat", f"/etc/systemd/system/agent-{name}-worker.service").stdout.replace(name, "") for name in ("scout", "twin")]
    assert units[0].replace(str(256 * 2**20), str(4 * 2**30)) == units[1]
    said = host.run("systemd-analyze", "security", "--no-pager", f"{WORKER}.service").stdout
    assert float(said.rpartition("service: ")[2].split()[0]) <= MAX_EXPOSURE
    host.run("colony-agent", "death", "twin", "--purge")


def test_its_memory_is_what_its_unit_bounds(host: Guest) -> None:
    before = host.unit(WORKER, "MainPID")
    say(host, "@scout hold 100")
    until(lambda: int(host.unit(WORKER, "MemoryCurrent")["MemoryCurrent"]) > 100 * 2**20)
    stop(host)
    message = say(host, "@scout hold 1000")
    until(lambda: KILLED in host.run("colony", "explain", str(message)).stdout)
    stop(host)
    assert host.unit(WORKER, "MainPID") == before
    assert status(host, "scout")["worker"]["restarts"] == 0
    assert asked(host, "hello") == "here I am"


def test_it_has_no_network_but_the_gate(host: Guest) -> None:
    assert asked(host, "interfaces") == "lo"
    for address, port in ((WEB, 80), ("127.0.0.1", 8700)):
        assert asked(host, f"connect {address} {port}") != "reached"
    assert asked(host, "get http://web.example/") == "403 no rule allows it"
    host.run("colony", "egress", "allow", "scout", "web.example")
    assert asked(host, "get http://web.example/") == "a page"


def test_it_does_not_see_the_key(host: Guest) -> None:
    assert host.run("cat", "/run/credentials/colony-egress.service/ANTHROPIC_API_KEY").stdout == KEY
    assert asked(host, f"search {KEY[:-1]}[{KEY[-1]}]") == "nothing"


def test_its_end_leaves_no_process_and_no_file(host: Guest) -> None:
    assert asked(host, "leave 6543") == "left"
    until(lambda: len(processes(host)) == 1)
    say(host, "@scout hold 10")
    until(lambda: "conmon" in processes(host))
    stop(host)
    until(lambda: len(processes(host)) == 1)
    mine = f"/proc/{host.unit(WORKER, 'MainPID')['MainPID']}/root"
    assert host.run("find", f"{mine}/dev/shm", f"{mine}/tmp", "-mindepth", "1").stdout == ""
    assert host.run("find", "/run/crun", "/run/libpod", "/run/containers", check=False).stdout == ""


def test_a_worker_that_is_killed_takes_its_container_along(host: Guest) -> None:
    say(host, "@scout hold 10")
    until(lambda: "conmon" in processes(host))
    host.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", WORKER)
    stop(host)
    until(lambda: len(processes(host)) == 1)


def test_an_image_is_what_another_agent_sees(host: Guest) -> None:
    host.run("sh", "-ec", FILLED)
    host.write("/opt/brains/imaged", "#!/bin/sh\ncat > /dev/null\ncat /etc/issue\n", 0o755)
    host.write("/opt/brains/imaged.md", "---\nrunner: command:/opt/brains/imaged\npulse_minutes: 0\n---\nAnother.\n")
    birth(host, "crow", "--sandbox", f"podman:{IMAGE}", soul="/opt/brains/imaged.md")
    assert answer(host, say(host, "@crow where?")) == "an image"
    assert f"sandbox: podman:{IMAGE}\n" in host.run("colony-agent", "soul", "show", "crow").stdout
    host.run("colony-agent", "death", "crow", "--purge")


def test_a_change_of_soul_changes_its_sandbox(host: Guest) -> None:
    host.write("/opt/brains/bare.md", TEXT.replace("podman", "bwrap"))
    host.run("colony-agent", "soul", "set", "scout", "/opt/brains/bare.md")
    assert "bwrap" in asked(host, "where")
    shown = host.run("colony-agent", "soul", "set", "scout", SOUL, "--dry-run").stdout
    assert "sandbox bwrap → podman" in shown + host.run("colony-agent", "soul", "set", "scout", SOUL).stderr
    assert asked(host, "where").startswith("/run/podman-init ")


def test_without_podman_all_say_what_to_install(host: Guest) -> None:
    assert host.run("colony-agent", "doctor").stdout.startswith("nothing found")
    host.run("mv", "/usr/bin/podman", "/usr/bin/catatonit", "/root")
    missing = "podman is not installed: apt-get install podman"
    try:
        message = say(host, "@scout where")
        until(lambda: missing in host.run("colony", "explain", str(message)).stdout)
        stop(host)
        assert f"scout: broken: no turn of it can run: {missing}" in host.run("colony-agent", "doctor", check=False).stdout
        assert f"{missing} catatonit" in one_line(birth(host, "crow", soul=SOUL, check=False))
    finally:
        host.run("sh", "-c", "mv /root/podman /root/catatonit /usr/bin")
    assert asked(host, "where").startswith("/run/podman-init ")
