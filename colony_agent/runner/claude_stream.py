"""What the Claude Code CLI says on its stdout (`--output-format stream-json`), and what it means. Pure: nothing runs here."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from colony import errors, schema
from colony.failures import CRASHED, CREDENTIALS_REJECTED, OVER_BUDGET, OVERLOADED, PROMPT_TOO_LONG, RATE_LIMITED, UNREACHABLE, Failure
from colony_agent.runner.reply import storable

MAX_PROGRESS_LENGTH = 100
TELLING_INPUTS = ("command", "file_path", "path", "pattern", "url", "query", "channel", "skill", "description")
BY_STATUS = {
    401: CREDENTIALS_REJECTED,
    402: CREDENTIALS_REJECTED,  # the API's own: whoever pays for the key can't
    403: CREDENTIALS_REJECTED,
    408: UNREACHABLE,
    413: PROMPT_TOO_LONG,
    429: RATE_LIMITED,
    500: CRASHED,  # counted: a prompt that breaks the API must not hold the agent for ever
    502: OVERLOADED,
    503: OVERLOADED,
    504: OVERLOADED,
    529: OVERLOADED,
}
BUDGET_SPENT = f"({errors.BudgetSpent.code})"  # how the gate ends what it says in the place of the API
BY_ERROR = {  # what the CLI calls an error that has no status
    "authentication_failed": CREDENTIALS_REJECTED,
    "oauth_org_not_allowed": CREDENTIALS_REJECTED,
    "billing_error": CREDENTIALS_REJECTED,
    "rate_limit": RATE_LIMITED,
    "overloaded": OVERLOADED,
}


class _Tokens(BaseModel):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int | None = 0
    cache_read_input_tokens: int | None = 0

    @property
    def all_in(self) -> int:
        return self.input_tokens + (self.cache_creation_input_tokens or 0) + (self.cache_read_input_tokens or 0)


class _Block(BaseModel):
    type: str
    name: str = ""
    input: dict[str, Any] = {}


class _Message(BaseModel):
    id: str = ""
    content: list[_Block] | str = []
    usage: _Tokens = _Tokens()

    @property
    def blocks(self) -> list[_Block]:
        return [] if isinstance(self.content, str) else self.content


class _Server(BaseModel):
    name: str
    status: str


class _RateLimit(BaseModel):
    status: str = ""
    resetsAt: float | None = None  # epoch seconds


class Event(BaseModel):
    """One line; which fields it has depends on its type."""

    type: str
    subtype: str = ""
    session_id: str = ""
    mcp_servers: list[_Server] = []  # system init
    retry_delay_ms: float = 0  # system api_retry: before it asks again
    error_status: int | None = None
    rate_limit_info: _RateLimit | None = None  # rate_limit_event
    message: _Message | None = None  # assistant
    error: str | None = None
    is_error: bool = False  # result, as all below
    terminal_reason: str | None = None
    api_error_status: int | None = None
    result: str = ""
    errors: list[str] = []
    usage: _Tokens = _Tokens()
    total_cost_usd: float = 0.0


def parse(line: bytes) -> Event | None:
    """The event of a line, or None for what is none."""
    try:
        return Event.model_validate_json(line)
    except ValidationError:
        return None


@dataclass
class Stream:
    """What one run of the CLI has said so far."""

    prompt_characters: int = 0
    init: Event | None = None
    result: Event | None = None
    tools: Counter[str] = field(default_factory=Counter)  # how often it has used each
    resets_at: float | None = None  # epoch seconds
    error: str | None = None  # of the API, in the CLI's words
    _is_refused: bool = False  # the API has taken no request yet
    _tokens: dict[str, _Tokens] = field(default_factory=dict)  # by message: each of its blocks repeats them

    def add(self, event: Event) -> None:
        match event.type, event.subtype:
            case "system", "init":
                self.init = event
            case "system", "api_retry":
                self._is_refused = True
            case "rate_limit_event", _:
                if event.rate_limit_info and event.rate_limit_info.status == "rejected":
                    self.resets_at = event.rate_limit_info.resetsAt
            case "assistant", _:
                self.error = event.error
                if event.message:
                    self.tools.update(tool_name(block.name) for block in event.message.blocks if block.type == "tool_use")
                    self._tokens[event.message.id] = event.message.usage
            case "result", _:
                self.result = event

    def status_of(self, server: str) -> str:
        """How a tool server came up, as the CLI says; "missing" when it says nothing."""
        servers = self.init.mcp_servers if self.init else []
        return next((found.status for found in servers if found.name == server), "missing")

    def usage(self, cost_before_usd: float) -> schema.Usage:
        """This run's share. The CLI's cost counts the whole session, unless that starts anew; a run cut short tells only tokens."""
        told: dict[str, Any] = {"prompt_characters": self.prompt_characters, "tools": dict(self.tools.most_common(schema.MAX_TOOLS))}
        if not self.result:
            is_free = not self.init or (self._is_refused and not self._tokens)
            return schema.Usage(
                cost_usd=0.0 if is_free else None,
                tokens_in=sum(tokens.all_in for tokens in self._tokens.values()),
                tokens_out=sum(tokens.output_tokens for tokens in self._tokens.values()),
                **told,
            )
        total = max(self.result.total_cost_usd, 0.0)
        cost = total - cost_before_usd if total >= cost_before_usd else total
        return schema.Usage(tokens_in=self.result.usage.all_in, tokens_out=self.result.usage.output_tokens, cost_usd=cost, **told)

    def failure(self) -> Failure:
        """The kind of trouble that the result tells of."""
        assert self.result
        if self.result.terminal_reason == "prompt_too_long":
            return PROMPT_TOO_LONG
        if self.result.subtype == "error_max_budget_usd":
            return OVER_BUDGET
        if self.result.api_error_status == errors.BudgetSpent.status and BUDGET_SPENT in self.result.result:
            return OVER_BUDGET
        if self.result.api_error_status:
            return BY_STATUS.get(self.result.api_error_status, BY_ERROR.get(self.error or "", CRASHED))
        if self.result.terminal_reason == "api_error":
            return BY_ERROR.get(self.error or "", UNREACHABLE)
        return CRASHED

    def resets_in_seconds(self, now: float) -> int | None:
        """When a used-up allowance is renewed, if the API said so."""
        return None if self.resets_at is None else max(1, math.ceil(self.resets_at - now))


def tool_name(name: str) -> str:
    """As people know it, and as the colony can keep it: the model chooses it."""
    return storable(name.removeprefix("mcp__colony__"))[: schema.MAX_TOOL_NAME] or "?"


def progress(event: Event) -> list[str]:
    """What an event says about the work, a short line for each tool that is used."""
    if event.type == "system" and event.subtype == "api_retry":
        return [f"the API answers {event.error_status or 'nothing'}: tries again"]
    if event.type != "assistant" or not event.message:
        return []
    return [_line(block) for block in event.message.blocks if block.type == "tool_use"]


def _line(block: _Block) -> str:
    name = tool_name(block.name)
    told = next((str(block.input[key]) for key in TELLING_INPUTS if block.input.get(key)), "")
    text = " ".join(f"{name}: {told}".split()) if told else name
    return text if len(text) <= MAX_PROGRESS_LENGTH else text[: MAX_PROGRESS_LENGTH - 1] + "…"
