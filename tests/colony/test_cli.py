"""The `colony` command against the real house."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from colony import client, config, errors, operations, pipe, schema
from tests.colony.cast import PATIENCE_SECONDS, Said, Shell, bodies, on_terminal
from tests.server.cast import token_of

ANN = token_of("ann")

# --- reading and writing


def test_a_user_learns_who_they_are(run: Shell) -> None:
    assert "username\tann\n" in run("whoami", token=ANN).out


def test_the_words_of_a_post_become_one_message(run: Shell, channel: str) -> None:
    said = run("post", f"#{channel}", "two", "words")
    assert (said.code, said.err) == (0, "")
    assert f"{channel} 1" in said.out
    assert bodies(run.house, channel) == ["two words"]


def test_a_post_from_stdin_keeps_its_lines(run: Shell, channel: str) -> None:
    assert run("post", channel, "-", stdin="# Ü\n\n  two\n".encode()).code == 0
    assert bodies(run.house, channel) == ["# Ü\n\n  two"]


@pytest.mark.parametrize(
    ("words", "stdin", "complaint"),
    [
        ([], b"", "nothing to post"),
        ([""], b"", "nothing to post"),
        (["  \n"], b"", "nothing to post"),
        (["-"], b"\n", "nothing to post"),
        (["-"], b"fine\n\xff\n", "stdin is not UTF-8 text: invalid start byte at byte 5"),
        (["-"], b"a\0b", "body: must not contain NUL characters"),
        (["-"], b"x" * (schema.MAX_BODY_BYTES + 1), "body: must be at most 65536 bytes"),
        (["-"], "é".encode() * schema.MAX_BODY_BYTES, "body: must be at most 65536 bytes"),
        (["-"], b"x" + "é".encode() * schema.MAX_BODY_BYTES, "stdin holds more than 65536 bytes"),
        (["broken \udcff"], b"", "body: "),
    ],
)
def test_what_can_not_be_posted_is_one_clear_line(words: list[str], stdin: bytes, complaint: str, run: Shell, channel: str) -> None:
    said = run("post", channel, *words, stdin=stdin)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"colony: {complaint}")
    assert len(said.err.splitlines()) == 1
    assert bodies(run.house, channel) == []


def test_the_largest_body_fits_with_its_line_end(run: Shell, channel: str) -> None:
    assert run("post", channel, "-", stdin=b"x" * schema.MAX_BODY_BYTES + b"\n").code == 0


def test_a_repeated_client_id_is_told(run: Shell, channel: str) -> None:
    run("post", channel, "hello", "--client-id", "k")
    said = run("post", channel, "hello", "--client-id", "k")
    assert said.code == 0
    assert "had been posted before" in said.err
    assert bodies(run.house, channel) == ["hello"]


def test_names_that_nobody_has_are_told_beside_the_message(run: Shell, channel: str) -> None:
    said = run("post", channel, "@scuot @bob @zoe hello", token=ANN)
    assert said.code == 0
    assert said.err.splitlines() == [f"colony: nobody here is called {name}; `colony users` lists everyone" for name in ("scuot", "zoe")]
    assert "nobody" not in said.out
    assert bodies(run.house, channel) == ["@scuot @bob @zoe hello"]
    said = run("post", channel, "@bob and ann@example.org", "--json", token=ANN)
    assert (said.err, json.loads(said.out)["unknown_mentions"]) == ("", [])


def test_a_reply_and_a_type_are_passed_on(run: Shell, channel: str) -> None:
    first = json.loads(run("post", channel, "hello", "--json").out)
    reply = json.loads(run("post", channel, "hi", "--json", "--reply-to", str(first["id"]), "--type", "greeting").out)
    assert (reply["reply_to"], reply["type"]) == (first["id"], "greeting")


def test_reading_tells_where_to_go_on(run: Shell, channel: str) -> None:
    for body in "abc":
        run("post", channel, body)
    said = run("read", channel, "--since", "0", "--limit", "2")
    assert [line for line in said.out.splitlines() if line.startswith(" ")] == ["    a", "    b"]
    assert "--since 2" in said.err
    said = run("read", channel, "--since", "2", "--limit", "2")
    assert "    c\n" in said.out
    assert said.err == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["read", "Foo!"], "channel: 'Foo!' must match ^[a-z0-9][a-z0-9_-]{0,63}$, like 'general'"),
        (["read", "general", "--limit", "0"], "limit: 0 should be greater than or equal to 1"),
        (["read", "general", "--since", "99999999999999999999"], "since: 99999999999999999999 should be less than or equal to"),
        (["read", "general", "--limit", "many"], "Invalid value for '--limit': 'many' is not a valid integer."),
        (["read"], "Missing argument 'CHANNEL'. (a shell takes an unquoted # for a comment: leave it out)"),
        (["turn", "0"], "id: 0 should be greater than or equal to 1"),
        (["ack", "3", "0"], "ids.1: 0 should be"),
        (["ack"], "Missing argument 'IDS...'"),
        (["create-user", "Ann", "--kind", "ape"], "username: 'Ann' must match"),
        (["create-user", "ann"], "Missing option '--kind'. Choose from: ape, agent, gateway, service"),
        (["inbox", "--trigger", "noise"], "Invalid value for '--trigger'"),
        (["pause", "scout", "--note", "x" * 501], "note: 'xxx"),
        (["read", "x" * 1000], "channel: 'xxx"),
        (["fly"], "No such command 'fly'."),
        (["--url", "ftp://x", "whoami"], "'ftp://x' is no colony's address"),
    ],
)
def test_a_bad_argument_is_one_clear_line(arguments: list[str], complaint: str, run: Shell) -> None:
    said = run(*arguments)
    assert (said.code, said.out) == (errors.Invalid.exit_code, "")
    assert said.err.startswith(f"colony: {complaint}")
    assert len(said.err.splitlines()) == 1
    assert len(said.err) < 250


@pytest.mark.parametrize("arguments", [["-v", "read", "nowhere"], ["read", "nowhere", "-v"]])
def test_v_adds_the_traceback(arguments: list[str], run: Shell) -> None:
    said = run(*arguments)
    assert said.code == errors.NotFound.exit_code
    assert said.err.startswith("Traceback")
    assert said.err.splitlines()[-1] == "colony: no channel nowhere"


def test_an_unforeseen_error_is_one_line_too(run: Shell) -> None:
    def connect(settings: config.Settings) -> client.Client:
        raise KeyError("surprise")

    assert run("whoami", connect=connect) == Said(1, "", "colony: KeyError: 'surprise' (-v shows where)\n")


def test_without_a_server_the_reason_is_told(run: Shell, tmp_path: Path) -> None:
    said = run("--url", f"unix:{tmp_path}/none.sock", "whoami")
    assert said.code == errors.Unavailable.exit_code
    assert f"no colony at unix:{tmp_path}/none.sock" in said.err


def test_a_token_on_the_command_line_earns_a_warning(run: Shell) -> None:
    said = run("--token", ANN, "whoami")
    assert "ann" in said.out
    assert "can be seen by other users" in said.err
    assert ANN not in said.err


# --- the inbox


def test_acknowledged_items_are_gone(run: Shell, channel: str) -> None:
    cara = run.house.join("cara")
    run("post", channel, "one @cara")
    run("post", channel, "two @cara")
    items = json.loads(run("inbox", "--json", token=cara).out)["items"]
    assert run("ack", str(items[0]["id"]), token=cara).out == f"{items[0]['id']}\n"
    said = run("inbox", token=cara)
    assert "two @cara" in said.out
    assert "one @cara" not in said.out
    assert "two @cara" in run("inbox", "--user", "@cara").out  # as administrator


def test_polling_acknowledges_exactly_what_it_printed(run: Shell, channel: str) -> None:
    dora = run.house.join("dora")
    for body in "one", "two", "three":
        run("post", channel, f"{body} @dora")
    said = run("poll", "--limit", "2", token=dora)
    assert "one @dora" in said.out
    assert "two @dora" in said.out
    assert "three" not in said.out
    left = run("inbox", token=dora).out
    assert "three @dora" in left
    assert "two" not in left
    assert len(json.loads(run("poll", "--json", token=dora).out)["items"]) == 1
    assert run("poll", token=dora) == Said(0, "", "")


@pytest.mark.parametrize("sink", ["a closed pipe", "a full disk", "no stdout"])
def test_polling_acknowledges_nothing_that_could_not_be_printed(sink: str, run: Shell, channel: str) -> None:
    name = "eve-" + sink.split()[-1]
    eve = run.house.join(name)
    run("post", channel, f"@{name}")
    if sink == "a closed pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open("/dev/full", os.O_WRONLY)
    closed = {"preexec_fn": lambda: os.close(1)} if sink == "no stdout" else {}
    process = run.spawn("poll", token=eve, stdout=writing, **closed)
    os.close(writing)
    _, talk = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode != 0
    assert "Traceback" not in talk
    assert talk == {"a closed pipe": "", "a full disk": "colony: [Errno 28] No space left on device\n"}.get(
        sink, "colony: stdout is closed\n"
    )
    assert len(run.house.call(operations.INBOX, eve).items) == 1


# --- what became of messages, and channels


@pytest.fixture
def robin(run: Shell, channel: str) -> str:
    """The token of an agent that has taken a turn over ann's first message in the channel."""
    name = f"robin-{abs(hash(channel)) % 10**6}"
    token = run.house.join(name, "agent")
    run("resume", name)
    assert run("post", channel, f"@{name} where is it?", token=ANN).code == 0
    run.house.call(operations.CLAIM, token)
    return token


