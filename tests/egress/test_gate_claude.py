"""What the real Claude Code CLI asks is known to the gate: nothing of it is refused, or missing at the API."""

from __future__ import annotations

import json
from pathlib import Path

from colony_agent.runner.claude import TOOLS
from egress import model, question
from tests.standin import Standin, text, tool
from tests.standin.claude import claude_binary, run_claude

OF_THE_CONNECTION = {"connection", "content-length", "host", "x-api-key"}


def test_nothing_that_claude_code_asks_is_unknown(tmp_path: Path) -> None:
    errand = {"description": "an errand", "prompt": "say hi", "subagent_type": "general-purpose"}
    with Standin() as api:
        api.script([tool("Bash", {"command": "echo hi"}), tool("Task", errand), text("hi"), text("done")])
        run = run_claude(claude_binary(), api, tmp_path, "hello", "--tools", TOOLS, "--allowedTools", TOOLS)
    assert run.result["result"] == "done"
    assert len(api.requests) == 4
    for request in api.requests:
        assert question.parsed(json.dumps(request.body).encode()).hosts == ()
        names = {name.lower() for name in request.headers} - OF_THE_CONNECTION
        assert [name for name in names if not model.is_passed_on(name.encode())] == []
