"""What an answer of the model has used is read while it passes by, however it is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from egress.answer import Answer
from egress.prices import Tokens
from tests.egress.test_gate_metering import ENDS, STARTS, TOKENS, delta, event


def test_a_stream_tells_its_use_however_it_is_cut() -> None:
    text = b"".join([STARTS, delta('"message_delta" {"output_tokens": 9}'), delta("x" * 500), ENDS])
    for size in (1, 7, 64, len(text)):
        answer = Answer(is_streamed=True)
        for start in range(0, len(text), size):
            answer.hear(text[start : start + size])
        answer.end()
        assert answer.tokens == TOKENS


def test_until_a_stream_tells_its_output_it_is_not_known() -> None:
    answer = Answer(is_streamed=True)
    early = event(type="message_delta", delta={"stop_reason": None}, usage={"output_tokens": 5})
    answer.hear(STARTS + delta("x" * 3000) + early + ENDS[:40])
    answer.end()
    assert (answer.tokens, answer.is_told) == (Tokens(**{**vars(TOKENS), "output": 0}), False)


def test_a_stream_that_the_api_gives_up_has_used_what_came() -> None:
    answer = Answer(is_streamed=True)
    answer.hear(STARTS + delta('"error"' + "x" * 3000))
    assert not answer.is_told
    answer.hear(event(type="error", error={"type": "overloaded_error", "message": "Overloaded"}))
    assert answer.tokens
    assert (answer.is_told, answer.tokens.input, 1000 < answer.tokens.output < 1200) == (True, 1000, True)


@pytest.mark.parametrize("text", [b"", b"x", b"[]", *(b'{"usage": %s}' % usage for usage in (b"5", b'{"input_tokens": -5}'))])
def test_odd_answers_tell_nothing_wrong(text: bytes) -> None:
    answer = Answer(is_streamed=False)
    answer.hear(text)
    answer.end()
    assert answer.tokens in (None, Tokens())


# As the API's page on compaction has it: the usage at the top leaves out what the summary took.
ITERATIONS = [
    {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500, "cache_read_input_tokens": 7},
    {"type": "message", "input_tokens": 23_000, "output_tokens": 1000},
]


@pytest.mark.parametrize("is_streamed", [True, False])
def test_what_a_compaction_takes_is_counted(is_streamed: bool) -> None:
    usage: dict[str, Any] = {"input_tokens": 23_000, "output_tokens": 1000, "server_tool_use": {"web_search_requests": 2}}
    usage["iterations"] = ITERATIONS
    answer = Answer(is_streamed=is_streamed)
    answer.hear(
        event(type="message_delta", delta={"stop_reason": "end_turn"}, usage=usage)
        if is_streamed
        else json.dumps({"usage": usage}).encode()
    )
    answer.end()
    assert answer.tokens == Tokens(input=203_000, output=4500, cache_read=7, web_searches=2)


@pytest.mark.parametrize("iterations", [[], None, 5, [None, 5], [{"input_tokens": 1}]])
def test_odd_iterations_take_nothing_away(iterations: Any) -> None:
    answer = Answer(is_streamed=False)
    answer.hear(json.dumps({"usage": {"input_tokens": 23_000, "output_tokens": 1000, "iterations": iterations}}).encode())
    answer.end()
    assert answer.tokens == Tokens(input=23_000, output=1000)
