"""Secrets: sealed in the database, given to the gate alone, and to agents only as what stands for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from colony import errors, operations, schema
from colony.client import Client
from server import keyring
from server.models import secret as secret_model
from server.models.audit import audit
from server.models.secret import secrets
from tests.server.following import START
from tests.server.reaching import bear, die, settle, settle_gate
from tests.server.support import Colony, only_sqlite
from tests.server.test_people import when_asleep

VALUE = "ghp_a-token-of-ann"


@pytest.fixture
def house(colony: Colony) -> Colony:
    """Scout is bob's, and both agents have a Linux user."""
    return settle(colony)


@pytest.fixture
def gate(house: Colony) -> Client:
    return settle_gate(house)


def put(colony: Colony, name: str = "TOKEN", value: str = VALUE, *hosts: str, caller: Client | None = None, **more: Any) -> schema.Secret:
    target = list(hosts) or ([] if more.get("as_environment") else ["api.example"])
    request = schema.SetSecret(name=name, value=value, hosts=target, **more)
    return (caller or colony.admin).call(operations.SET_SECRET, request)


def given(gate: Client) -> dict[str, dict[str, str]]:
    """Values by name, by Linux user."""
    agents = gate.call(operations.EGRESS_SECRETS, schema.GetEgressSecrets()).agents
    return {user: {each.name: each.value for each in theirs} for user, theirs in agents.items()}


def test_the_gate_has_what_each_agent_may_use(house: Colony, gate: Client) -> None:
    put(house)
    put(house, "TOKEN", "the-token-of-scout", agent="scout")
    put(house, "OTHER", "rooks-alone", agent="rook", header="authorization: Bearer {}")
    assert given(gate) == {"scout": {"TOKEN": "the-token-of-scout"}, "rook": {"TOKEN": VALUE, "OTHER": "rooks-alone"}}
    [own] = [each for each in gate.call(operations.EGRESS_SECRETS, schema.GetEgressSecrets()).agents["rook"] if each.name == "OTHER"]
    assert (own.hosts, own.header) == (["api.example"], "authorization: Bearer {}")


def test_nobody_else_is_told_a_value(house: Colony) -> None:
    put(house)
    for caller in (house.admin, house.ann, house.scout):
        with pytest.raises(errors.Forbidden):
            caller.call(operations.EGRESS_SECRETS, schema.GetEgressSecrets())
    told = house.admin.call(operations.SECRETS, schema.ListSecrets()).model_dump_json()
    assert "TOKEN" in told
    assert VALUE not in told


def test_what_the_secrets_of_others_are_called_the_events_do_not_tell_either(house: Colony) -> None:
    put(house, "OTHER", agent="rook")
    house.admin.call(operations.DROP_SECRET, schema.DropSecret(agent="rook", name="OTHER"))
    for reader in (house.bob, house.ann):
        told = reader.call(operations.EVENTS, schema.ListEvents(since=START, limit=500))
        assert "OTHER" not in told.model_dump_json()
        deeds = [each.deed for each in told.events if each.deed and each.deed.operation.endswith("_secret")]
        assert [each.fields for each in deeds] == [{"agent": "rook"}] * 2


def test_no_row_of_the_database_holds_a_value(house: Colony, gate: Client) -> None:
    put(house)
    house.post(house.ann, "@scout")
    house.turn(house.scout)
    given(gate)
    for table in secrets.metadata.sorted_tables:
        assert VALUE not in repr(house.rows(table))
    assert "set_secret" in {row.operation for row in house.rows(audit)}


def test_an_agent_is_told_what_stands_for_its_secrets(house: Colony) -> None:
    of_all, own = put(house), put(house, "TOKEN", "the-token-of-scout", agent="scout")
    put(house, "OTHER", agent="rook")
    house.post(house.ann, "@scout @rook")
    turn = house.turn(house.scout)
    assert turn.environment == {"TOKEN": own.placeholder}
    assert own.placeholder != of_all.placeholder
    assert house.ann.call(operations.TURN, schema.GetTurn(id=turn.id)).environment == {}


