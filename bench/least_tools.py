"""The least MCP server there can be, on standard streams, with one tool: run as a script, so it imports nothing of ours."""

import json
import sys

TOOL = {"name": "whoami", "description": "Say who you are.", "inputSchema": {"type": "object", "properties": {}}}


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request:
            answer = {"jsonrpc": "2.0", "id": request["id"], "result": _result(request)}
            print(json.dumps(answer), flush=True)


def _result(request: dict[str, object]) -> dict[str, object]:
    match request["method"], request.get("params"):
        case "initialize", {"protocolVersion": str(version)}:
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "least", "version": "1"}}
        case "tools/list", _:
            return {"tools": [TOOL]}
        case "tools/call", _:
            return {"content": [{"type": "text", "text": "you"}]}
    return {}


if __name__ == "__main__":
    main()
