"""Calls that wait for a person: held by their exact arguments, approved once, and not for long."""

from __future__ import annotations

import json
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from click.testing import CliRunner

from colony import errors, operations, schema
from colony.client import Client
from server import keyring, secret_commands
from server.models import approval
from server.models.approval import LIFETIME, MAX_PENDING, approvals
from tests.server.reaching import bear_again, settle
from tests.server.support import Colony, only_sqlite


@pytest.fixture
def house(colony: Colony) -> Colony:
    """Scout is bob's, and what it posts in #general is held."""
    settle(colony)
    put(colony, "scout", "post", "channel:general")
    return colony


def put(colony: Colony, principal: str, action: str, scope: str = "*", effect: schema.Effect = "hold") -> None:
    colony.admin.call(operations.SET_ACL, schema.SetAcl(principal=principal, action=action, scope=scope, effect=effect))


def held(colony: Colony, caller: Client, body: str, *, is_told: bool = False, **more: Any) -> int:
    """The number under which the post is held."""
    with pytest.raises(errors.Held) as raised:
        colony.post(caller, body, **more)
    number = int(raised.value.detail.split()[2].removeprefix("#"))
    then = "you will hear of it in this turn's channel; make the same call again then" if is_told else "ask again then"
    assert raised.value.detail == f"held as #{number} until an ape approves it; {then}"
    return number


def approve(caller: Client, number: int) -> schema.Approval:
    return caller.call(operations.APPROVE, schema.Approve(id=number))


def refuse(caller: Client, number: int) -> schema.Approval:
    return caller.call(operations.REFUSE, schema.Refuse(id=number))


def listed(caller: Client, **more: Any) -> list[tuple[int, str, str]]:
    found = caller.call(operations.APPROVALS, schema.ListApprovals(**more)).approvals
    return [(each.id, each.user, each.state) for each in found]


def test_an_approved_call_passes_once_and_other_arguments_are_held_anew(house: Colony) -> None:
    number = held(house, house.scout, "buy it", client_id="1")
    assert house.read() == []
    assert held(house, house.scout, "buy it", client_id="2") == number
    other = held(house, house.scout, "buy two of it")
    assert other != number
    assert listed(house.ann) == [(other, "scout", "pending"), (number, "scout", "pending")]
    found = approve(house.ann, number)
    assert (found.state, found.decided_by, found.decided_at) == ("approved", "ann", house.clock.now)
    assert json.loads(found.arguments) == {"channel": "general", "body": "buy it"}
    assert held(house, house.scout, "buy two of it") == other
    posted = house.post(house.scout, "buy it", client_id="3")
    assert house.post(house.scout, "buy it", client_id="3").id == posted.id  # a repetition is the same call
    assert held(house, house.scout, "buy it", client_id="4") not in (number, other)
    assert [message.body for message in house.read()] == ["buy it"]
    assert (number, "scout", "used") in listed(house.ann, all=True)


def test_a_call_that_fails_uses_no_approval_up(house: Colony) -> None:
    number = held(house, house.scout, "hello", reply_to=7)
    approve(house.ann, number)
    with pytest.raises(errors.Invalid, match="reply_to"):
        house.post(house.scout, "hello", reply_to=7)
    assert (number, "scout", "approved") in listed(house.ann, all=True)


def test_ops_hears_of_it_once_without_what_was_written(house: Colony) -> None:
    number = held(house, house.scout, "the secret plan", type="plan")
    held(house, house.scout, "the secret plan", type="plan")
    told = [message.body for message in house.read("ops")]
    asks = "@bob scout asks to post: `colony approvals` shows what."
    assert told == [f"{asks} `colony approve {number}` or `colony refuse {number}`."]
    assert [item.message.body for item in house.inbox(house.bob)] == told


