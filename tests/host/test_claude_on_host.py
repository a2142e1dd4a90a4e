"""The real Claude Code in an agent's hardened service on a real machine, against the stand-in of its API."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.guest.guest import Guest
from tests.guest.network import made_inside
from tests.host.cast import answer, birth, messages, prepare, rest, say, status, until
from tests.standin import Reply, Standin, Usage, error, hang, prompt_text, sequence, text, tool, tool_result

KEY, WRONG_KEY = "sk-ant-planted-for-the-thinker", "sk-ant-of-somebody-else"
SOUL = "/opt/brains/thinker.md"
WORKER, GATE = "agent-thinker-worker.service", "colony-egress.service"
MEMORY = """
import base64, re, sys
held = bytearray()
with open(f"/proc/{sys.argv[1]}/maps") as maps, open(f"/proc/{sys.argv[1]}/mem", "rb", 0) as memory:
    for line in maps:
        found = re.match("([0-9a-f]+)-([0-9a-f]+) rw", line)
        if found and int(found[2], 16) - int(found[1], 16) < 2**28:
            memory.seek(int(found[1], 16))
            try:
                held += memory.read(int(found[2], 16) - int(found[1], 16))
            except OSError:
                pass
parts = re.findall(rb"sk-ant-[a-z-]+", held)
print(base64.b64encode(b" ".join(parts)).decode())
"""
GLUTTON = """\
#!/usr/bin/python3 -I
import json, sys, urllib.error, urllib.request
if json.load(sys.stdin)["turn"]["kind"] == "dream":
    sys.exit(print("HEARTBEAT_OK"))
ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
question = {"model": "claude-opus-4-1", "max_tokens": 1000, "messages": [{"role": "user", "content": "more"}]}
answers = 0
while True:
    try:
        ask(urllib.request.Request("http://127.0.0.1:3128/v1/messages", json.dumps(question).encode())).read()
        answers += 1
    except urllib.error.HTTPError as error:
        sys.exit(print(answers, "answers, then", error.code, json.load(error)["error"]["message"]))
