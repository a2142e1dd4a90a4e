"""The `colony` command against the real server."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from colony import cli, client, config, errors, login, operations, patience, schema

BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 20.0


class Server:
    """A colony's server as a process of its own. Whoever runs these tests administrates it by its socket."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.socket = home / "api.sock"
        self.url = f"unix:{self.socket}"

    def start(self) -> None:
        command = [BIN / "colony-server", "--home", self._home, "run", "--port", "0", "--socket", self.socket, "--threads", "32"]
        self._process = subprocess.Popen(command)
        wait_until(self._answers)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)

    def call(self, operation: operations.Operation[Any, Any], token: str | None = None, **fields: Any) -> Any:
        with client.Client(self.url, token) as caller:
            return caller.call(operation, operation.request(**fields))

    def join(self, name: str, kind: str = "ape") -> str:
        """A new user's token."""
        self.call(operations.CREATE_USER, username=name, kind=kind)
        return str(self.call(operations.ISSUE_TOKEN, username=name).token)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0


@dataclass
class Said:
    code: int
    out: str
    err: str


class Colony:
    """Runs the command as somebody: within this process, or as one of its own where signals and pipes matter."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.server, self._monkeypatch, self._capsys = server, monkeypatch, capsys

    def __call__(self, *arguments: str, token: str = "", stdin: bytes = b"", connect: Callable[..., Any] | None = None) -> Said:
        self._monkeypatch.setenv("COLONY_TOKEN", token)
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self._capsys.readouterr()
        code = cli.main(arguments, connect)
        captured = self._capsys.readouterr()
        return Said(code, captured.out, captured.err)

    def spawn(self, *arguments: str, token: str = "", **more: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen([BIN / "colony", *arguments], env=os.environ | {"COLONY_TOKEN": token}, text=True, **pipes)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("colony"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ann(server: Server) -> str:
    return server.join("ann")


@pytest.fixture(scope="module")
def bob(server: Server) -> str:
    return server.join("bob")


@pytest.fixture(scope="module")
def scout(server: Server) -> str:
    token = server.join("scout", "agent")
    server.call(operations.SET_STATUS, agent="scout", status="healthy")
    return token


@pytest.fixture
def colony(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Colony:
    monkeypatch.setenv("COLONY_URL", server.url)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return Colony(server, monkeypatch, capsys)


@pytest.fixture
def channel(server: Server, request: pytest.FixtureRequest) -> str:
    name = f"c{abs(hash(request.node.nodeid))}"
    server.call(operations.CREATE_CHANNEL, name=name)
    return name


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again at once."""
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.0)


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def bodies(server: Server, channel: str) -> list[str]:
    return [message.body for message in server.call(operations.READ, channel=channel).messages]


# --- the table of operations


def test_every_operation_for_users_has_a_command() -> None:
    renamed = {"issue_token": "token", "set_status": "pause"}
    for operation in operations.OPERATIONS.values():
        if operation.who != "agent":
            assert renamed.get(operation.name, operation.name.replace("_", "-")) in cli.group.commands


@pytest.mark.parametrize("name", sorted(set(cli.group.commands) - {"login"}))
def test_every_command_offers_json(name: str) -> None:
    assert "--json" in [option for parameter in cli.group.commands[name].params for option in parameter.opts]


@pytest.mark.parametrize("name", sorted(cli.group.commands))
def test_every_command_explains_itself(name: str, colony: Colony) -> None:
    said = colony(name, "--help")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"Usage: colony {name} ")


@pytest.mark.parametrize("error", errors.BY_CODE.values(), ids=list(errors.BY_CODE))
def test_every_error_is_one_line_and_its_exit_code(error: type[errors.ColonyError], colony: Colony) -> None:
    class Failing(client.Client):
        def call(self, operation: Any, request: Any) -> Any:
            raise error("it is\nso \x1b[31m")

    said = colony("channels", connect=lambda settings: Failing(settings.url))
    assert said == Said(error.exit_code, "", "colony: it is so \\x1b[31m\n")


@pytest.mark.parametrize(
    "command", ["whoami", "channels", "read {channel}", "inbox", "users", "agents", "turns", "turns @scout", "turn {turn}"]
)
def test_json_is_exactly_the_operation_s_response(command: str, colony: Colony, channel: str, ann: str, scout: str) -> None:
    colony("post", channel, "to @ann and @scout")
    turn = colony.server.call(operations.CLAIM, scout, take_over=True).turn
    words = command.format(channel=channel, turn=turn.id).split()
    operation = operations.OPERATIONS[words[0]]
    path = operation.path.format(channel=channel, id=turn.id) + ("?agent=scout" if words[1:] == ["@scout"] else "")
    with client.httpx.Client(transport=client.httpx.HTTPTransport(uds=str(colony.server.socket)), base_url="http://colony") as http:
        answer = http.get(path, headers={"Authorization": f"Bearer {ann}"}).json()
    assert json.loads(colony(*words, "--json", token=ann).out) == answer