def test_who_approves_sees_all_that_a_model_would_read(house: Colony) -> None:
    unseen = "".join(char for char in map(chr, range(0x20, 0xF0000)) if unicodedata.category(char) in ("Cf", "Zl", "Zp"))
    body = f"Wir kommen am Freitag, größer: 日本 ❤\ufe0f {unseen} \u3164\u2800\U000e0101 done"
    held(house, house.scout, body)
    [found] = house.ann.call(operations.APPROVALS, schema.ListApprovals()).approvals
    assert json.loads(found.arguments)["body"] == body
    assert not set(found.arguments) & {*unseen, "\ufe0f", "\u3164", "\u2800", "\U000e0101"}
    assert "Wir kommen am Freitag, größer: 日本 ❤" in found.arguments


def test_what_an_agent_writes_into_its_arguments_addresses_nobody(house: Colony) -> None:
    put(house, "rook", "create_channel")
    with pytest.raises(errors.Held):
        house.rook.call(operations.CREATE_CHANNEL, schema.CreateChannel(name="shed", topic="` @ann @bob @agents " + "x" * 400))
    assert house.inbox(house.ann) == house.inbox(house.bob) == house.inbox(house.scout) == []
    assert len(house.read("ops")[0].body) < 600


def test_a_refused_call_is_not_asked_for_again_for_a_day(house: Colony) -> None:
    number = held(house, house.scout, "buy it")
    assert refuse(house.ann, number).state == "refused"
    with pytest.raises(errors.Forbidden, match=rf"this was refused \(#{number}\)") as raised:
        house.post(house.scout, "buy it")
    assert not isinstance(raised.value, errors.Held)
    house.clock.advance(LIFETIME.total_seconds())
    assert held(house, house.scout, "buy it") != number


def test_questions_and_approvals_expire(house: Colony) -> None:
    asked, approved = held(house, house.scout, "one"), held(house, house.scout, "two")
    house.clock.advance(LIFETIME.total_seconds() - 1)
    approve(house.ann, approved)
    house.clock.advance(1)
    with pytest.raises(errors.Conflict, match=f"#{asked} is expired"):
        approve(house.ann, asked)
    house.post(house.scout, "two")
    third = held(house, house.scout, "two")
    approve(house.ann, third)
    house.clock.advance(LIFETIME.total_seconds())
    assert held(house, house.scout, "two") != third
    assert held(house, house.scout, "one") != asked


def test_a_decision_is_repeated_but_not_reversed(house: Colony) -> None:
    number = held(house, house.scout, "buy it")
    approve(house.ann, number)
    assert approve(house.bob, number).decided_by == "ann"
    with pytest.raises(errors.Conflict, match=f"#{number} is approved"):
        refuse(house.bob, number)
    house.post(house.scout, "buy it")
    with pytest.raises(errors.Conflict, match=f"#{number} is used"):
        approve(house.ann, number)


def test_people_decide_but_not_about_their_own_calls(house: Colony) -> None:
    put(house, "agents", "approve", effect="allow")
    number = held(house, house.scout, "buy it")
    for agent in (house.scout, house.rook):
        with pytest.raises(errors.Forbidden):
            approve(agent, number)
    put(house, "ann", "create_channel")
    request = schema.CreateChannel(name="shed")
    with pytest.raises(errors.Held):
        house.ann.call(operations.CREATE_CHANNEL, request)
    own = listed(house.ann)[0][0]
    with pytest.raises(errors.Forbidden, match="what they want to do themselves"):
        approve(house.ann, own)
    approve(house.bob, own)
    assert house.ann.call(operations.CREATE_CHANNEL, request).name == "shed"
    assert listed(house.scout) == [(number, "scout", "pending")]
    assert listed(house.rook) == []


def test_an_owner_says_who_approves(house: Colony) -> None:
    deny = schema.SetAcl(principal="ann", action="approve", scope="agent:scout", effect="deny")
    house.bob.call(operations.SET_ACL, deny)
    number = held(house, house.scout, "buy it")
    with pytest.raises(errors.Forbidden, match="ann may not approve agent:scout: ann deny approve"):
        approve(house.ann, number)
    with pytest.raises(errors.NotFound, match="no approval 999"):
        approve(house.ann, 999)
    approve(house.bob, number)


