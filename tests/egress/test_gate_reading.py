"""Large questions are read in another process, alike, and hold nobody up."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from egress import question
from egress.proxy import SMALL_BYTES, USUAL_BYTES
from egress.reading import Reader
from egress.refusals import Refusal, Resting
from tests.egress.house import House, Upstream, everything, status, until
from tests.egress.test_gate_metering import ENDS, STARTS, api, ask, asked_of, at, streamed

Opened = Callable[..., House]
LARGE = [{"role": "user", "content": "é\n" * SMALL_BYTES}]
LARGEST = [{"role": "user", "content": "x" * USUAL_BYTES}]
__all__ = ["api"]


@pytest.fixture
def reader() -> Iterator[Reader]:
    found = Reader()
    yield found
    found.close()


def body(**more: Any) -> bytes:
    return json.dumps({"model": "claude-test", "max_tokens": 10, "messages": [], **more}).encode()


def both(reader: Reader, said: bytes, **how: Any) -> tuple[Any, Any]:
    found: list[Any] = []
    for read in (question.parsed, reader.read):
        try:
            found.append(read(said, **{"is_counted": False, "fields": (), **how}))
        except Refusal as error:
            found.append((type(error), error.detail))
    return found[0], found[1]


@pytest.mark.parametrize(
    ("said", "how"),
    [
        (body(messages=LARGE), {}),
        (body(thinking={"type": "enabled", "budget_tokens": 5000}, speed="fast"), {}),
        (body(mcp_servers=[{"url": "https://evil.example"}], tools=["x"]), {}),
        (body(inference_geo="us"), {}),
        (body(inference_geo="us"), {"fields": ["inference_geo"]}),
        (b'{"model":"m"}', {"is_counted": True}),
        (b'{"model":"m"}', {}),
        (b"", {}),
        (b"\n" * 100, {}),
        (b'{"model":"m","max_tokens":1,"metadata":"\\ud800"}', {}),
        (b"x" * (question.MAX_BYTES + 1), {}),
    ],
)
def test_it_is_read_as_it_would_be_here(reader: Reader, said: bytes, how: dict[str, Any]) -> None:
    here, there = both(reader, said, **how)
    assert here == there
    assert both(reader, body())[1].content == question.parsed(body()).content


def test_where_its_process_ends_it_is_asked_again_and_the_next_one_is_read(reader: Reader) -> None:
    reader.read(body(), is_counted=False, fields=())
    (child,) = children()
    child.suspend()
    ending = threading.Timer(0.1, child.kill)
    ending.start()
    with pytest.raises(Resting, match="ask again"):
        reader.read(body(messages=LARGE), is_counted=False, fields=())
    ending.join()
    assert reader.read(body(), is_counted=False, fields=()).model == "claude-test"


@pytest.mark.parametrize(("much", "other"), [(LARGE, {}), (LARGEST, {"messages": LARGE})], ids=["usual", "large"])
def test_who_asks_much_holds_nobody_up(open_house: Opened, api: Callable[..., Upstream], much: Any, other: dict[str, Any]) -> None:
    upstream = api(streamed(STARTS, ENDS))
    house = at(open_house, upstream)
    assert status(house.ask(ask(messages=much))) == 200
    assert asked_of(upstream)["messages"] == much
    (child,) = children()
    child.suspend()
    with house.knock() as connection:
        connection.sendall(ask(messages=much))
        until(lambda: house.gate.held, "the question")
        house.user = "rook"
        assert status(house.ask(ask(**other))) == 200
        os.kill(child.pid, signal.SIGCONT)
        assert status(everything(connection)) == 200


def children() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "egress.reading" in each.cmdline()]