"""
EATS = "python3 -c 'eaten = []\nwhile True: eaten.append(bytearray(2**24))'"


@pytest.fixture(scope="module")
def api(shared_machine: Guest) -> Iterator[Standin]:
    """It listens in the machine, where nobody else does, and takes one key only."""
    with made_inside(shared_machine, Standin) as api:
        yield api


@pytest.fixture(scope="module")
def host(shared_machine: Guest, api: Standin) -> Guest:
    """Thinker lives here, and scout, who is a small program. A turn that failed rests for a moment only."""
    machine = shared_machine
    prepare(machine)
    rest(machine, 0.2)
    machine.run("useradd", "--create-home", "human")
    machine.run("colony", "create-channel", "news")
    machine.run("colony-agent", "credential", "set", "ANTHROPIC_API_KEY", stdin=KEY)
    machine.run("colony-agent", "credential", "set", "ANTHROPIC_BASE_URL", stdin=api.url)
    machine.write(SOUL, "---\nrunner: claude\nmodel: claude-test\npulse_minutes: 0\n---\nYou think.\n")
    birth(machine, "scout")
    answers(api, text("I think."))
    birth(machine, "thinker", "--memory-max", "1G", soul=SOUL)
    assert answer(machine, welcome(machine, "thinker")) == "I think."
    return machine


def answers(api: Standin, *replies: Reply) -> None:
    """To the right key one after the other, the last again and again."""
    reply = sequence(replies)
    api.script(lambda request: reply(request) if request.headers.get("x-api-key") == KEY else error(401))


def welcome(host: Guest, name: str) -> int:
    return int(next(message["id"] for message in messages(host) if message["body"].startswith(f"@{name} welcome")))


def spent(host: Guest, agent: str) -> float:
    """Dollars, today."""
    agents = json.loads(host.run("colony", "agents", "--json").stdout)["agents"]
    return next(float(each["cost_usd_today"]) for each in agents if each["username"] == agent)


def pid_of(host: Guest, unit: str = WORKER) -> str:
    return host.unit(unit, "MainPID")["MainPID"]


def test_a_mention_is_answered_after_a_tool_has_spoken_elsewhere(host: Guest, api: Standin) -> None:
    host.run("colony", "acl", "allow", "thinker", "post", "channel:news")
    answers(api, tool("mcp__colony__post", {"channel": "news", "body": "ann asks for tea"}), text("I told them."))
    assert answer(host, say(host, "@thinker tell the others")) == "I told them."
    [posted] = messages(host, "news")
    assert (posted["author"], posted["body"], posted["hops"]) == ("thinker", "ann asks for tea", 1)
    assert json.loads(tool_result(api.requests[-1]))["id"] == posted["id"]
    assert "@thinker tell the others" in prompt_text(api.requests[-1])


def test_it_goes_on_with_what_was_said_in_the_channel_also_after_a_restart(host: Guest, api: Standin) -> None:
    answers(api, text("noted"))
    answer(host, say(host, "@thinker the code word is juniper"))
    host.run("colony-agent", "restart", "thinker")
    answer(host, say(host, "@thinker and now?"))
    told = prompt_text(api.requests[-1])
    assert told.count("juniper") == 1  # the session holds it
    assert told.index("juniper") < told.index("and now?")


def test_a_tool_that_takes_all_memory_dies_alone(host: Guest, api: Standin) -> None:
    before = pid_of(host)
    answers(api, tool("Bash", {"command": EATS}), text("That was too much."))
    assert answer(host, say(host, "@thinker eat it all")) == "That was too much."
    assert "Exit code 137" in tool_result(api.requests[-1])
    assert (pid_of(host), status(host, "thinker")["worker"]["restarts"]) == (before, 0)


@pytest.mark.timeout(300)
def test_where_memory_is_too_little_for_it_the_reason_is_told_and_the_worker_lives(host: Guest, api: Standin) -> None:
    answers(api, text("never"))
    birth(host, "dwarf", "--memory-max", "64M", soul=SOUL)
    before = pid_of(host, "agent-dwarf-worker")
    until(lambda: messages(host)[-1]["type"] == "notice", 180)  # it may first read its own program again and again
    said = messages(host)[-1]["body"]
    assert said.startswith("dwarf could not answer #")
    assert "its runner crashed (`" in said
    assert (pid_of(host, "agent-dwarf-worker"), status(host, "dwarf")["worker"]["restarts"]) == (before, 0)
    host.run("colony-agent", "death", "dwarf", "--purge")


def test_a_wrong_key_is_the_reason_why_it_waits_and_the_right_one_brings_the_answer(host: Guest, api: Standin) -> None:
    answers(api, text("here I am"))
    host.run("colony-agent", "credential", "set", "ANTHROPIC_API_KEY", stdin=WRONG_KEY)  # in place of the one that it has
    asked = say(host, "@thinker are you there?")
    until(lambda: "rejected the credentials" in status(host, "thinker")["trouble"])
    assert api.requests[-1].headers["x-api-key"] == WRONG_KEY
    assert "thinker has to wait with its answers: the model's API rejected the credentials" in messages(host)[-1]["body"]
    host.run("colony-agent", "credential", "set", "ANTHROPIC_API_KEY", stdin=KEY)
    host.run("colony-agent", "resume", "thinker")
    assert answer(host, asked) == "here I am"


def test_its_dream_becomes_its_memory(host: Guest, api: Standin) -> None:
    memory = "/home/agents/thinker/memory/memory.md"
    host.run("sh", "-c", f"echo 'ann drinks tea, ann drinks tea' > {memory}", user="thinker")
    answers(api, text("<memory>ann drinks tea</memory>"))
    assert host.run("colony-agent", "dream", "thinker", "--now").stdout == "thinker has dreamt\n"
    assert host.run("cat", memory).stdout == "ann drinks tea\n"
    assert "ann drinks tea, ann drinks tea" in prompt_text(api.requests[-1])


def test_the_key_is_seen_by_the_gate_and_by_nobody_else(host: Guest, api: Standin) -> None:
    before = len(api.requests)
    answers(api, hang())
    say(host, "@thinker take your time")
    api.wait_for(before + 1, 20)
    assert api.requests[-1].headers["x-api-key"] == KEY
    pids = host.run("pgrep", "--uid", "thinker").stdout.split()
    assert pids
    for pid in pids:
        assert KEY not in host.run("cat", f"/proc/{pid}/environ", check=False).stdout
        assert KEY.encode() not in memory_of(host, pid)
    credential = f"/run/credentials/{GATE}/ANTHROPIC_API_KEY"
    assert host.run("cat", credential).stdout == KEY
    gate = pid_of(host, GATE)
    assert KEY.encode() in memory_of(host, gate), "else this test could find no key at all"
    assert KEY not in host.run("cat", f"/proc/{gate}/environ").stdout
    for user in ("scout", "thinker", "human", "nobody", "colony"):
        for secret in (credential, f"/proc/{gate}/environ", f"/proc/{gate}/mem"):
            assert host.run("cat", secret, user=user, check=False).stdout == ""
    for told in (("ps", "axww"), ("systemctl", "show", GATE, WORKER), ("systemctl", "cat", GATE, WORKER), ("journalctl", "--output=json")):
        assert KEY not in host.run(*told).stdout
    assert KEY not in host.run("ps", "axeww").stdout
    written = ["/etc", "/home", "/opt/brains", "/run/colony", "/run/colony-egress", "/run/systemd", "/tmp"]
    written += ["/var/lib", "/var/log", "/var/tmp"]
    assert host.run("grep", "-rlas", "--devices=skip", KEY, *written, check=False).stdout == ""
    host.run("colony", "stop", str(status(host, "thinker")["member"]["turn_id"]))


def memory_of(host: Guest, pid: str) -> bytes:
    """All that a process can write to, as the machine that runs the guest sees it."""
    ran = host.run("python3", "-c", MEMORY, pid, check=False)
    return base64.b64decode(ran.stdout)


def test_a_program_that_ignores_its_budget_is_refused_what_it_may_not_spend(host: Guest, api: Standin) -> None:
    """Each answer costs 7.5 cents, and so does what is booked for it."""
    answers(api, replace(text("more"), usage=Usage(10, 1000)))
    host.write("/opt/brains/glutton", GLUTTON, 0o755)
    host.write("/opt/brains/glutton.md", '---\nrunner: "command:/opt/brains/glutton"\npulse_minutes: 0\n---\nYou eat.\n')
    host.run("colony-agent", "birth", "glutton", "--soul", "/opt/brains/glutton.md", "--no-start")
    host.run("colony", "limits", "glutton", "--budget-usd-per-day", "0.5")
    birth(host, "glutton", soul="/opt/brains/glutton.md")
    said = answer(host, welcome(host, "glutton"))
    assert said.startswith("6 answers, then 402 this turn may cost $0.50")
    assert spent(host, "glutton") == pytest.approx(6 * 0.07515)
    say(host, "@glutton go on")
    until(lambda: any("its budget of $0.50 a day is spent" in message["body"] for message in messages(host)))


def test_a_turn_of_claude_code_that_has_no_budget_left_says_so(host: Guest, api: Standin) -> None:
    answers(api, text("never"))
    left = 0.12  # a turn is begun for it, as for a tenth of a dollar, and its first question alone could cost more
    host.run("colony", "limits", "thinker", "--budget-usd-per-day", str(spent(host, "thinker") + left))
    asked = len(api.requests)
    say(host, "@thinker think")
    until(lambda: messages(host)[-1]["type"] == "notice")
    said = messages(host)[-1]["body"]
    host.run("colony", "limits", "thinker", "--lift", "budget_usd_per_day")
    assert "thinker could not answer" in said
    assert "it has cost as much as one turn may" in said
    assert len(api.requests) == asked
