"""What is asked of the model says one thing only, and what the API would look up for it is known."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import question
from egress.question import parsed
from egress.refusals import Malformed, Refusal, TooLarge, Unasked

EVERYTHING = ("*", 443)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def body(**more: Any) -> bytes:
    return json.dumps({"model": "claude-test", "max_tokens": 10, "messages": [], **more}).encode()


def asked(*blocks: Any, **more: Any) -> question.Question:
    return parsed(body(messages=[{"role": "user", "content": list(blocks)}], **more))


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_what_goes_out_says_the_same(more: dict[str, Any]) -> None:
    for name in ("model", "max_tokens", "messages", "tools", "system", "mcp_servers", "container"):
        more.pop(name, None)
    said = body(**more)
    try:
        found = parsed(said, fields=more)
    except Malformed:  # a lone surrogate
        assert any("\ud800" <= character <= "\udfff" for character in json.dumps(more, ensure_ascii=False))
        return
    assert json.loads(b"".join(found.content)) == json.loads(said)


@pytest.mark.parametrize(
    ("thinking", "left"),
    [
        ({"type": "adaptive", "display": "omitted"}, {"type": "adaptive", "display": "omitted"}),
        ({"type": "enabled", "budget_tokens": 2000}, {"type": "enabled", "budget_tokens": 2000}),
        ({"type": "enabled", "budget_tokens": 31_999}, {"type": "enabled", "budget_tokens": 1024}),
        (None, None),
    ],
)
def test_a_question_for_fewer_tokens_leaves_some_of_them_for_the_answer(thinking: Any, left: Any) -> None:
    found = parsed(body(max_tokens=32_000, thinking=thinking)).lowered(2048)
    assert json.loads(b"".join(found.content)) == json.loads(body(max_tokens=2048, thinking=left))
    assert found.max_tokens == 2048


def test_of_a_name_that_comes_twice_one_is_left() -> None:
    twice = b'{"model":"a","max_tokens":1,"mcp_servers":[],"mcp_servers":[{"url":"https://evil.example/x"}],"model":"b"}'
    found = parsed(twice)
    assert found.rest.count(b"mcp_servers") == found.rest.count(b"model") == 1
    assert (json.loads(b"".join(found.content))["model"], found.model) == ("b", "b")
    assert found.hosts == (("evil.example", 443),)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[]", b"5", b"null", b'"x"', b"\xff", b'{"model":1,"max_tokens":1}', b'{"model":"","max_tokens":1}'),
        *(b'{"model":"m"}', b'{"model":"m","max_tokens":"9"}', b'{"model":"m","max_tokens":true}', b'{"model":"m","max_tokens":-1}'),
        *(b'{"model":"m","max_tokens":1.5}', b'{"model":"m","max_tokens":1e9999}', b'{"model":"m","max_tokens":NaN}'),
        *(b'{"model":"m","max_tokens":1} x', b'{"model":"m","max_tokens":1,"messages":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        b'{"model":"m","max_tokens":1,"x":"\\ud800"}',
        b'{"model":"m","max_tokens":1,"x":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_question_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed):
        parsed(text)


def test_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge, match="larger than"):
        parsed(b"x" * (question.MAX_BYTES + 1))
    with pytest.raises(TooLarge, match="parts"):
        parsed(b'{"model":"m","max_tokens":1,"x":[' + b"[]," * question.MAX_PARTS + b"0]}")


@pytest.mark.parametrize(
    ("control", "counts_as"),
    [
        (None, "input"),
        ({"type": "ephemeral"}, "cache_write"),
        ({"type": "ephemeral", "ttl": "5m"}, "cache_write"),
        ({"type": "ephemeral", "ttl": "1h"}, "cache_write_hour"),
    ],
)
def test_what_may_go_to_a_cache_is_estimated_as_if_it_did(control: Any, counts_as: str) -> None:
    mentions = {"type": "text", "text": '"cache_control":{"ttl":"1h"}'}
    block = mentions | {"cache_control": control}
    assert asked(mentions).counts_as == "input"
    assert asked(block).counts_as == counts_as
    assert asked(tools=[{"name": "x", "cache_control": control}]).counts_as == counts_as
    assert parsed(body(cache_control=control)).counts_as == counts_as


def test_letters_of_several_bytes_are_estimated_as_more_tokens() -> None:
    plain, wide = (asked(letter * 3000).tokens_in for letter in ("a", "漢"))
    assert (plain // 1000, wide // 1000) == (1, 5)


def test_what_is_written_at_each_look_is_small() -> None:
    with pytest.raises(TooLarge, match="thinking"):
        parsed(body(thinking={"type": "x" * question.MAX_BOUNDS}))


def test_what_holds_all_that_it_is_reaches_nowhere() -> None:
    found = asked(
        "hi",
        {"type": "text", "text": "https://evil.example"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}},
        {"type": "document", "source": {"type": "text", "data": "x"}},
        {"type": "tool_use", "id": "1", "name": "Fetch", "input": {"type": "url", "url": "https://evil.example", "source": {"url": "x"}}},
        {"type": "tool_result", "tool_use_id": "1", "content": "https://evil.example"},
        system=[{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}],
        tools=[
            {"name": "Fetch", "input_schema": {"type": "object", "properties": {"source": {"type": "url", "url": {"type": "string"}}}}},
            {"type": "custom", "name": "Other", "input_schema": {}},
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        ],
    )
    assert (found.hosts, found.is_fast) == ((), False)


WEB_FETCH = {"type": "web_fetch_20250910", "name": "web_fetch"}


def addition(tool: Any) -> dict[str, Any]:
    """A tool that is there from this message on."""
    return {"type": "tool_addition", "tool": tool}


def defined(tool: Any) -> dict[str, Any]:
    return {"type": "tool_definition", "definition": tool}


def test_a_tool_that_comes_later_is_judged_like_the_first_ones() -> None:
    blocks = [
        addition(defined({"name": "Mine", "input_schema": {}})),
        addition({"type": "tool_reference", "name": "Mine"}),
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "Mine"}},
    ]
    assert asked(*blocks).hosts == ()
    assert asked(*blocks, addition(defined(WEB_FETCH))).hosts == (EVERYTHING,)


IMAGE = {"type": "image", "source": {"type": "url", "url": "https://Evil.example:8443/a.png"}}


@pytest.mark.parametrize(
    "blocks",
    [
        [IMAGE],
        [{"type": "document", "source": IMAGE["source"]}],
        [{"type": "tool_result", "tool_use_id": "1", "content": [IMAGE]}],
        [{"type": "document", "source": {"type": "content", "content": [IMAGE]}}],
        [{"type": "document", "source": {"type": "link", "url": "https://evil.example:8443"}}],
        [{"type": "web_fetch_result", "content": {"content": [IMAGE]}}],
    ],
)
def test_where_a_picture_or_a_document_would_be_fetched_is_known(blocks: list[Any]) -> None:
    assert asked(*blocks).hosts == (("evil.example", 8443),)
    assert parsed(body(system=blocks)).hosts == (("evil.example", 8443),)


def test_no_question_names_more_hosts_than_are_soon_judged() -> None:
    def pictures(count: int) -> list[Any]:
        return [{"type": "image", "source": {"type": "url", "url": f"https://{number}.example"}} for number in range(count)]

    assert len(asked(*pictures(question.MAX_HOSTS)).hosts) == question.MAX_HOSTS
    with pytest.raises(TooLarge, match="hosts"):
        asked(*pictures(question.MAX_HOSTS + 1))


def test_where_tools_of_the_api_would_be_called_is_known() -> None:
    servers = [{"type": "url", "name": "x", "url": "https://evil.example/sse"}, {"type": "url", "url": "http://other.example/"}]
    assert asked(mcp_servers=servers).hosts == (("evil.example", 443), ("other.example", 80))


@pytest.mark.parametrize(
    "more",
    [
        *({"tools": [{"type": kind, "name": "x"}]} for kind in ("web_search_20250305", "web_fetch_20250910", "code_execution_20250825")),
        *({"tools": [{"type": kind, "name": "x"}]} for kind in ("", "of_the_future_1", "mcp_toolset", 5, None)),
        *({"tools": ["web_search"]}, {"tools": {"type": "web_search_1"}}, {"container": "c_1"}, {"container": {"id": "c_1"}}),
        {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "file_1"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "file_1"}}]}]},
        {"messages": {"role": "user", "content": {"type": "document", "source": {"type": "of the future"}}}},
        *({"tools": [{"type": kind, "name": "x"}]} for kind in ("bash_code_execution_20250825", "tool_search_tool_web_20270101")),
        *({"messages": [{"role": "user", "content": [{"type": kind}]}]} for kind in ("of_the_future", "", None, ["text"], "text ")),
        *(
            {"messages": [{"role": "user", "content": [{"type": "text", name: ["file_1"]}]}]}
            for name in ("file_ids", "files", "container", "container_id", "tool_changes")
        ),
        {"messages": [{"role": "system", "content": [], "tool_changes": []}]},
        *({"messages": [{"role": "system", "content": [addition(tool)]}]} for tool in (None, "web_fetch", {}, {"type": "of the future"})),
        *({"messages": [{"role": "system", "content": [addition(defined(tool))]}]} for tool in (WEB_FETCH, None, [WEB_FETCH])),
    ],
)
def test_what_the_api_would_do_wherever_it_likes_is_known(more: dict[str, Any]) -> None:
    assert parsed(body(**more)).hosts == (EVERYTHING,)


@pytest.mark.parametrize(
    "url",
    [f"https://{'x' * 300}", "", None, 5, "evil.example", "//evil.example", "file:///etc/passwd", "https://", "https://x:99999/", ["x"]],
)
def test_an_address_that_is_none_is_refused(url: Any) -> None:
    with pytest.raises(Unasked):
        asked({"type": "image", "source": {"type": "url", "url": url}})


@pytest.mark.parametrize("type", ["compact_20260112", "of_the_future", "", 5, None])
def test_the_model_is_not_asked_to_sum_up_what_was_said_before(type: Any) -> None:
    forgets = {"type": "clear_thinking_20251015", "keep": "all"}
    parsed(body(context_management={"edits": [forgets]}))
    for edits in ([forgets, {"type": type}], {"type": type}, [type]):
        with pytest.raises(Unasked, match="change its context"):
            parsed(body(context_management={"edits": edits}))


@pytest.mark.parametrize(
    "name", ["fallbacks", "compaction", "thread", "inference_geo", "diagnostics", "user_profile_id", "resumption", "Model", "messages ", ""]
)
def test_what_is_not_known_to_cost_nothing_is_not_asked(name: str) -> None:
    with pytest.raises(Unasked, match="model_fields"):
        parsed(body(**{name: None}))
    assert json.loads(b"".join(parsed(body(**{name: "x"}), fields=[name]).content))[name] == "x"


@pytest.mark.parametrize(
    "tool", [ADVISOR := {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5"}, addition(defined(ADVISOR))]
)
def test_the_model_asks_no_other_one(tool: dict[str, Any]) -> None:
    with pytest.raises(Unasked, match="another one"):
        asked(*([tool] if "tool" in tool else []), tools=[tool])


@pytest.mark.parametrize(("speed", "is_fast"), [(None, False), ("standard", False), ("fast", True), ("faster", True), (5, True)])
def test_a_speed_that_is_not_known_costs_as_much_as_the_fastest(speed: Any, is_fast: bool) -> None:
    assert parsed(body(speed=speed)).is_fast is is_fast


@given(JSON, JSON, JSON)
def test_whatever_is_asked_is_read_or_refused(messages: Any, tools: Any, servers: Any) -> None:
    try:
        found = parsed(body(messages=messages, tools=tools, mcp_servers=servers))
    except Refusal:
        return
    assert found.model == "claude-test"