def test_a_message_is_explained_by_its_id_and_by_its_number(run: Shell, channel: str, robin: str) -> None:
    by_number = run("explain", f"{channel}#1", token=ANN)
    message = json.loads(run("explain", f"#{channel}#1", "--json", token=ANN).out)["message"]
    assert by_number == run("explain", str(message["id"]), token=ANN)
    assert (by_number.code, by_number.err) == (0, "")
    body, fate, turn, attempt = by_number.out.splitlines()[1:]
    assert "where is it?" in body
    assert "(mention): waits since " in fate
    assert "works on it in turn" in fate
    assert f"answer in #{channel}, running, 1 attempt, began " in turn
    assert attempt.strip() == "attempt 1 runs"


@pytest.mark.parametrize("word", ["", "x", "general", "general#", "#", "##1", "general#-1", "١", "12x", "general#1x"])
@pytest.mark.parametrize("name", ["explain", "retry"])
def test_what_is_no_message_is_one_clear_line(name: str, word: str, run: Shell) -> None:
    said = run(name, word, token=ANN)
    assert (said.code, said.out) == (errors.Invalid.exit_code, "")
    assert "give an id like 57, or a channel and a number like general#12" in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("word", ["general#99999", "nowhere#1", "999999"])
def test_a_message_that_is_not_there_is_not_found(word: str, run: Shell) -> None:
    for name in ("explain", "retry"):
        said = run(name, word, token=ANN)
        assert (said.code, said.out, len(said.err.splitlines())) == (errors.NotFound.exit_code, "", 1)


