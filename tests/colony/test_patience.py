"""What happens to a command while it waits, and while the colony does not answer."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from functools import partial
from operator import contains
from pathlib import Path

import pytest

from colony import client, command_line, errors, operations, patience, schema
from server import backup
from server.models.base import now
from tests.colony.cast import PATIENCE_SECONDS, House, LosesAnswers, Said, Shell, bodies, wait_for_call, wait_until
from tests.server.cast import token_of

ANN = token_of("ann")


@pytest.mark.parametrize("losses", [1, patience.TRIES])
def test_a_post_whose_answer_is_lost_is_posted_once(losses: int, run: Shell, channel: str, hasty: None) -> None:
    network = LosesAnswers(run.house.socket, range(1, losses + 1))
    said = run("post", channel, "once", connect=lambda settings: client.Client(settings.url, transport=network))
    assert (said.code, said.err, network.requests) == (0, "", losses + 1)
    assert bodies(run.house, channel) == ["once"]


def test_a_post_gives_up_after_a_few_tries(run: Shell, channel: str, hasty: None) -> None:
    network = LosesAnswers(run.house.socket, range(1, 1000))
    said = run("post", channel, "once", connect=lambda settings: client.Client(settings.url, transport=network))
    assert (said.code, network.requests) == (errors.Unavailable.exit_code, 1 + patience.TRIES)
    assert bodies(run.house, channel) == ["once"]


def test_waiting_ends_as_soon_as_something_comes(run: Shell, channel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fay = run.house.join("fay")
    monkeypatch.setattr(schema, "MAX_WAIT_SECONDS", 0.2)  # so that it takes several polls
    later = threading.Timer(0.7, lambda: run.house.call(operations.POST, channel=channel, body="@fay"))
    later.start()
    said = run("poll", "--wait", token=fay)
    later.join()
    assert "@fay" in said.out
    assert run("inbox", token=fay).out == ""


def test_waiting_ends_after_the_given_time(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    guy = run.house.join("guy")
    monkeypatch.setattr(schema, "MAX_WAIT_SECONDS", 0.2)
    began = time.monotonic()
    assert run("inbox", "--wait", "0.5", token=guy) == Said(0, "", "")
    assert 0.5 <= time.monotonic() - began < 10
    assert json.loads(run("inbox", "--wait", "0.1", "--json", token=guy).out) == {"items": []}


@pytest.mark.parametrize("arguments", [["read", "general", "--follow"], ["events", "--follow"], ["inbox", "--wait"]])
def test_ctrl_c_ends_a_wait_quietly(arguments: list[str], run: Shell) -> None:
    token = run.house.join(f"una-{arguments[0]}")
    process = run.spawn(*arguments, token=token)
    wait_for_call(process)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, talk.strip()) == (command_line.INTERRUPTED, "")


def test_following_loses_and_doubles_nothing_while_the_server_restarts(own_house: House, run: Shell) -> None:
    process = run.spawn("--url", own_house.url, "read", "general", "--since", "0", "--limit", "2", "--follow", "--json")
    seen: list[int] = []
    reader = threading.Thread(target=_collect, args=(process, seen))
    reader.start()
    try:
        for start in (1, 6):
            for number in range(start, start + 5):
                own_house.call(operations.POST, channel="general", body=str(number))
            wait_until(partial(contains, seen, start + 4))
            own_house.stop()
            if start == 1:
                own_house.start()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == command_line.INTERRUPTED
    finally:
        process.kill()
        reader.join(PATIENCE_SECONDS)
        process.communicate()
    assert seen == list(range(1, 11))


def test_following_goes_on_through_a_restore_whose_numbers_begin_again(own_house: House, run: Shell, tmp_path: Path) -> None:
    own_house.call(operations.POST, channel="general", body="kept")
    made = backup.make(own_house.database, tmp_path, None, now()).path
    for number in range(10):
        own_house.call(operations.POST, channel="general", body=f"gone {number}")
    process = run.spawn("--url", own_house.url, "read", "general", "--since", "0", "--follow", "--json")
    seen: list[int] = []
    reader = threading.Thread(target=_collect, args=(process, seen))
    reader.start()
    try:
        wait_until(lambda: 11 in seen)
        own_house.stop()
        backup.restore(made, own_house.database, now())
        own_house.start()
        wait_until(lambda: seen[-1] == 2)  # the notice of the restore
        own_house.call(operations.POST, channel="general", body="new")
        wait_until(lambda: seen[-1] == 3)
    finally:
        process.kill()
        reader.join(PATIENCE_SECONDS)
        process.communicate()
    assert seen == [*range(1, 12), 2, 3]


def test_following_events_loses_and_doubles_nothing_while_the_server_restarts(own_house: House, run: Shell) -> None:
    process = run.spawn("--url", own_house.url, "events", "--since", "0.0", "--limit", "2", "--follow", "--json")
    seen: list[str] = []
    reader = threading.Thread(target=_collect_events, args=(process, seen))
    reader.start()
    try:
        for number in range(9):
            own_house.call(operations.POST, channel="general", body=str(number))
            if number % 3 == 2:
                wait_until(partial(contains, seen, str(number)))
                own_house.stop()
                time.sleep(0.3)
                own_house.start()
        own_house.call(operations.CREATE_CHANNEL, name="garden")
        wait_until(lambda: "create_channel" in seen)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == command_line.INTERRUPTED
    finally:
        process.kill()
        reader.join(PATIENCE_SECONDS)
        talk = process.communicate()[1]
    assert seen == [*map(str, range(9)), "create_channel"]
    assert talk.count("trying again until it answers") == talk.count("the colony answers again") == 3


def _collect_events(process: subprocess.Popen[str], seen: list[str]) -> None:
    assert process.stdout
    for line in process.stdout:
        event = json.loads(line)
        seen.append(event["message"]["body"] if event["message"] else event["deed"]["operation"])


def _collect(process: subprocess.Popen[str], seen: list[int]) -> None:
    assert process.stdout
    for line in process.stdout:
        seen += [message["seq"] for message in json.loads(line)["messages"]]


def test_waiting_outlives_a_restart_and_says_so(own_house: House, run: Shell) -> None:
    process = run.spawn("--url", own_house.url, "inbox", "--wait", "--json")
    try:
        wait_for_call(process)
        own_house.stop()
        time.sleep(0.3)
        own_house.start()
        own_house.call(operations.POST, ANN, channel="general", body="@colony are you there?")
        out, talk = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
    assert (process.returncode, len(json.loads(out)["items"])) == (0, 1)
    first, second = talk.splitlines()
    assert first.startswith("colony: no colony at unix:")
    assert first.endswith("; trying again until it answers")
    assert second == "colony: the colony answers again"


def test_a_limited_wait_ends_during_an_outage_too(run: Shell, monkeypatch: pytest.MonkeyPatch, hasty: None) -> None:
    network = LosesAnswers(run.house.socket, range(2, 1000))
    monkeypatch.setattr(schema, "MAX_WAIT_SECONDS", 0.1)
    jim = run.house.join("jim")
    began = time.monotonic()
    said = run("inbox", "--wait", "1", connect=lambda settings: client.Client(settings.url, jim, transport=network))
    assert said.code == errors.Unavailable.exit_code
    assert time.monotonic() - began < 3
