"""What is held, with real processes: an agent asks, a person approves, the agent is woken, asks again, and it passes."""

from __future__ import annotations

from pathlib import Path

from colony import operations, schema
from tests.colony_agent.agents import LONG, House, wait_for

ANNOUNCES = """
import json
import socket
import sys

asked = json.load(sys.stdin)
with socket.socket(socket.AF_UNIX) as there:
    there.connect(asked["tools"])
    request = {"name": "post", "arguments": {"channel": "general", "body": "We ship on Friday."}}
    there.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": request}).encode() + b"\\n")
    result = json.loads(there.makefile().readline())["result"]
print(result["content"][0]["text"] if result["isError"] else "announced")
"""


def test_an_agent_that_had_to_ask_is_woken_and_goes_on(house: House, tmp_path: Path) -> None:
    scout = house.agent(tmp_path, ANNOUNCES, command=["/usr/bin/python3", "-I", "brain.sh"])
    house.admin.call(operations.SET_ACL, schema.SetAcl(principal=scout.name, action="post", scope="channel:general", effect="hold"))
    with scout.worker():
        scout.ask("tell everybody")
        [first] = scout.await_said()
        assert scout.messages("general") == []
        [question] = house.ann.call(operations.APPROVALS, schema.ListApprovals()).approvals
        assert (
            first
            == f"held as #{question.id} until an ape approves it; you will hear of it in this turn's channel; make the same call again then"
        )
        assert house.ann.call(operations.APPROVE, schema.Approve(id=question.id)).asker_is_told
        assert scout.await_said(2)[1] == "announced"
    assert scout.said("general") == ["We ship on Friday."]
    wait_for(lambda: scout.outcomes() == ["answered"] * 2, "both items handled", LONG)
    asked, answered, told, done = scout.messages()
    assert (answered.reply_to, done.reply_to) == (asked.id, told.id)
    assert told.author == "colony"
    assert told.body.startswith(f"@{scout.name} your call to post, held as #{question.id}, is approved: ")
    assert len(scout.turns()) == 2


def test_a_refused_agent_is_woken_and_told_so(house: House, tmp_path: Path) -> None:
    scout = house.agent(tmp_path, ANNOUNCES, command=["/usr/bin/python3", "-I", "brain.sh"])
    house.admin.call(operations.SET_ACL, schema.SetAcl(principal=scout.name, action="post", scope="channel:general", effect="hold"))
    with scout.worker():
        scout.ask("tell everybody")
        scout.await_said()
        [question] = house.ann.call(operations.APPROVALS, schema.ListApprovals()).approvals
        house.ann.call(operations.REFUSE, schema.Refuse(id=question.id))
        assert scout.await_said(2)[1].startswith(f"this was refused (#{question.id})")
    assert scout.said("general") == []