# --- reading and writing


def test_a_user_learns_who_they_are(colony: Colony, ann: str) -> None:
    assert "username\tann\n" in colony("whoami", token=ann).out


def test_the_words_of_a_post_become_one_message(colony: Colony, channel: str) -> None:
    said = colony("post", f"#{channel}", "two", "words")
    assert (said.code, said.err) == (0, "")
    assert f"{channel} 1" in said.out
    assert bodies(colony.server, channel) == ["two words"]


def test_a_post_from_stdin_keeps_its_lines(colony: Colony, channel: str) -> None:
    assert colony("post", channel, "-", stdin="# Ü\n\n  two\n".encode()).code == 0
    assert bodies(colony.server, channel) == ["# Ü\n\n  two"]


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
def test_what_can_not_be_posted_is_one_clear_line(words: list[str], stdin: bytes, complaint: str, colony: Colony, channel: str) -> None:
    said = colony("post", channel, *words, stdin=stdin)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"colony: {complaint}")
    assert len(said.err.splitlines()) == 1
    assert bodies(colony.server, channel) == []


def test_the_largest_body_fits_with_its_line_end(colony: Colony, channel: str) -> None:
    assert colony("post", channel, "-", stdin=b"x" * schema.MAX_BODY_BYTES + b"\n").code == 0


def test_a_repeated_client_id_is_told(colony: Colony, channel: str) -> None:
    colony("post", channel, "hello", "--client-id", "k")
    said = colony("post", channel, "hello", "--client-id", "k")
    assert said.code == 0
    assert "had been posted before" in said.err
    assert bodies(colony.server, channel) == ["hello"]


def test_a_reply_and_a_type_are_passed_on(colony: Colony, channel: str) -> None:
    first = json.loads(colony("post", channel, "hello", "--json").out)
    reply = json.loads(colony("post", channel, "hi", "--json", "--reply-to", str(first["id"]), "--type", "greeting").out)
    assert (reply["reply_to"], reply["type"]) == (first["id"], "greeting")


class LosesAnswers(client.httpx.HTTPTransport):
    """A network that delivers each request, but not the answers to those that are numbered in `lost`."""

    def __init__(self, socket: Path, lost: range) -> None:
        super().__init__(uds=str(socket))
        self.lost, self.requests = lost, 0

    def handle_request(self, request: Any) -> Any:
        self.requests += 1
        answer = super().handle_request(request)
        if self.requests in self.lost:
            answer.close()
            raise client.httpx.ReadError("connection reset")
        return answer


@pytest.mark.parametrize("losses", [1, patience.TRIES])
def test_a_post_whose_answer_is_lost_is_posted_once(losses: int, colony: Colony, channel: str, hasty: None) -> None:
    network = LosesAnswers(colony.server.socket, range(1, losses + 1))
    said = colony("post", channel, "once", connect=lambda settings: client.Client(settings.url, transport=network))
    assert (said.code, said.err, network.requests) == (0, "", losses + 1)
    assert bodies(colony.server, channel) == ["once"]


def test_a_post_gives_up_after_a_few_tries(colony: Colony, channel: str, hasty: None) -> None:
    network = LosesAnswers(colony.server.socket, range(1, 1000))
    said = colony("post", channel, "once", connect=lambda settings: client.Client(settings.url, transport=network))
    assert (said.code, network.requests) == (errors.Unavailable.exit_code, 1 + patience.TRIES)
    assert bodies(colony.server, channel) == ["once"]


def test_reading_tells_where_to_go_on(colony: Colony, channel: str) -> None:
    for body in "abc":
        colony("post", channel, body)
    said = colony("read", channel, "--since", "0", "--limit", "2")
    assert [line for line in said.out.splitlines() if line.startswith(" ")] == ["    a", "    b"]
    assert "--since 2" in said.err
    said = colony("read", channel, "--since", "2", "--limit", "2")
    assert "    c\n" in said.out
    assert said.err == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["read", "Foo!"], "channel: 'Foo!' must match [a-z0-9][a-z0-9_-]{0,63}, like 'general'"),
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
def test_a_bad_argument_is_one_clear_line(arguments: list[str], complaint: str, colony: Colony) -> None:
    said = colony(*arguments)
    assert (said.code, said.out) == (errors.Invalid.exit_code, "")
    assert said.err.startswith(f"colony: {complaint}")
    assert len(said.err.splitlines()) == 1
    assert len(said.err) < 250