def test_a_turn_is_stopped_and_its_message_retried_as_the_notice_says(run: Shell, channel: str, robin: str) -> None:
    name = run.house.call(operations.WHOAMI, robin).username
    [agent] = [each for each in run.house.call(operations.AGENTS).agents if each.username == name]
    working = f"\tworking since {agent.working_since:%Y-%m-%dT%H:%M:%SZ} in #{channel} (turn {agent.turn_id}, attempt 1)\t"
    assert working in run("agents").out
    said = run("stop", str(agent.turn_id), token=ANN)
    assert said.code == 0
    assert "error_code\tcancelled\nerror\tann stopped it\n" in said.out
    assert "working since" not in next(line for line in run("agents").out.splitlines() if line.startswith(name))
    explained = run("explain", f"{channel}#1", token=ANN).out
    assert "given up " in explained
    assert "error: cancelled (ann stopped it). What helps: " in explained
    notice = bodies(run.house, channel)[-1]
    command = notice.rpartition("To try again: `colony ")[2].removesuffix("`.").split()
    assert run(*command, token=ANN).out == f"{name} handles message {command[1]} once more\n"
    assert run(*command, token=ANN).out == f"{name} has message {command[1]} in its inbox anyway\n"
    turn = run.house.call(operations.CLAIM, robin).turn
    with client.Client(run.house.url, robin, f"{turn.id}.1") as agents_own:
        usage = schema.Usage(tokens_in=12_000, tokens_out=800, cost_usd=0.0312, prompt_characters=4120, tools={"Bash": 3, "post": 1})
        agents_own.call(operations.FINISH, schema.FinishTurn(id=turn.id, reply="it is here", usage=usage))
    said = run(*command, token=ANN)
    assert (said.code, said.out) == (errors.Conflict.exit_code, "")
    assert f"{name} has answered it (turn {turn.id})" in said.err
    explained = run("explain", command[1], token=ANN).out
    assert "ann had it retried " in explained
    assert "prompt of 4,120 characters; tools: Bash ×3, post ×1; 12,000 + 800 tokens, $0.0312" in explained
    assert f"posted {channel}#3 by {name}, id " in explained
    answer = run("explain", f"{channel}#3", token=ANN).out
    assert f"it answers {channel}#1 by ann, id {command[1]}: @{name} where is it?" in answer


