"""The page that a run of the benchmarks leaves."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.wire import Connection

BODY = b'{"a": "b c"}'


def figure(what: str, is_met: bool | None = None, **values: float) -> dict[str, Any]:
    verdict = {True: "met", False: "missed", None: ""}[is_met]
    return {"what": what, "figure": "7 | 8", "budget": "≤ 5", "is_met": is_met, "peers": "", "values": values, "verdict": verdict}


def run(*figures: dict[str, Any], broken: dict[str, str] | None = None) -> dict[str, Any]:
    return {"command": "make bench", "machine": {"cores": "2"}, "figures": list(figures), "broken": broken or {}}


def test_a_page_and_its_plot_are_made_from_the_results_alone(tmp_path: Path) -> None:
    wakes = [figure(f"mention → awake, {n}", agents=n, p50_seconds=0.001 * n, p99_seconds=0.02) for n in (10, 500)]
    held = [figure(f"server with {n}", agents=n, proportional_bytes=2**20 * n) for n in (10, 500)]
    past = [figure(f"inbox poll, {n} messages", messages=n, seconds=0.001, ratio=1.25) for n in (1000, 2000)]
    rests = figure("50 agents at rest", agents=50, turns=0)
    report.write(tmp_path, run(*wakes, *held, *past, rests))
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made.keys() == {"performance.json", "performance.md", "performance.svg"}
    page = made["performance.md"].decode()
    assert "| 10 | 10.0 | 20.0 | 10 |" in page
    assert "| 50 |" not in page
    assert "| inbox poll | 1.25 | 1.25 |" in page
    report.remake(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == made


def test_what_is_missed_is_told_with_its_reason() -> None:
    page = report.page(run(figure("posts/s, one mention, durable", is_met=False), figure("posts/s to 50 inboxes", is_met=True)))
    missed = page.partition("## What is missed")[2]
    assert "four statements" in missed
    assert "posts/s to 50 inboxes" not in missed


def test_a_miss_that_nobody_has_looked_into_says_so() -> None:
    assert report.NO_REASON in report.page(run(figure("something new", is_met=False)))


def test_what_could_not_be_measured_is_told() -> None:
    assert "**turn** could not be measured: no CLI." in report.page(run(broken={"turn": "no CLI"}))


@pytest.mark.parametrize("step", [1, 7, 10_000], ids=["byte by byte", "in parts", "at once"])
@pytest.mark.parametrize(
    "answer",
    [
        b"Content-Length: 12\r\n\r\n" + BODY,
        b"Transfer-Encoding: chunked\r\n\r\n4\r\n" + BODY[:4] + b"\r\n8\r\n" + BODY[4:] + b"\r\n0\r\n\r\n",
    ],
    ids=["with its length", "in chunks"],
)
def test_an_answer_is_taken_however_it_comes(tmp_path: Path, answer: bytes, step: int) -> None:
    whole = b"HTTP/1.1 200 OK\r\n" + answer
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.sock"))
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(100)
                for place in range(0, len(whole), step):
                    connection.sendall(whole[place : place + step])

        threading.Thread(target=serve, daemon=True).start()
        connection = Connection(tmp_path / "s.sock")
        assert connection.ask(b"hello") == {"a": "b c"}
        connection.close()
