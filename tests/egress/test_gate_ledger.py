"""What the server comes to know of connections, also when it was away."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from colony import errors, schema
from egress.ledger import BATCH, Ledger, Visit
from server.http import MAX_REQUEST_BYTES
from tests.egress.house import Colony, until


def visit(user: str = "scout", port: int = 443) -> Visit:
    return Visit(user, "connect", "pypi.org", port)


def test_contacts_come_in_batches_and_all_of_them_once() -> None:
    colony = Colony()
    ledger = Ledger(colony, 5000, every_seconds=0.01)  # type: ignore[arg-type]
    for _ in range(1234):
        ledger.note(visit())
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
    for port in range(1, 10_001):
        ledger.note(visit("scout", port))
    assert ledger.count == 100
    colony.trouble = None
    ledger._send()
    assert Counter(contact.linux_user for contact in colony.contacts) == {"rook": 10, "scout": 90}
    assert [contact.port for contact in colony.contacts if contact.linux_user == "scout"] == list(range(9911, 10_001))
    assert "contacts were dropped count=9910" in caplog.text


def test_what_the_server_refuses_for_good_takes_nothing_else_with_it(caplog: pytest.LogCaptureFixture) -> None:
    class Particular(Colony):
        def call(self, operation: object, request: schema.RecordEgress) -> schema.EgressRecorded:
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