def test_nobody_approves_what_they_may_not_do_themselves(house: Colony) -> None:
    number = held(house, house.scout, "buy it")
    put(house, "ann", "post", "channel:general", "deny")
    says = rf"^#{number} is not yours to approve: you may not post there yourself: ann deny post channel:general \(by colony\)$"
    with pytest.raises(errors.Forbidden, match=says):
        approve(house.ann, number)
    assert listed(house.ann) == [(number, "scout", "pending")]
    put(house, "ann", "post", "channel:general", "hold")
    assert approve(house.ann, number).state == "approved"


def test_who_may_not_do_it_themselves_may_refuse_it_and_administrators_approve_all(house: Colony) -> None:
    put(house, "apes", "post", "channel:general", "deny")
    put(house, "colony", "post", "channel:general", "deny")
    assert refuse(house.ann, held(house, house.scout, "buy it")).state == "refused"
    assert approve(house.admin, held(house, house.scout, "sell it")).state == "approved"


def test_a_denial_elsewhere_keeps_nobody_from_approving(house: Colony) -> None:
    house.open_channel("garden")
    put(house, "ann", "post", "channel:garden", "deny")
    assert approve(house.ann, held(house, house.scout, "buy it")).state == "approved"


def test_what_is_no_operation_any_more_is_approved_by_nobody(house: Colony) -> None:
    number = held(house, house.scout, "buy it")
    odd = approvals.update().where(approvals.c.id == number).values(operation="shout")
    house.gate.database.write(lambda connection: connection.execute(odd))
    with pytest.raises(errors.Conflict, match=f"^#{number} asks for shout"):
        approve(house.ann, number)


def test_what_is_not_allowed_is_not_held(house: Colony) -> None:
    put(house, "scout", "*")
    house.open_channel("garden")
    with pytest.raises(errors.Forbidden, match="no row allows it") as raised:
        house.post(house.scout, "hi", "garden")
    assert not isinstance(raised.value, errors.Held)
    assert house.scout.call(operations.READ, schema.ReadMessages(channel="general")).messages == []
    assert house.ann.call(operations.EXPLAIN_ACL, schema.ExplainAcl(user="scout", action="post", scope="channel:general")).effect == "hold"


@pytest.mark.parametrize("action", ["read", "inbox", "tool:read", "finish", "heartbeat", "approve", "refuse"])
def test_what_changes_nothing_or_decides_or_keeps_turns_going_can_not_be_held(house: Colony, action: str) -> None:
    with pytest.raises(errors.Invalid, match=action.removeprefix("tool:")):
        put(house, "scout", action)


def test_an_answer_is_not_held_but_given_up(house: Colony) -> None:
    house.post(house.ann, "@scout hello")
    turn = house.turn(house.scout)
    assert "post" in (turn.tools or [])
    number = held(house, house.in_turn(turn), "from within", is_told=True)
    assert house.rows(approvals, approvals.c.id == number)[0].turn_id == turn.id
    assert house.finish(turn, "hello yourself").error_code == "forbidden"
    assert "scout hold post channel:general" in house.read()[-1].body


def test_a_held_call_is_audited_as_refused(house: Colony) -> None:
    before = len(house.audit())
    number = held(house, house.scout, "buy it")
    approve(house.ann, number)
    house.post(house.scout, "buy it")
    assert house.audit()[before:] == [
        ("post", "scout", "refused", "held"),
        ("approve", "ann", "done", None),
        ("post", "scout", "done", None),
    ]


def test_a_secret_s_value_is_not_kept(house: Colony) -> None:
    put(house, "bob", "set_secret")
    with pytest.raises(errors.Held):
        house.bob.call(operations.SET_SECRET, schema.SetSecret(name="TOKEN", agent="scout", value="a-secret-value", hosts=["a.example"]))
    assert "a-secret-value" not in str(house.rows(approvals)) + str(house.read("ops"))
    assert listed(house.ann)[0][1:] == ("bob", "pending")