def test_another_value_keeps_the_placeholder(house: Colony, gate: Client) -> None:
    first, second = put(house), put(house, "TOKEN", "another-value", "other.example")
    assert first.placeholder == second.placeholder
    assert given(gate)["scout"] == {"TOKEN": "another-value"}
    assert [each.hosts for each in house.admin.call(operations.SECRETS, schema.ListSecrets()).secrets] == [["other.example"]]


def test_owners_decide_about_their_agents_and_administrators_about_all(house: Colony) -> None:
    put(house, agent="scout", caller=house.bob)
    for agent, caller in (("scout", house.ann), ("rook", house.bob), ("agents", house.bob), ("scout", house.scout)):
        with pytest.raises(errors.Forbidden):
            put(house, agent=agent, caller=caller)
        with pytest.raises((errors.Forbidden, errors.NotFound)):
            caller.call(operations.DROP_SECRET, schema.DropSecret(name="TOKEN", agent=agent))
    put(house, "ROOKS", agent="rook")
    put(house, "ALLS")
    seen = {name: [each.name for each in who.call(operations.SECRETS, schema.ListSecrets()).secrets] for name, who in people(house).items()}
    assert seen == {"bob": ["ALLS", "TOKEN"], "ann": ["ALLS"], "scout": ["ALLS", "TOKEN"], "admin": ["ALLS", "ROOKS", "TOKEN"]}
    house.bob.call(operations.DROP_SECRET, schema.DropSecret(name="TOKEN", agent="scout"))


def people(house: Colony) -> dict[str, Client]:
    return {"bob": house.bob, "ann": house.ann, "scout": house.scout, "admin": house.admin}


def test_what_is_taken_away_is_gone(house: Colony, gate: Client) -> None:
    put(house)
    house.admin.call(operations.DROP_SECRET, schema.DropSecret(name="TOKEN"))
    assert given(gate) == {}
    with pytest.raises(errors.NotFound, match="there is no secret TOKEN of all agents"):
        house.admin.call(operations.DROP_SECRET, schema.DropSecret(name="TOKEN"))


def test_what_an_owner_lent_their_agent_goes_with_them(house: Colony, gate: Client) -> None:
    put(house, "BOBS", agent="scout", caller=house.bob)
    put(house, "ROOTS", agent="scout")
    put(house, "ALLS")
    give = partial(house.admin.call, operations.SET_OWNER)
    give(schema.SetOwner(agent="scout", owner="bob"))
    assert given(gate)["scout"].keys() == {"BOBS", "ROOTS", "ALLS"}
    known = gate.call(operations.EGRESS_SECRETS, schema.GetEgressSecrets()).version
    with ThreadPoolExecutor() as pool:
        news = pool.submit(gate.call, operations.EGRESS_SECRETS, schema.GetEgressSecrets(known=known, wait=20))
        when_asleep(house, news)
        give(schema.SetOwner(agent="scout", owner="ann"))
        assert news.result(10).version != known
    assert given(gate)["scout"].keys() == {"ROOTS", "ALLS"}
    put(house, "ANNS", agent="scout", caller=house.ann)
    house.admin.call(operations.REMOVE_USER, schema.RemoveUser(username="ann"))
    assert given(gate)["scout"].keys() == {"ROOTS", "ALLS"}


def test_secrets_die_with_their_agent(house: Colony, gate: Client) -> None:
    put(house, agent="scout")
    die(house, "scout")
    bear(house, "scout")
    assert given(gate) == {}