def test_channels_are_opened_watched_and_listed(run: Shell) -> None:
    assert "topic\tall birds\n" in run("create-channel", "#birds", "--topic", "all birds", token=ANN).out
    assert "watched\tyes\n" in run("watch", "#birds", token=ANN).out
    assert "birds\t0\tyes\tall birds\t" in run("channels", token=ANN).out
    assert "watched\tno\n" in run("unwatch", "birds", token=ANN).out


# --- what only a process shows


def test_a_terminal_gets_colours_and_a_pipe_does_not(run: Shell, channel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLONY_TOKEN", "")
    run("post", channel, "**bold** \x1b]0;owned\x07")
    code, seen = on_terminal([], "read", channel)
    assert code == 0
    assert "\x1b[1mbold" in seen
    assert "\x1b]" not in seen
    assert "\x1b" not in run("read", channel).out


def test_a_reader_that_leaves_early_is_no_error(run: Shell, channel: str) -> None:
    for _ in range(3):
        run("post", channel, "x\n" * 30_000)
    process = run.spawn("read", channel)
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(PATIENCE_SECONDS), process.stderr.read()) == (pipe.CLOSED, "")


@pytest.mark.parametrize("command", ["read", "events"])
def test_a_reader_that_leaves_ends_what_would_go_on_for_ever(run: Shell, channel: str, command: str) -> None:
    run("post", channel, "one")
    process = run.spawn("read", channel, "--follow") if command == "read" else run.spawn("events", "--follow")
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    run("post", channel, "two")
    assert (process.wait(PATIENCE_SECONDS), process.stderr.read()) == (pipe.CLOSED, "")


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], {"httpx", "httpx2", "rich", "tenacity"}),
        (["post", "general", "hello"], {"rich", "pygments", "tenacity", "asyncio", "sqlalchemy", "flask"}),
    ],
)
def test_a_command_imports_only_what_it_needs(arguments: list[str], unwanted: set[str], run: Shell) -> None:
    script = f"import sys; from colony.cli import main; main({arguments!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not unwanted & set(done.stderr.split())