@pytest.mark.parametrize("arguments", [["-v", "read", "nowhere"], ["read", "nowhere", "-v"]])
def test_v_adds_the_traceback(arguments: list[str], colony: Colony) -> None:
    said = colony(*arguments)
    assert said.code == errors.NotFound.exit_code
    assert said.err.startswith("Traceback")
    assert said.err.splitlines()[-1] == "colony: no channel nowhere"


def test_an_unforeseen_error_is_one_line_too(colony: Colony) -> None:
    def connect(settings: config.Settings) -> client.Client:
        raise KeyError("surprise")

    assert colony("whoami", connect=connect) == Said(1, "", "colony: KeyError: 'surprise' (-v shows where)\n")


def test_without_a_server_the_reason_is_told(colony: Colony, tmp_path: Path) -> None:
    said = colony("--url", f"unix:{tmp_path}/none.sock", "whoami")
    assert said.code == errors.Unavailable.exit_code
    assert f"no colony at unix:{tmp_path}/none.sock" in said.err


def test_a_token_on_the_command_line_earns_a_warning(colony: Colony, ann: str) -> None:
    said = colony("--token", ann, "whoami")
    assert "ann" in said.out
    assert "can be seen by other users" in said.err
    assert ann not in said.err


# --- the inbox


def test_acknowledged_items_are_gone(colony: Colony, channel: str) -> None:
    cara = colony.server.join("cara")
    colony("post", channel, "one @cara")
    colony("post", channel, "two @cara")
    items = json.loads(colony("inbox", "--json", token=cara).out)["items"]
    assert colony("ack", str(items[0]["id"]), token=cara).out == f"{items[0]['id']}\n"
    said = colony("inbox", token=cara)
    assert "two @cara" in said.out
    assert "one @cara" not in said.out
    assert "two @cara" in colony("inbox", "--user", "@cara").out  # as administrator


def test_polling_acknowledges_exactly_what_it_printed(colony: Colony, channel: str) -> None:
    dora = colony.server.join("dora")
    for body in "one", "two", "three":
        colony("post", channel, f"{body} @dora")
    said = colony("poll", "--limit", "2", token=dora)
    assert "one @dora" in said.out
    assert "two @dora" in said.out
    assert "three" not in said.out
    left = colony("inbox", token=dora).out
    assert "three @dora" in left
    assert "two" not in left
    assert len(json.loads(colony("poll", "--json", token=dora).out)["items"]) == 1
    assert colony("poll", token=dora) == Said(0, "", "")


@pytest.mark.parametrize("sink", ["a closed pipe", "a full disk", "no stdout"])
def test_polling_acknowledges_nothing_that_could_not_be_printed(sink: str, colony: Colony, channel: str) -> None:
    name = "eve-" + sink.split()[-1]
    eve = colony.server.join(name)
    colony("post", channel, f"@{name}")
    if sink == "a closed pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open("/dev/full", os.O_WRONLY)
    closed = {"preexec_fn": lambda: os.close(1)} if sink == "no stdout" else {}
    process = colony.spawn("poll", token=eve, stdout=writing, **closed)
    os.close(writing)
    _, talk = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode != 0
    assert "Traceback" not in talk
    assert talk == {"a closed pipe": "", "a full disk": "colony: [Errno 28] No space left on device\n"}.get(
        sink, "colony: stdout is closed\n"
    )
    assert len(colony.server.call(operations.INBOX, eve).items) == 1