def test_a_change_is_another_version(house: Colony, gate: Client) -> None:
    def version() -> str:
        return gate.call(operations.EGRESS_SECRETS, schema.GetEgressSecrets()).version

    seen = [version()]
    changes: tuple[Callable[[], object], ...] = (
        lambda: put(house),
        lambda: put(house, "TOKEN", "another-value"),
        lambda: put(house, "TOKEN", "another-value", "b.example"),
        lambda: house.admin.call(operations.DROP_SECRET, schema.DropSecret(name="TOKEN")),
    )
    for change in changes:
        change()
        seen.append(version())
    assert seen[0] == seen[-1]
    assert len(set(seen)) == 4


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        *(("name", name, "name: ") for name in ("token", "", "1A", "A-B", "A" * 65)),
        *(("name", name, "name: ") for name in ("PATH", "LD_PRELOAD", "HTTPS_PROXY", "ANTHROPIC_API_KEY")),
        *(("value", value, "value: ") for value in ("", "short", "with a space", "with\nbreak", "ümlaut-long", "x" * 8193)),
        *(("hosts", hosts, "hosts") for hosts in ([], ["*"], ["a b"], ["x:1,2"], ["x:0"], ["a.*.b"], [f"h{n}.example" for n in range(21)])),
        *(("header", header, "header: ") for header in ("Bearer {}", "A: b", "A: {}{}", "Host: {}", "A B: {}", "A: {}\r\nB: c")),
    ],
)
def test_what_can_be_no_secret_is_refused(house: Colony, field: str, value: object, complaint: str) -> None:
    fields: dict[str, Any] = {"name": "TOKEN", "value": VALUE, "hosts": ["api.example"], field: value}
    answer = house.http("").put("/api/secrets", json=fields)
    assert answer.status_code == 401
    with pytest.raises(errors.Invalid) as refused:
        house.admin.call(operations.SET_SECRET, schema.SetSecret.model_construct(**fields))
    assert str(refused.value).startswith(complaint)
    assert value != "short" or "short" not in str(refused.value), "a value is not repeated"


def test_hosts_are_kept_in_the_form_in_which_they_are_compared(house: Colony) -> None:
    assert put(house, "TOKEN", VALUE, "API.Example.", "*.Example.org:8443", "api.example").hosts == ["api.example", "*.example.org:8443"]


def test_who_is_born_later_has_what_all_have(house: Colony, gate: Client) -> None:
    put(house)
    known = gate.call(operations.EGRESS_SECRETS, schema.GetEgressSecrets()).version
    with ThreadPoolExecutor(1) as threads:
        waits = threads.submit(gate.call, operations.EGRESS_SECRETS, schema.GetEgressSecrets(known=known, wait=20))
        time.sleep(0.3)
        bear(house, "wren")
        assert set(waits.result(10).agents) == {"scout", "rook", "wren"}


# Those that programs may hold


def test_a_program_that_may_hold_it_is_told_the_value_and_nobody_else_is(house: Colony, gate: Client) -> None:
    put(house, "HELD", VALUE, as_environment=True)
    put(house, "BOUND", "never-to-be-held")
    put(house, "ROOKS", "of-rook-alone", agent="rook", as_environment=True)
    house.post(house.ann, "@scout @rook")
    turn = house.turn(house.scout, takes_secrets=True)
    assert turn.secrets == {"HELD": VALUE}
    assert turn.environment.keys() == {"HELD", "BOUND"}
    for asked in (house.ann, house.admin, house.in_turn(turn)):
        assert asked.call(operations.TURN, schema.GetTurn(id=turn.id)).secrets == {}
    assert house.turn(house.rook).secrets == {}, "its runner takes none"
    for table in secrets.metadata.sorted_tables:
        assert VALUE not in repr(house.rows(table))


def test_it_may_be_held_and_sent(house: Colony, gate: Client) -> None:
    kept = put(house, "HELD", VALUE, "api.example", as_environment=True)
    assert (kept.as_environment, kept.hosts) == (True, ["api.example"])
    assert given(gate)["scout"] == {"HELD": VALUE}
    assert [each.as_environment for each in house.bob.call(operations.SECRETS, schema.ListSecrets()).secrets] == [True]


def test_what_is_for_no_host_must_be_for_programs(house: Colony) -> None:
    with pytest.raises(errors.Invalid, match=r"^hosts: name at least one host that it is for$"):
        house.admin.call(operations.SET_SECRET, schema.SetSecret.model_construct(name="TOKEN", value=VALUE, hosts=[]))


@only_sqlite
def test_whoever_writes_the_database_can_let_nobody_put_it_into_paths(house: Colony, gate: Client) -> None:
    assert put(house, in_path=True).in_path
    assert [each.in_path for each in gate.call(operations.EGRESS_SECRETS, schema.GetEgressSecrets()).agents["scout"]] == [True]
    put(house)
    house.execute("UPDATE secrets SET in_path = 1")
    with pytest.raises(errors.Unavailable, match="can't be opened"):
        given(gate)


