"""A stand-in of the Anthropic Messages API: the real Claude Code CLI runs against it, without a model.

with Standin() as api:
    api.script([tool("mcp__colony__post", {"channel": "general", "body": "hi"}), text("done")])
    ...                                   # run the CLI with ANTHROPIC_BASE_URL=api.url
    assert tool_result(api.requests[1]) == "posted"
"""

from tests.standin.api import Standin
from tests.standin.replies import (
    Reply,
    Usage,
    drop,
    error,
    hang,
    prompt_too_long,
    text,
    tool,
    tools,
)
from tests.standin.requests import Request, last_user_text, prompt_text, tool_result, tool_results
from tests.standin.script import Script, echo, sequence

__all__ = [
    "Reply",
    "Request",
    "Script",
    "Standin",
    "Usage",
    "drop",
    "echo",
    "error",
    "hang",
    "last_user_text",
    "prompt_text",
    "prompt_too_long",
    "sequence",
    "text",
    "tool",
    "tool_result",
    "tool_results",
    "tools",
]