def test_a_secret_s_value_can_not_be_guessed_from_what_is_kept(house: Colony) -> None:
    put(house, "bob", "set_secret")
    given = schema.SetSecret(name="PIN", agent="scout", value="12345678", hosts=["a.example"])
    with pytest.raises(errors.Held):
        house.bob.call(operations.SET_SECRET, given)
    [kept] = house.rows(approvals)
    ring = keyring.load(house.gate.config.secret_keys)
    assert kept.arguments_hash == approval.Wanted(kept.user_id, "set_secret", given, ring).hashes[0]
    others = given.model_copy(update={"value": "12345679"}), given
    for guess, keys in zip(others, (ring, keyring.KeyRing({"guessed": bytes(32)})), strict=True):
        assert kept.arguments_hash not in approval.Wanted(kept.user_id, "set_secret", guess, keys).hashes
    assert approval.Wanted(kept.user_id, "set_secret", given, keyring.KeyRing({})).hashes == []


def test_an_approval_counts_under_an_older_key_and_none_without_its_key(house: Colony) -> None:
    file = house.gate.config.secret_keys
    for body in ("one", "two"):
        approve(house.ann, held(house, house.scout, body))
    keyring.add_key(file)
    house.post(house.scout, "one")
    keyring.keep_only(file, set())
    held(house, house.scout, "two")
    file.unlink()
    held(house, house.scout, "two")


def test_where_the_keys_can_not_be_read_nothing_passes_that_is_held(house: Colony) -> None:
    approve(house.ann, held(house, house.scout, "one"))
    keys = house.gate.config.secret_keys.read_bytes()
    house.gate.config.secret_keys.write_text("nonsense\n")
    with pytest.raises(errors.Unavailable, match="holds no keys"):
        house.post(house.scout, "one")
    house.post(house.ann, "hello")
    house.gate.config.secret_keys.write_bytes(keys)
    house.post(house.scout, "one")
    assert [message.body for message in house.read()] == ["hello", "one"]


def test_with_new_keys_what_is_held_is_asked_for_anew(house: Colony) -> None:
    number = held(house, house.scout, "buy it")
    rotated = CliRunner().invoke(secret_commands.rotate, obj=house.database_url)
    assert rotated.exit_code == 0, rotated.output
    with pytest.raises(errors.Conflict, match=f"#{number} is expired"):
        approve(house.ann, number)
    approve(house.ann, held(house, house.scout, "buy it"))
    house.post(house.scout, "buy it")


@only_sqlite
def test_there_is_an_end_of_questions(house: Colony) -> None:
    for number in range(MAX_PENDING):
        held(house, house.scout, f"number {number}")
    with pytest.raises(errors.LimitReached, match="wait for approval"):
        house.post(house.scout, "one more")
    held(house, house.scout, "number 7")


def test_who_is_born_again_has_nothing_approved(house: Colony) -> None:
    approve(house.ann, held(house, house.scout, "buy it"))
    bear_again(house, "scout")
    assert listed(house.scout, all=True) == []
    put(house, "scout", "post", "channel:general")
    number = held(house, house.scout, "buy it")
    assert listed(house.scout, all=True) == [(number, "scout", "pending")]
    assert len(listed(house.ann, all=True)) == 2


def test_a_state_that_the_colony_never_wrote_hides_nothing(house: Colony) -> None:
    number, other = held(house, house.scout, "one"), held(house, house.scout, "two")
    odd = approvals.update().where(approvals.c.id == number).values(state="maybe")
    house.gate.database.write(lambda connection: connection.execute(odd))
    assert listed(house.ann, all=True) == [(other, "scout", "pending"), (number, "scout", "expired")]
    assert held(house, house.scout, "one") not in (number, other)


def test_approving_itself_is_never_held(house: Colony) -> None:
    put(house, "apes", "*")
    number = held(house, house.scout, "buy it")
    assert approve(house.ann, number).state == "approved"
    held(house, house.ann, "something else")


def test_equal_calls_at_once_are_one_question(house: Colony) -> None:
    together = Barrier(6)

    def ask(_: int) -> int:
        together.wait()
        return held(house, house.scout, "buy it")

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(ask, range(6)))) == 1
    assert len(listed(house.ann)) == 1