@only_sqlite
def test_whoever_writes_the_database_can_let_nobody_hold_it(house: Colony) -> None:
    put(house)
    house.execute("UPDATE secrets SET as_environment = 1")
    house.post(house.ann, "@scout")
    assert house.turn(house.scout, takes_secrets=True).secrets == {}


def test_a_turn_goes_on_without_what_can_not_be_opened(house: Colony) -> None:
    put(house, "HELD", VALUE, as_environment=True)
    house.gate.config.secret_keys.unlink()
    house.post(house.ann, "@scout")
    assert house.turn(house.scout, takes_secrets=True).secrets == {}


# The keys


@only_sqlite
def test_what_can_not_be_opened_is_named(house: Colony) -> None:
    put(house, "ONE", "the-first-value")
    put(house, "TWO", "the-second-one", agent="scout")
    ring = keyring.load(house.gate.config.secret_keys)
    with house.gate.database.read() as connection:
        assert secret_model.lost(connection, ring) == []
        assert secret_model.lost(connection, keyring.KeyRing({})) == ["agents: ONE", "scout: TWO"]
    house.execute("UPDATE secrets SET hosts = 'x' WHERE name = 'TWO'")
    with house.gate.database.read() as connection:
        assert secret_model.lost(connection, ring) == ["scout: TWO"]


@only_sqlite
def test_rows_can_not_be_exchanged(house: Colony, gate: Client) -> None:
    put(house, "ONE", "the-first-value")
    put(house, "TWO", "the-second-one", agent="scout")
    moved = "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name = 'ONE') WHERE name = 'TWO'"
    rebound = "UPDATE secrets SET hosts = '[\"evil.example\"]' WHERE name = 'ONE'"
    for change in (moved, rebound):
        house.execute(change)
        with pytest.raises(errors.Unavailable, match="a secret can't be opened"):
            given(gate)
        house.execute("DELETE FROM secrets")
        put(house, "ONE", "the-first-value")


def test_a_new_key_seals_everything_anew_and_the_old_one_is_forgotten(house: Colony, gate: Client) -> None:
    put(house)
    file = house.gate.config.secret_keys
    assert file.stat().st_mode & 0o777 == 0o600
    before, sealed = keyring.load(file), house.rows(secrets)[0].sealed
    ring = keyring.add_key(file)
    assert given(gate)["scout"] == {"TOKEN": VALUE}, "in between, both are there"
    assert house.gate.database.write(lambda connection: secret_model.reseal(connection, ring)) == 1
    keyring.keep_only(file, {ring.newest})
    assert set(keyring.load(file).keys).isdisjoint(before.keys)
    assert house.rows(secrets)[0].sealed != sealed
    assert given(gate)["scout"] == {"TOKEN": VALUE}


def test_without_its_key_a_secret_is_said_to_be_lost_and_all_else_goes_on(house: Colony, gate: Client) -> None:
    put(house)
    house.gate.config.secret_keys.unlink()
    with pytest.raises(errors.Unavailable, match="that a secret is sealed with is missing"):
        given(gate)
    house.post(house.ann, "@scout")
    assert house.turn(house.scout).environment
    put(house)
    assert given(gate)["scout"] == {"TOKEN": VALUE}


@pytest.mark.parametrize("content", ["nonsense", "k1 !!!", "k1 c2hvcnQ=", "\0"])
def test_a_ring_that_is_none_is_said(house: Colony, content: str) -> None:
    house.gate.config.secret_keys.write_text(content)
    with pytest.raises(errors.Unavailable, match="holds no keys"):
        put(house)


def test_servers_that_begin_a_ring_at_once_have_one_key(tmp_path: Path) -> None:
    together = Barrier(8)

    def begin(_: int) -> tuple[str, ...]:
        together.wait()
        return tuple(keyring.begun(tmp_path / "secret-keys").keys)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(begin, range(8)))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret-keys"]


def test_without_secrets_there_need_be_no_ring(house: Colony, gate: Client) -> None:
    assert given(gate) == {}
    assert not house.gate.config.secret_keys.exists()


def test_a_ring_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match="can't write"):
        keyring.begun(tmp_path / "nowhere" / "secret-keys")


def test_a_ring_shows_no_key() -> None:
    assert repr(keyring.KeyRing({"k1": b"x" * 32})) == "KeyRing(k1)"