def test_waiting_ends_as_soon_as_something_comes(colony: Colony, channel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fay = colony.server.join("fay")
    monkeypatch.setattr(schema, "MAX_WAIT_SECONDS", 0.2)  # so that it takes several polls
    later = threading.Timer(0.7, lambda: colony.server.call(operations.POST, channel=channel, body="@fay"))
    later.start()
    said = colony("poll", "--wait", token=fay)
    later.join()
    assert "@fay" in said.out
    assert colony("inbox", token=fay).out == ""


def test_waiting_ends_after_the_given_time(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    guy = colony.server.join("guy")
    monkeypatch.setattr(schema, "MAX_WAIT_SECONDS", 0.2)
    began = time.monotonic()
    assert colony("inbox", "--wait", "0.5", token=guy) == Said(0, "", "")
    assert 0.5 <= time.monotonic() - began < 2
    assert json.loads(colony("inbox", "--wait", "0.1", "--json", token=guy).out) == {"items": []}


# --- agents and administration


def test_an_administrator_adds_users_and_makes_tokens(colony: Colony) -> None:
    assert "username\thal\n" in colony("create-user", "@hal", "--kind", "ape", "--linux-user", "nobody").out
    said = colony("token", "hal")
    assert len(said.out.split()) == 1
    assert "shown only now" in said.err
    assert "username\thal\n" in colony("whoami", token=said.out.strip()).out
    assert colony("create-user", "ida", "--kind", "ape", token=said.out.strip()).code == errors.Forbidden.exit_code


def test_agents_are_paused_resumed_and_drained(colony: Colony) -> None:
    colony.server.join("robin", "agent")
    assert "status\thealthy\n" in colony("resume", "robin").out
    said = colony("pause", "@robin", "--note", "lunch")
    assert "status\tpaused\nstatus_note\tlunch\n" in said.out
    assert "status\tdraining\n" in colony("drain", "robin").out
    assert colony("pause", "robin").code == errors.Conflict.exit_code
    assert "robin\tdraining" in colony("agents").out


def test_channels_are_opened_watched_and_listed(colony: Colony, ann: str) -> None:
    assert "topic\tall birds\n" in colony("create-channel", "#birds", "--topic", "all birds", token=ann).out
    assert "watched\tyes\n" in colony("watch", "#birds", token=ann).out
    assert "birds\t0\tyes\tall birds\t" in colony("channels", token=ann).out
    assert "watched\tno\n" in colony("unwatch", "birds", token=ann).out


# --- login


@pytest.fixture
def stranger(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> Colony:
    """Somebody who has not said yet where their colony is."""
    monkeypatch.delenv("COLONY_URL")
    return colony


def test_a_login_is_kept_for_later_commands_and_from_other_eyes(stranger: Colony, ann: str) -> None:
    before = os.umask(0)
    try:
        said = stranger("login", "--url", stranger.server.url, "--token", ann)
    finally:
        os.umask(before)
    path = config.user_file()
    assert (said.code, "username\tann\n" in said.out) == (0, True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["config.toml"]
    assert "username\tann\n" in stranger("whoami").out


def test_a_refused_login_changes_nothing(stranger: Colony, ann: str) -> None:
    stranger("login", "--url", stranger.server.url, "--token", ann)
    kept = config.user_file().read_bytes()
    assert stranger("login", "--token", "wrong", "--url", stranger.server.url).code == errors.Unauthenticated.exit_code
    assert config.user_file().read_bytes() == kept


def test_a_login_that_can_not_be_written_leaves_the_old_one(stranger: Colony, ann: str, monkeypatch: pytest.MonkeyPatch) -> None:
    login.keep(config.user_file(), "https://old", None)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = stranger("login", "--url", stranger.server.url, "--token", ann)
    assert (said.code, said.err) == (1, "colony: [Errno 28] No space left on device\n")
    assert config.user_file().read_text() == 'url = "https://old"\n'
    assert len(list(config.user_file().parent.iterdir())) == 1


def test_a_login_takes_what_is_missing_from_a_pipe(stranger: Colony) -> None:
    assert stranger("login", stdin=f"{stranger.server.url}\n".encode()).code == 0  # on the socket no token is needed
    said = stranger("login", "--url", "https://colony.invalid")
    assert (said.code, said.err) == (2, "colony: no token; give it with --token, or a line of it on stdin\n")


def test_a_login_says_when_another_setting_comes_first(colony: Colony, ann: str) -> None:
    assert "but here COLONY_URL comes first" in colony("login", "--url", colony.server.url, "--token", ann).err


def test_an_unencrypted_address_earns_a_warning(stranger: Colony, ann: str) -> None:
    def connect(settings: config.Settings) -> client.Client:
        return client.Client(stranger.server.url, settings.token)

    assert "not encrypted" in stranger("login", "--url", "http://colony.example", "--token", ann, connect=connect).err
    assert "not encrypted" not in stranger("login", "--url", "http://localhost:8700", "--token", ann, connect=connect).err


# --- what only a process shows: terminals, signals, pipes, restarts


def on_terminal(typed: list[str], *arguments: str) -> tuple[int, str]:
    """The exit code, and what appears on a terminal where the lines are typed, each after a `: `."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(BIN / "colony", ["colony", *arguments])
    seen, answered = b"", 0
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # so Linux tells that the other end is closed
            break
        seen += piece
        if answered < len(typed) and seen.rstrip(b" ").endswith(b":"):
            time.sleep(0.1)  # the prompt has to turn off the echo first
            os.write(terminal, typed[answered].encode() + b"\n")
            answered += 1
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), seen.decode()


def test_a_login_asks_on_a_terminal_and_does_not_show_the_token(stranger: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLONY_TOKEN", raising=False)
    code, seen = on_terminal(["http://127.0.0.1:9", "s3cret"], "login")
    assert "url [unix:" in seen
    assert "token:" in seen
    assert "s3cret" not in seen
    assert code == errors.Unavailable.exit_code


def test_a_terminal_gets_colours_and_a_pipe_does_not(colony: Colony, channel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLONY_TOKEN", "")
    colony("post", channel, "**bold** \x1b]0;owned\x07")
    code, seen = on_terminal([], "read", channel)
    assert code == 0
    assert "\x1b[1mbold" in seen
    assert "\x1b]" not in seen
    assert "\x1b" not in colony("read", channel).out


def test_a_reader_that_leaves_early_is_no_error(colony: Colony, channel: str) -> None:
    for _ in range(3):
        colony("post", channel, "x\n" * 30_000)
    process = colony.spawn("read", channel)
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(PATIENCE_SECONDS), process.stderr.read()) == (cli.PIPE_CLOSED, "")


@pytest.mark.parametrize("arguments", [["read", "general", "--follow"], ["inbox", "--wait"]])
def test_ctrl_c_ends_a_wait_quietly(arguments: list[str], colony: Colony) -> None:
    token = colony.server.join(f"una-{arguments[0]}")
    process = colony.spawn(*arguments, token=token)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, talk.strip()) == (cli.INTERRUPTED, "")


def test_following_loses_and_doubles_nothing_while_the_server_restarts(tmp_path: Path, colony: Colony) -> None:
    server = Server(tmp_path)
    server.start()
    process = colony.spawn("--url", server.url, "read", "general", "--since", "0", "--limit", "2", "--follow", "--json")
    try:
        seen: list[int] = []
        reader = threading.Thread(target=_collect, args=(process, seen))
        reader.start()
        for start in (1, 6):
            for number in range(start, start + 5):
                server.call(operations.POST, channel="general", body=str(number))
            wait_until(lambda last=start + 4: last in seen)
            server.stop()
            if start == 1:
                time.sleep(0.5)
                server.start()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == cli.INTERRUPTED
        reader.join(PATIENCE_SECONDS)
    finally:
        process.kill()
        process.communicate()
    assert seen == list(range(1, 11))


def _collect(process: subprocess.Popen[str], seen: list[int]) -> None:
    assert process.stdout
    for line in process.stdout:
        seen += [message["seq"] for message in json.loads(line)["messages"]]


def test_waiting_outlives_a_restart_and_says_so(tmp_path: Path, colony: Colony) -> None:
    server = Server(tmp_path)
    server.start()
    process = colony.spawn("--url", server.url, "inbox", "--wait", "--json")
    time.sleep(1)
    server.stop()
    time.sleep(0.3)
    server.start()
    try:
        ann = server.join("ann")
        server.call(operations.POST, ann, channel="general", body="@colony are you there?")
        out, talk = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
        server.stop()
    assert (process.returncode, len(json.loads(out)["items"])) == (0, 1)
    first, second = talk.splitlines()
    assert first.startswith("colony: no colony at unix:")
    assert first.endswith("; trying again until it answers")
    assert second == "colony: the colony answers again"


def test_a_limited_wait_ends_during_an_outage_too(colony: Colony, monkeypatch: pytest.MonkeyPatch, hasty: None) -> None:
    network = LosesAnswers(colony.server.socket, range(2, 1000))
    monkeypatch.setattr(schema, "MAX_WAIT_SECONDS", 0.1)
    jim = colony.server.join("jim")
    began = time.monotonic()
    said = colony("inbox", "--wait", "1", connect=lambda settings: client.Client(settings.url, jim, transport=network))
    assert said.code == errors.Unavailable.exit_code
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], {"httpx", "httpx2", "rich", "tenacity"}),
        (["post", "general", "hello"], {"rich", "pygments", "tenacity", "asyncio", "sqlalchemy", "flask"}),
    ],
)
def test_a_command_imports_only_what_it_needs(arguments: list[str], unwanted: set[str], colony: Colony) -> None:
    script = f"import sys; from colony.cli import main; main({arguments!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not unwanted & set(done.stderr.split())
