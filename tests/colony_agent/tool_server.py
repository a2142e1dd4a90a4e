"""A small MCP server on stdio, with one tool: it repeats what it is told."""

import json
import sys
from typing import Any

TOOL = {"name": "post", "description": "Say it.", "inputSchema": {"type": "object", "properties": {"body": {"type": "string"}}}}


def answer(request: dict[str, Any]) -> dict[str, Any] | None:
    params = request.get("params", {})
    match request["method"]:
        case "initialize":
            known = {"capabilities": {"tools": {}}, "serverInfo": {"name": "repeater", "version": "1"}}
            return {"protocolVersion": params["protocolVersion"], **known}
        case "tools/list":
            return {"tools": [TOOL]}
        case "tools/call":
            return {"content": [{"type": "text", "text": "posted " + params["arguments"]["body"]}]}
    return None


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        result = answer(request)
        outcome = {"result": result} if result else {"error": {"code": -32601, "message": "unknown"}}
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **outcome}), flush=True)
