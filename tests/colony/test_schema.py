"""The wire: what it takes and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from colony import schema

GOOD_NAMES = ["a", "ann", "scout-2", "a_b", "a_", "x" * 31, "a--b"]
BAD_NAMES = ["", "A", "Ann", "1a", "-a", "_a", "a b", "a.b", "a\n", "\na", "x" * 32, "ä", "а", "a\0", "a/b", "@ann", "a\u200b"]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_this_is_a_username(name: str) -> None:
    assert schema.CreateUser(username=name, kind="ape").username == name


@pytest.mark.parametrize("name", BAD_NAMES)
def test_this_is_no_username_no_channel_and_no_word(name: str) -> None:
    with pytest.raises(ValidationError):
        schema.IssueToken(username=name)
    with pytest.raises(ValidationError):
        schema.SetStatus(agent=name, status="paused")
    with pytest.raises(ValidationError):
        schema.PostMessage(channel="general", body="x", type=name)
    if name not in ("1a", "x" * 32):
        with pytest.raises(ValidationError):
            schema.CreateChannel(name=name)


@pytest.mark.parametrize("name", ["scout-", "a-", "a--", "x" * 30 + "-"])
def test_a_username_does_not_end_in_a_dash(name: str) -> None:
    """Else "@scout-" would leave open whether the dash belongs to the sentence."""
    with pytest.raises(ValidationError):
        schema.CreateUser(username=name, kind="ape")


@pytest.mark.parametrize("name", ["1a", "x" * 64, "2026-01"])
def test_a_channel_may_begin_with_a_digit_and_be_longer(name: str) -> None:
    assert schema.CreateChannel(name=name).name == name


@pytest.mark.parametrize("text", ["a\0b", "\0", "\ud800", "a\udfffb"])
def test_what_a_database_cannot_hold_is_refused_in_every_text(text: str) -> None:
    for model, fields in (
        (schema.PostMessage, {"channel": "general", "body": text}),
        (schema.PostMessage, {"channel": "general", "body": "x", "client_id": text}),
        (schema.CreateChannel, {"name": "x", "topic": text}),
        (schema.SetStatus, {"agent": "x", "status": "paused", "note": text}),
        (schema.FailTurn, {"id": 1, "code": "crashed", "detail": text}),
        (schema.FinishTurn, {"id": 1, "reply": text}),
        (schema.FinishTurn, {"id": 1, "session_id": text}),
    ):
        with pytest.raises(ValidationError) as refused:
            model(**fields)
        assert refused.value.errors()[0]["loc"], "the field is named"


@given(st.text(max_size=200))
def test_any_other_text_is_kept_as_it_is(text: str) -> None:
    if text and "\0" not in text:
        assert schema.PostMessage(channel="general", body=text).body == text


@pytest.mark.parametrize(("fill", "fits"), [("x" * 65_536, True), ("x" * 65_537, False), ("é" * 32_768, True), ("é" * 32_769, False)])
def test_a_body_is_measured_in_bytes(fill: str, fits: bool) -> None:
    if fits:
        assert schema.PostMessage(channel="general", body=fill).body == fill
    else:
        with pytest.raises(ValidationError, match=r"65536|65_536"):
            schema.PostMessage(channel="general", body=fill)


@pytest.mark.parametrize("value", [-0.1, 25.1, float("nan"), float("inf"), "soon", None])
def test_a_wait_has_bounds(value: object) -> None:
    with pytest.raises(ValidationError):
        schema.ReadInbox.model_validate({"wait": value})
    assert TypeAdapter(schema.Wait).validate_python(schema.MAX_WAIT_SECONDS) == 25


def test_a_heartbeat_may_wait_longer_than_what_proxies_may_see() -> None:
    assert schema.Heartbeat(agent="scout", wait=40).wait == schema.MAX_HEARTBEAT_SECONDS
    with pytest.raises(ValidationError):
        schema.Heartbeat(agent="scout", wait=40.1)


@pytest.mark.parametrize("value", [0, -1, 2**63, 1.5, "x", True])
def test_an_id_is_a_number_that_both_databases_hold(value: object) -> None:
    with pytest.raises(ValidationError):
        schema.GetTurn.model_validate({"id": value}, strict=True)
    assert schema.GetTurn(id=2**63 - 1).id == 2**63 - 1


def test_requests_refuse_and_responses_ignore_what_they_do_not_know() -> None:
    with pytest.raises(ValidationError):
        schema.Whoami.model_validate({"colour": "red"})
    assert schema.Token.model_validate({"username": "ann", "token": "t", "colour": "red"}).username == "ann"


def test_requests_cannot_be_changed() -> None:
    request = schema.IssueToken(username="ann")
    with pytest.raises(ValidationError):
        request.username = "bob"


@pytest.mark.parametrize("tools", [{"x" * 65: 1}, {"": 1}, {"a\0b": 1}, {"Bash": -1}, {f"tool-{n}": 1 for n in range(51)}])
def test_a_report_of_tools_is_bounded(tools: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        schema.Usage(tools=tools)
    assert schema.Usage(tools={f"tool-{n}" + "x" * 50: 10**15 for n in range(50)}).tools
