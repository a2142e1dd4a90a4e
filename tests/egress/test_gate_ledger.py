"""What the server comes to know of connections, also when it was away."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from colony import errors, schema
from egress.folds import BEYOND, FOLD_SECONDS, MOST_OTHERS, MOST_REFUSED
from egress.ledger import BATCH, TOLD_SECONDS, Ledger
from egress.refusals import Betrayed
from egress.visit import Visit
from server.http import MAX_REQUEST_BYTES
from tests.egress.house import Clock, Colony, until


def visit(user: str = "scout", port: int = 443, **more: Any) -> Visit:
    return Visit(user, "connect", "pypi.org", port, **more)


def test_contacts_come_in_batches_and_all_of_them_once() -> None:
    colony = Colony()
    ledger = Ledger(colony, 5000, every_seconds=0.01)  # type: ignore[arg-type]
    for number in range(1234):
        ledger.note(visit(f"user-{number % 7}"))
    ledger.start()
    until(lambda: len(colony.contacts) == 1234)
    assert max(colony.batches) == BATCH
    assert len({contact.id for contact in colony.contacts}) == 1234
    ledger.close(1)


def test_what_the_server_did_not_take_is_sent_again_in_order() -> None:
    colony = Colony()
    colony.trouble = errors.Unavailable()
    ledger = Ledger(colony, 5000, every_seconds=0.01)  # type: ignore[arg-type]
    for port in range(1, 701):
        ledger.note(visit(port=port))
    assert ledger._send() is False
    assert ledger.count == 700
    colony.trouble = None
    assert ledger._send() is True
    assert [contact.port for contact in colony.contacts] == list(range(1, 701))


def test_while_the_server_is_away_the_oldest_of_the_loudest_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    colony = Colony()
    colony.trouble = errors.Unavailable()
    ledger = Ledger(colony, 100, every_seconds=0.01)  # type: ignore[arg-type]
    for port in range(1, 11):
        ledger.note(visit("rook", port))
    for port in range(1, 901):
        ledger.note(visit("scout", port))
    assert ledger.count == 100
    colony.trouble = None
    ledger._send()
    assert Counter(contact.linux_user for contact in colony.contacts) == {"rook": 10, "scout": 90}
    assert [contact.port for contact in colony.contacts if contact.linux_user == "scout"] == list(range(811, 901))
    assert "contacts were dropped count=810" in caplog.text


def test_an_agents_noise_does_not_drive_out_what_it_has_reached() -> None:
    colony = Colony()
    colony.trouble = errors.Unavailable()
    ledger = Ledger(colony, 100, every_seconds=0.01)  # type: ignore[arg-type]
    for port in range(1, 11):
        ledger.note(visit(port=port))
    for port in range(1, 10_001):
        ledger.note(visit(port=port, verdict="denied"))
    colony.trouble = None
    ledger._send()
    assert [contact.port for contact in colony.contacts if contact.verdict == "allowed"] == list(range(1, 11))


def test_what_the_server_refuses_for_good_takes_nothing_else_with_it(caplog: pytest.LogCaptureFixture) -> None:
    class Particular(Colony):
        def call(self, operation: object, request: schema.RecordEgress) -> Any:
            if any(contact.port == 13 for contact in request.contacts):
                raise errors.Invalid("no contact")
            return super().call(operation, request)

    colony = Particular()
    ledger = Ledger(colony, 100, every_seconds=0.01)  # type: ignore[arg-type]
    for port in range(1, 51):
        ledger.note(visit(port=port))
    assert ledger._send() is True
    assert ledger.count == 0
    assert [contact.port for contact in colony.contacts] == [port for port in range(1, 51) if port != 13]
    assert "the server refuses a contact" in caplog.text


def test_the_largest_batch_fits_in_a_request() -> None:
    largest = Visit("u" * 64, "connect", "h" * 253, 65535)
    largest.ended("denied", "\u00fc" * 200)
    request = schema.RecordEgress(contacts=[largest.contact()] * BATCH)
    assert len(json.dumps(request.model_dump(mode="json"))) < MAX_REQUEST_BYTES


def test_a_bug_in_sending_ends_no_thread() -> None:
    colony = Colony()
    colony.trouble = RuntimeError("a bug")
    ledger = Ledger(colony, 100, every_seconds=0.01)  # type: ignore[arg-type]
    ledger.start()
    ledger.note(visit())
    until(lambda: ledger._trouble)
    colony.trouble = None
    until(lambda: colony.contacts)
    assert ledger.is_alive()
    ledger.close(1)


def test_closing_sends_what_is_left() -> None:
    colony = Colony()
    ledger = Ledger(colony, 100, every_seconds=3600)  # type: ignore[arg-type]
    ledger.start()
    ledger.note(visit())
    ledger.close(5)
    assert len(colony.contacts) == 1


def test_a_long_reason_is_cut_to_what_the_server_takes() -> None:
    found = visit()
    found.ended("failed", "x" * 1000)
    assert len(found.contact().reason) == 200


def test_what_goes_on_is_told_of_at_its_beginning_now_and_then_and_at_its_end() -> None:
    colony, clock = Colony(), Clock()
    ledger = Ledger(colony, 100, clock=clock)  # type: ignore[arg-type]
    long = visit()
    with ledger.noting(long):
        ledger._send()
        assert colony.contacts == [], "it has reached nothing yet"
        long.is_there = True
        ledger._send()
        long.sent = 7
        ledger._send()
        clock.now += TOLD_SECONDS
        ledger._send()
        assert [(contact.is_open, contact.sent_bytes) for contact in colony.contacts] == [(True, 0), (True, 7)]
        long.sent = 9
    ledger._send()
    assert [(contact.is_open, contact.sent_bytes) for contact in colony.contacts[2:]] == [(False, 9)]
    assert len({contact.id for contact in colony.contacts}) == 1


def test_what_is_short_is_told_of_once() -> None:
    colony = Colony()
    ledger = Ledger(colony, 100)  # type: ignore[arg-type]
    with ledger.noting(visit(is_there=True)):
        pass
    ledger._send()
    assert [contact.is_open for contact in colony.contacts] == [False]


def test_newer_words_about_what_waits_take_its_place() -> None:
    colony = Colony()
    colony.trouble = errors.Unavailable()
    ledger = Ledger(colony, 100)  # type: ignore[arg-type]
    with ledger.noting(visit(is_there=True)):
        assert not ledger._send()
    assert not ledger._send()
    assert ledger.count == 1
    colony.trouble = None
    ledger._send()
    assert [contact.is_open for contact in colony.contacts] == [False]


# What is alike


def folded(*visits: Visit, clock: Clock | None = None) -> list[schema.Contact]:
    """As the server knows them at last."""
    colony = Colony()
    ledger = Ledger(colony, 10_000, clock=clock or Clock())  # type: ignore[arg-type]
    for each in visits:
        ledger.note(each)
        ledger._send()
    return list({contact.id: contact for contact in colony.contacts}.values())


def test_refusals_that_are_alike_are_one_contact_that_counts() -> None:
    [contact] = folded(*(visit(verdict="denied", reason="no rule allows it") for _ in range(500)))
    assert (contact.times, contact.host, contact.is_open) == (500, "pypi.org", False)


@pytest.mark.parametrize("other", [{"port": 80}, {"user": "rook"}, {"reason": "other"}, {"verdict": "failed"}])
def test_what_differs_is_told_apart(other: dict[str, Any]) -> None:
    assert len(folded(visit(verdict="denied"), visit(**{"verdict": "denied", **other}))) == 2


def test_what_was_reached_is_told_one_by_one() -> None:
    assert [contact.times for contact in folded(*(visit(sent=1) for _ in range(500)))] == [1] * 500


def test_refusals_of_another_moment_are_another_contact() -> None:
    clock, colony = Clock(), Colony()
    ledger = Ledger(colony, 100, clock=clock)  # type: ignore[arg-type]
    for _ in range(3):
        ledger.note(visit(verdict="denied"))
        ledger.note(visit(verdict="denied"))
        clock.now += FOLD_SECONDS
    ledger._send()
    assert [contact.times for contact in colony.contacts] == [2, 2, 2]


def test_an_agent_that_asks_for_ever_new_hosts_fills_no_log() -> None:
    asked = [Visit("scout", "connect", f"h{number}.example", 443, verdict="denied") for number in range(3000)]
    reached = [Visit("scout", "connect", f"h{number}.example", 443, sent=2) for number in range(3000)]
    contacts = folded(*asked, *reached, visit("rook", verdict="denied"))
    refused = [contact for contact in contacts if contact.verdict == "denied" and contact.linux_user == "scout"]
    others = [contact for contact in contacts if contact.verdict == "allowed"]
    assert (len(refused), refused[-1].host, refused[-1].times) == (MOST_REFUSED + 1, "", 3000 - MOST_REFUSED)
    assert (len(others), others[-1].times, others[-1].sent_bytes) == (MOST_OTHERS + 1, 3000 - MOST_OTHERS, 2 * (3000 - MOST_OTHERS))
    assert refused[-1].reason == others[-1].reason == BEYOND
    assert [contact.times for contact in contacts if contact.linux_user == "rook"] == [1]


def test_in_another_hour_they_are_told_one_by_one_again() -> None:
    clock, colony = Clock(), Colony()
    ledger = Ledger(colony, 10_000, clock=clock)  # type: ignore[arg-type]
    for _ in range(2):
        for number in range(MOST_REFUSED + 5):
            ledger.note(Visit("scout", "connect", f"h{number}.example", 443, verdict="denied"))
        clock.now += 3600
    ledger._send()
    assert len({contact.id for contact in colony.contacts}) == 2 * (MOST_REFUSED + 1)


def test_a_betrayal_is_the_last_to_be_dropped() -> None:
    colony = Colony()
    colony.trouble = errors.Unavailable()
    ledger = Ledger(colony, 100, every_seconds=0.01)  # type: ignore[arg-type]
    betrayal = visit(port=1)
    betrayal.refused(Betrayed())
    ledger.note(betrayal)
    for port in range(2, 200):
        refused = visit(port=port)
        refused.ended("denied", "no rule allows it")
        ledger.note(refused)
    colony.trouble = None
    ledger._send()
    assert [contact.port for contact in colony.contacts if contact.holds_honeytoken] == [1]


def test_what_the_server_can_not_take_for_any_reason_holds_up_nothing() -> None:
    colony = Colony()
    ledger = Ledger(colony, 100, every_seconds=0.01)  # type: ignore[arg-type]
    taken = colony.call

    def call(operation: object, request: Any) -> Any:
        if any(contact.port == 7 for contact in request.contacts):
            raise errors.NotFound("no agent has that Linux user")
        return taken(operation, request)

    colony.call = call  # type: ignore[method-assign]
    for port in range(1, 11):
        ledger.note(visit(port=port))
    assert ledger._send() is True
    assert sorted(contact.port for contact in colony.contacts) == [port for port in range(1, 11) if port != 7]
