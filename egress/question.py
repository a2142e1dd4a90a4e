"""What an agent asks of the model: read whole, so that it can be judged and priced, and written anew, so that it says one thing only."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic_core import from_json, to_json

from colony import egress
from egress.refusals import Malformed, TooLarge, Unasked

MAX_BYTES = 32 * 2**20  # the API takes no more itself
MAX_PARTS = 500_000  # values, roughly: what they take in memory is many times what they take in a text
DEEPEST = 100  # content within content
MAX_BOUNDS = 1000  # bytes of those: they are written at each look
MAX_HOSTS = 256  # that it would have looked at, each of which is judged
WEB = 443
# What the price of a question, and what its API would look up for it, is known of. All else has to be allowed in the gate's settings: of
# what was new in 2026, one field asks another model as well, one has the API remember, and one brings back what it remembers.
FIELDS = frozenset(
    (
        *("model", "messages", "max_tokens", "system", "tools", "tool_choice", "thinking", "stream", "metadata", "output_config"),
        *("temperature", "top_p", "top_k", "stop_sequences", "output_format", "cache_control", "service_tier", "speed"),
        *("context_management", "mcp_servers", "container"),
    )
)
# Tools that Claude Code, or whoever asks, carries out itself, and two that only look for tools. All others are the API's own.
LOCAL_TOOLS = re.compile(r"custom|(?:bash|text_editor|computer|memory|tool_search_tool_(?:regex|bm25))(?:_[0-9]{8})?")
# Blocks that hold all that they are, or what is looked into here; any other might have something looked up.
BLOCKS = re.compile(
    r"text|image|document|search_result|thinking|redacted_thinking|compaction|fallback|connector_text|mid_conv_system"
    r"|tool_use|tool_result|tool_reference|tool_addition|tool_removal|server_tool_use|mcp_tool_use|mcp_tool_listing"
    r"|[a-z_]+_(?:result|result_error|output)"
)
KEPT = ("file_id", "file_ids", "files", "container", "container_id", "tool_changes")  # what the API has, or reads in ways not known here
DATA = ("base64", "text")  # sources that hold what they are
FORGETTING = "clear_"  # edits of the context that ask no model
BOUNDS = ("max_tokens", "thinking")
BYTES_PER_TOKEN = 3  # fewer than a text has, so that an estimate is rather too high
CACHED, HOUR = b'"cache_control":{', b'"ttl":"1h"'  # as they are written anew; within a text their quotes would have a backslash


@dataclass(frozen=True)
class Question:
    """`rest` is what is asked beside `bounds`, without its first brace.

    `hosts` is where the API itself would look things up for it; `*`: wherever it likes. `tokens_in` is an estimate, and `counts_as` what
    the dearest of them may be paid as.
    """

    bounds: Mapping[str, Any]  # max_tokens and thinking, where they are said
    rest: bytes
    model: str
    is_fast: bool
    hosts: tuple[tuple[str, int], ...]
    tokens_in: int
    counts_as: Literal["input", "cache_write", "cache_write_hour"]

    @property
    def content(self) -> tuple[bytes, bytes]:
        """What goes out, one after the other: joined, it would be in memory twice."""
        return _written(self.bounds)[:-1] + b"," if self.bounds else b"{", self.rest

    @property
    def max_tokens(self) -> int:
        """Of its answer and of all that is thought for it, whether that is shown or not."""
        return int(self.bounds["max_tokens"])

    def lowered(self, max_tokens: int) -> Question:
        """The same for fewer tokens, 2048 or more: half of them are for thinking, if that would have more than all."""
        bounds = {**self.bounds, "max_tokens": max_tokens}
        thinking = bounds.get("thinking")
        if isinstance(thinking, dict) and isinstance(most := thinking.get("budget_tokens"), int) and most >= max_tokens:
            # A power of two, since each change of it makes the API's cache of what was said before worthless.
            bounds["thinking"] = {**thinking, "budget_tokens": 1 << (max_tokens // 2).bit_length() - 1}
        return replace(self, bounds=bounds)


def parsed(body: bytes | bytearray, *, is_counted: bool = False, fields: Collection[str] = ()) -> Question:
    """Raises `Malformed`, `TooLarge`, and `Unasked` for an address that is none. Takes a while for much: not for the event loop.

    What is only to be counted need not say `max_tokens`. `fields` may be said beside those that are known.
    """
    if len(body) > MAX_BYTES:
        raise TooLarge(f"the question to the model is larger than {MAX_BYTES} bytes")
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_PARTS:
        raise TooLarge(f"the question to the model has more than {MAX_PARTS} parts")
    try:
        said = from_json(body, allow_inf_nan=False)
        bounds = {name: said.pop(name) for name in BOUNDS if name in said} if isinstance(said, dict) else {}
        if len(_written(bounds)) > MAX_BOUNDS:
            raise TooLarge(f"max_tokens and thinking of the question to the model are more than {MAX_BOUNDS} bytes")
        rest = _written(said)[1:]
    except (ValueError, RecursionError) as error:
        raise Malformed("the question to the model is no JSON") from error
    if not isinstance(said, dict):
        raise Malformed("the question to the model must be an object")
    model, max_tokens = said.get("model"), bounds.get("max_tokens", 0 if is_counted else None)
    if not isinstance(model, str) or not 0 < len(model) <= 200:
        raise Malformed("the question to the model must name a model")
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or not 0 <= max_tokens <= 10**7:
        raise Malformed("the question to the model must say max_tokens, a whole number")
    _require_known(said, fields)
    _require_plain_context(said)
    hosts = tuple(dict.fromkeys(_hosts(said)))
    if len(hosts) > MAX_HOSTS:
        raise TooLarge(f"the question to the model would have more than {MAX_HOSTS} hosts looked at")
    is_fast = said.get("speed") not in (None, "standard")
    counts_as: Literal["input", "cache_write", "cache_write_hour"] = "input"
    if CACHED in rest:
        counts_as = "cache_write_hour" if HOUR in rest else "cache_write"
    return Question(bounds, rest, model, is_fast, hosts, _tokens(rest), counts_as)


def _tokens(rest: bytes) -> int:
    """An estimate: a letter that has more bytes than one is rarer, and more tokens."""
    return (2 * len(rest) - len(rest.decode())) // BYTES_PER_TOKEN


def _require_known(said: Mapping[str, Any], fields: Collection[str]) -> None:
    for name in said:
        if name not in FIELDS and name not in fields:
            raise Unasked(f"the gate does not know what {name[:100]!r} asks of the model; model_fields in its settings may allow it")


def _require_plain_context(said: Mapping[str, Any]) -> None:
    """Raises `Unasked` where the API would ask the model more than once, as it does to sum up what was said before."""
    management = said.get("context_management")
    for edit in _listed(management.get("edits") if isinstance(management, dict) else management):
        kind = edit.get("type") if isinstance(edit, dict) else edit
        if not isinstance(kind, str) or not kind.startswith(FORGETTING):
            raise Unasked(f"the model can't be asked to change its context by {str(kind)[:100]!r}; edits whose type begins with clear_ can")


def _written(said: Any) -> bytes:
    return to_json(said, inf_nan_mode="null")


def _hosts(said: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for part in (said.get("messages"), said.get("system")):
        yield from _of_content(part, DEEPEST)
    for server in _listed(said.get("mcp_servers")):
        yield _address(server.get("url") if isinstance(server, dict) else None)
    yield from _of_tools(said.get("tools"))
    if said.get("container") is not None:
        yield "*", WEB


def _of_content(content: Any, depth: int) -> Iterator[tuple[str, int]]:
    """Of a message, a block, or a list of them. What a tool is called with, and what its parameters are, is no content."""
    if depth < 0:
        raise Malformed("the question to the model is too deep")
    for block in _listed(content):
        if not isinstance(block, dict):
            continue
        if any(block.get(name) is not None for name in KEPT) or ("type" in block and not BLOCKS.fullmatch(str(block["type"]))):
            yield "*", WEB
        if "tool" in block:
            yield from _of_change(block["tool"])
        source = block.get("source")
        if isinstance(source, dict):
            if source.get("type") == "url" or "url" in source:
                yield _address(source.get("url"))
            elif source.get("type") == "content":
                yield from _of_content(source.get("content"), depth - 1)
            elif source.get("type") not in DATA:
                yield "*", WEB
        yield from _of_content(block.get("content"), depth - 1)


def _of_change(tool: Any) -> Iterator[tuple[str, int]]:
    """Of a tool that is there from this message on, or no longer."""
    match tool:
        case {"type": "tool_reference"}:
            return
        case {"type": "tool_definition", "definition": definition}:
            yield from _of_tools([definition])
        case _:
            yield "*", WEB


def _of_tools(tools: Any) -> Iterator[tuple[str, int]]:
    for tool in _listed(tools):
        kind = tool.get("type", "custom") if isinstance(tool, dict) else None
        if isinstance(tool, dict) and tool.get("model") is not None:
            raise Unasked("the model can't be asked to ask another one, whose price is not known here")
        if not isinstance(kind, str) or not LOCAL_TOOLS.fullmatch(kind):
            yield "*", WEB


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [] if found is None or isinstance(found, str) else [found]


def _address(url: Any) -> tuple[str, int]:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or len(host) > egress.MAX_HOST or parts.scheme not in ("https", "http"):
        raise Unasked(f"the model can't be asked to look at {str(url)[:100]!r}")
    return host, port or (WEB if parts.scheme == "https" else 80)
