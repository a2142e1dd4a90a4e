"""What thinks for an agent that is to be killed: it says which messages it answers. Standard library only: it runs in the sandbox."""

import json
import random
import socket
import sys
import time

ASIDE, ANSWER = "aside of turn", "answer to"


def main(channel: str, thinking_seconds: float) -> None:
    """Say something elsewhere by the tools, and then answer; each after a while."""
    asked = json.load(sys.stdin)
    print(ANSWER, end=" ", flush=True)
    time.sleep(random.random() * thinking_seconds)
    _post(asked["tools"], channel, f"{ASIDE} {asked['turn']['id']}")
    time.sleep(random.random() * thinking_seconds)
    print(*(item["message"]["id"] for item in asked["turn"]["items"]))


def _post(tools: str, channel: str, body: str) -> None:
    call = {"name": "post", "arguments": {"channel": channel, "body": body}}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(tools)
        connection.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}).encode() + b"\n")
        with connection.makefile() as answers:
            result = json.loads(answers.readline())["result"]
    if result["isError"]:
        sys.exit(result["content"][0]["text"])


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
