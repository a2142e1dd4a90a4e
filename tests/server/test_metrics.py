"""What Prometheus is told, read by its own parser."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import parser

from colony import errors, operations, schema
from server import scrape
from server.metrics import CONTENT_TYPE, Histogram, Metrics
from server.models.inbox import inbox
from tests.server.cast import token_of
from tests.server.serving import Server
from tests.server.support import Colony, only_sqlite, problem

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """Each series once, with a type and a help that fit its name."""
    found: Samples = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation.endswith("."), family.name
        assert family.type in ("counter", "gauge", "histogram"), family.name
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def scraped(colony: Colony) -> Samples:
    with colony.http(token_of("bob")) as http:
        answer = http.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, CONTENT_TYPE)
    return parsed(answer.text)


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def test_a_scrape_tells_what_waits_runs_and_has_ended(colony: Colony) -> None:
    colony.post(colony.ann, "@scout one")
    colony.clock.advance(5)
    colony.post(colony.ann, "@scout two @bob", channel=colony.open_channel("garden"))
    seen = scraped(colony)
    assert value(seen, "colony_agent_inbox_waiting", agent="scout") == 2
    assert value(seen, "colony_agent_inbox_oldest_seconds", agent="scout") == 5
    assert (value(seen, "colony_inbox_waiting"), value(seen, "colony_agents_waiting")) == (2, 1)  # people's items are theirs
    assert value(seen, "colony_turns_running", kind="answer") == 0
    turn = colony.turn(colony.scout)
    assert value(scraped(colony), "colony_turns_running", kind="answer") == 1
    colony.finish(turn, "done")
    colony.finish(turn, "done")  # a repetition ends nothing
    colony.fail(colony.turn(colony.scout))
    seen = scraped(colony)
    assert value(seen, "colony_turns_total", kind="answer", state="finished", outcome="answered") == 1
    assert value(seen, "colony_turns_total", kind="answer", state="resting", outcome="crashed") == 1
    assert value(seen, "colony_inbox_items_total", outcome="answered") == 1
    colony.bob.call(operations.ACK, schema.AckInbox(ids=[item.id for item in colony.inbox(colony.bob)]))
    assert value(scraped(colony), "colony_inbox_items_total", outcome="by_hand") == 1
    assert value(seen, "colony_database_bytes") > 50_000
    assert value(seen, "process_resident_memory_bytes") > 20e6
    assert value(seen, "process_cpu_seconds_total") > 0


@only_sqlite
def test_every_way_in_which_an_item_ends_is_counted_as_the_database_has_it(colony: Colony) -> None:
    colony.post(colony.ann, "@scout finish")
    colony.finish(colony.turn(colony.scout), "done")
    colony.post(colony.ann, "@scout say nothing")
    colony.finish(colony.turn(colony.scout))
    colony.post(colony.ann, "@scout fail")
    colony.fail(colony.turn(colony.scout), permanent=True)
    colony.post(colony.ann, "@scout by hand")
    colony.fail(colony.turn(colony.scout))
    colony.scout.call(operations.ACK, schema.AckInbox(ids=[item.id for item in colony.inbox(colony.scout)]))
    colony.post(colony.ann, "@scout stop")
    colony.ann.call(operations.STOP, schema.StopTurn(id=colony.turn(colony.scout).id))
    for _ in range(21):
        colony.post(colony.rook, "@scout @bob again")  # until the loop guard
    colony.set_status("scout", "draining")
    colony.set_status("scout", "dead")
    ended = Counter(row.outcome for row in colony.rows(inbox, inbox.c.outcome.is_not(None)))
    assert ended.keys() == {"answered", "ignored", "dead", "by_hand", "suppressed"}
    seen = scraped(colony)
    assert {outcome: value(seen, "colony_inbox_items_total", outcome=outcome) for outcome in ended} == ended
    final = sum(count for (name, labels), count in seen.items() if name == "colony_turns_total" and ("state", "resting") not in labels)
    assert final == len(colony.turns()) == 5


@only_sqlite
def test_requests_are_counted_by_operation_and_outcome_without_their_waiting(colony: Colony) -> None:
    for _ in range(3):
        colony.post(colony.ann, "hello")
    with pytest.raises(errors.NotFound):
        colony.post(colony.ann, "hello", channel="nowhere")
    with pytest.raises(errors.Unauthenticated):
        colony.post(colony.eve, "hello")
    colony.inbox(colony.bob, wait=1.5)
    seen = scraped(colony)
    for code, count in (("ok", 3), ("not_found", 1), ("unauthenticated", 1)):
        assert value(seen, "colony_request_seconds_count", operation="post", code=code) == count
        assert value(seen, "colony_request_seconds_bucket", operation="post", code=code, le="+Inf") == count
    assert value(seen, "colony_request_seconds_sum", operation="inbox", code="ok") < 1.5
    assert value(seen, "colony_writer_batch_size_count") >= 5
    assert value(seen, "colony_writer_queue") == 0


@only_sqlite
def test_what_fails_is_not_counted_as_ended(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    colony.post(colony.ann, "@scout hello")
    turn = colony.turn(colony.scout)

    def crash(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr("server.models.user.release", crash)  # the last step of a finish
        with pytest.raises(errors.ColonyError):
            colony.finish(turn, "done")
    colony.post(colony.ann, "hello")
    assert value(scraped(colony), "colony_inbox_items_total", outcome="answered") == 0
    assert value(scraped(colony), "colony_request_seconds_count", operation="finish", code="crashed") == 1


@only_sqlite
def test_only_so_many_agents_have_series_of_their_own(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "MAX_AGENTS", 1)
    colony.post(colony.ann, "@rook first")
    colony.clock.advance(1)
    colony.post(colony.ann, "@scout second")
    seen = scraped(colony)
    assert [dict(labels)["agent"] for name, labels in seen if name == "colony_agent_inbox_waiting"] == ["rook"]
    assert (value(seen, "colony_inbox_waiting"), value(seen, "colony_agents_waiting")) == (2, 2)


def test_who_belongs_to_the_colony_may_read_them_and_nobody_else(server: Server) -> None:
    with server.client(over_socket=True) as admin, server.client(token_of("ann")) as ann, server.client("wrong") as eve:
        assert parsed(admin._http.get("/metrics").text)
        assert parsed(ann._http.get("/metrics").text)
        assert problem(eve._http.get("/metrics"))["code"] == "unauthenticated"
    with server.client() as stranger:
        assert problem(stranger._http.get("/metrics"))["code"] == "unauthenticated"


def test_waiters_and_streams_are_told(server: Server) -> None:
    with ThreadPoolExecutor(1) as pool, server.client(token_of("bob")) as bob, server.client(token_of("ann")) as ann:
        pool.submit(bob.call, operations.INBOX, schema.ReadInbox(wait=25))
        with server.client(token_of("ann")) as reader, reader._http.stream("GET", "/api/events", headers={"Accept": "*/*"}) as stream:
            next(stream.iter_raw())
            while True:
                seen = parsed(ann._http.get("/metrics").text)
                if value(seen, "colony_waiters_asleep") == 2:
                    break
            assert value(seen, "colony_streams_open") == 1
        ann.call(operations.POST, schema.PostMessage(channel="general", body="@bob go home"))


def test_a_histogram_puts_a_value_under_the_first_bound_that_is_not_below_it() -> None:
    histogram = Histogram((1, 2, 5))
    for number in (0.5, 1, 1.5, 2, 5, 6):
        histogram.observe(number)
    found = {(sample.suffix, sample.labels.get("le", "")): sample.value for sample in histogram.samples({})}
    assert found == {
        ("_bucket", "1"): 2,
        ("_bucket", "2"): 4,
        ("_bucket", "5"): 5,
        ("_bucket", "+Inf"): 6,
        ("_sum", ""): 16.0,
        ("_count", ""): 6,
    }


def test_nothing_is_lost_when_many_threads_count() -> None:
    metrics = Metrics()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: metrics.performed("post", "ok", 0.001 * (n % 5)), range(20_000)))
    (requests,) = (family for family in metrics.families() if family.name == "colony_request_seconds")
    assert [sample.value for sample in requests.samples if sample.suffix == "_count"] == [20_000]
