"""Who may reach what: the decision that the gate, the server and the command share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from uuid import uuid4

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from colony import egress, schema

LABEL = st.from_regex(r"[a-z](?:[a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
ADDRESS = st.ip_addresses().map(str)
HOST = st.one_of(NAME, ADDRESS)
PATTERN = st.one_of(HOST, NAME.map("*.{}".format), st.just("*"))
PORT = st.sampled_from([22, 80, 443, 8443])


@dataclass(frozen=True)
class Rule:
    effect: str
    host: str
    ports: list[int] = field(default_factory=list)


RULE = st.builds(Rule, st.sampled_from(["allow", "deny"]), PATTERN, st.lists(PORT, max_size=3))
RULES = st.lists(RULE, max_size=6)


def is_allowed(host: str, *rules: Rule, port: int = 443) -> bool:
    return egress.decide(rules, host, port).is_allowed


def allow(host: str, *ports: int) -> Rule:
    return Rule("allow", host, list(ports))


def deny(host: str, *ports: int) -> Rule:
    return Rule("deny", host, list(ports))


def disguised(host: str, draw: st.DataObject) -> str:
    """The same host in another spelling."""
    upper = draw.draw(st.lists(st.booleans(), min_size=len(host), max_size=len(host)))
    spelt = "".join(letter.upper() if is_upper else letter for letter, is_upper in zip(host, upper, strict=True))
    return spelt + ("." if ":" not in host and draw.draw(st.booleans()) else "")


# --- the verdict


@given(RULES, HOST, PORT)
def test_without_an_allow_it_is_a_deny(rules: list[Rule], host: str, port: int) -> None:
    verdict = egress.decide([rule for rule in rules if rule.effect == "deny"], host, port)
    assert not verdict.is_allowed
    assert verdict.reason


@given(RULES, RULES, HOST, PORT, st.lists(PORT, max_size=3))
def test_any_deny_wins(before: list[Rule], after: list[Rule], host: str, port: int, ports: list[int]) -> None:
    rule = deny(host, *ports, *([port] if ports else []))
    verdict = egress.decide([*before, rule, *after], host, port)
    assert not verdict.is_allowed
    assert verdict.rule is not None
    assert verdict.rule.effect == "deny"


@given(RULES, HOST, PORT)
def test_the_order_of_rules_makes_no_difference_and_a_rule_decides(rules: list[Rule], host: str, port: int) -> None:
    verdict = egress.decide(rules, host, port)
    assert verdict.is_allowed == egress.decide(rules[::-1], host, port).is_allowed
    if verdict.rule:
        assert egress.decide([verdict.rule], host, port) == verdict
        assert verdict.is_allowed == (verdict.rule.effect == "allow")
    else:
        assert verdict == egress.decide([], host, port)


@given(RULES, RULE, HOST, PORT)
def test_another_rule_changes_nothing_against_its_effect(rules: list[Rule], rule: Rule, host: str, port: int) -> None:
    before, after = egress.decide(rules, host, port).is_allowed, egress.decide([*rules, rule], host, port).is_allowed
    assert before == after or after == (rule.effect == "allow")


@given(RULES, HOST, PORT, st.data())
def test_case_and_trailing_dots_make_no_difference(rules: list[Rule], host: str, port: int, data: st.DataObject) -> None:
    spelt = [replace(rule, host=rule.host if rule.host == "*" else disguised(rule.host, data)) for rule in rules]
    given_ = [replace(rule, host=egress.pattern(rule.host)) for rule in spelt]
    verdict = egress.decide(rules, host, port)
    assert egress.decide(given_, disguised(host, data), port) == verdict
    assert egress.decide(spelt, host, port).is_allowed == verdict.is_allowed


@given(NAME, LABEL)
def test_a_star_means_what_is_below_and_nothing_else(name: str, label: str) -> None:
    below = allow(f"*.{name}")
    assert is_allowed(f"{label}.{name}", below)
    assert is_allowed(f"a.{label}.{name}", below)
    assert not is_allowed(name, below)
    assert not is_allowed(f"{label}{name}", below)
    assert not is_allowed(f"{name}.{label}", below) or f"{name}.{label}".endswith(f".{name}")
    assert not is_allowed(f"{label}.{name}", allow("*"), deny(f"*.{name}"))


def test_evil_names_that_look_alike_are_not_below() -> None:
    alike = ["evilpypi.org", "pypi.org.evil.example", "pypi.org", "xn--pypi.org", "-pypi.org", ".pypi.org", "a..pypi.org"]
    for host in (*alike, "pypi.org@evil.org", "a.pypi.org@evil.org", "a.pypi.org/.evil.org"):
        assert not is_allowed(host, allow("*.pypi.org"))
    assert is_allowed("files.PYPI.org.", allow("*.pypi.org"))


@given(ADDRESS, st.lists(PATTERN.filter(lambda pattern: pattern.startswith("*")), max_size=3), ADDRESS)
def test_an_address_is_allowed_by_its_very_name_alone(address: str, patterns: list[str], other: str) -> None:
    assert is_allowed(address, allow(address))
    assume(address != other)
    assert not is_allowed(address, *map(allow, patterns), allow(other))


def test_a_deny_is_read_widely_and_an_allow_narrowly() -> None:
    assert not is_allowed("192.0.2.7", allow("192.0.2.7"), deny("*"))
    assert not is_allowed("example.org", allow("example.org", 22), deny("example.org"), port=22)
    assert is_allowed("example.org", allow("example.org", 22), deny("example.org", 443), port=22)
    assert [port for port in (22, 80, 443, 8443) if is_allowed("example.org", allow("*"), port=port)] == [80, 443]


def test_an_effect_that_nobody_knows_denies() -> None:
    assert not is_allowed("pypi.org", allow("pypi.org"), Rule("maybe", "pypi.org"))


@pytest.mark.parametrize(
    "host",
    ["", ".", "*", "*.pypi.org", "a b", "a..b", "-a.org", "a-.org", "x" * 64, "a." * 127 + "org", "127.1", "0x7f.1", "2130706433", "1.2.3",
     "01.2.3.4", "1.2.3.256", "a.1", "[1.2.3.4]", "[pypi.org]", "1::2::3", "fe80::1%eth0", "pypi.org:443", "u@pypi.org", "https://pypi.org",
     "pypi.org/x", "pypi.org\n", "pуpi.org", "\u212aa.org", "a\0b", "xn--bcher-kva.example\u200b"],
)  # fmt: skip
def test_what_is_no_host_is_denied_and_no_rule_can_name_it(host: str) -> None:
    verdict = egress.decide([allow("*"), allow(host)], host, 443)
    assert (verdict.is_allowed, verdict.rule) == (False, None)
    assert verdict.reason.startswith("the host must be ")
    if "*" not in host:
        with pytest.raises(ValidationError, match="must "):
            schema.SetEgress(agent="scout", effect="allow", host=host)


@given(st.text(max_size=40), RULES)
def test_a_text_of_any_kind_has_a_verdict(host: str, rules: list[Rule]) -> None:
    verdict = egress.decide(rules, host, 443)
    assert verdict.is_allowed <= any(rule.effect == "allow" for rule in rules)


# --- as rules name hosts


@pytest.mark.parametrize(
    ("host", "normal"),
    [
        ("PyPI.org", "pypi.org"),
        ("pypi.org.", "pypi.org"),
        ("*.PythonHosted.org.", "*.pythonhosted.org"),
        ("*", "*"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("my_bucket.s3.example", "my_bucket.s3.example"),
        ("r3---sn.example", "r3---sn.example"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("localhost", "localhost"),
    ],
)
def test_a_rule_s_host_has_one_form(host: str, normal: str) -> None:
    for request in (schema.SetEgress(agent="scout", host=host, effect="deny"), schema.DropEgress(agent="scout", host=host)):
        assert request.host == normal
    assert egress.pattern(normal) == normal


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("bücher.example", "must be ASCII; an international name is written in its A-labels, like xn--bcher-kva.example"),
        ("a.*.org", "must have its star alone, or in front as in *.pythonhosted.org"),
        ("**.org", "must have its star alone, or in front as in *.pythonhosted.org"),
        ("*.3.4", "must be a whole IP address if it ends in a number"),
        ("*.1.2.3.4", "must name an address as a whole"),
        ("*.", "must be a name like pypi.org or an IP address"),
        ("*.*", "must be a name like pypi.org or an IP address"),
        ("https://pypi.org/simple", "must be a name like pypi.org or an IP address, without scheme, path or user"),
    ],
)
def test_what_can_be_no_rule_s_host_is_refused_with_the_reason(host: str, says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        schema.SetEgress(agent="scout", effect="allow", host=host)
    assert says in refused.value.errors()[0]["msg"]


def test_ports_are_kept_in_order_and_once() -> None:
    assert schema.SetEgress(agent="scout", effect="allow", host="pypi.org", ports=[443, 80, 443]).ports == [80, 443]
    for ports in ([0], [65_536], [-1], list(range(1, 22))):
        with pytest.raises(ValidationError):
            schema.SetEgress(agent="scout", effect="allow", host="pypi.org", ports=ports)


# --- as people write them


@given(PATTERN, st.lists(st.integers(1, 65_535), max_size=3))
def test_hosts_and_ports_are_taken_apart_as_they_are_put_together(host: str, ports: list[int]) -> None:
    assert egress.split(egress.joined(host, ports)) == (host, ports)


@pytest.mark.parametrize(
    "text", ["", ":443", "a:", "a:,", "a:x", "a:80,", "a:-1", "a:٣", "a:999999", "[::1", "[::1]443", "[]:443", "https://a"]
)
def test_what_can_not_be_taken_apart_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no host; give one like"):
        egress.split(text)


@pytest.mark.parametrize("moment", [5, "5", "2030-01-01", "2030-01-01T12:00:00", "soon", None, True])
def test_a_contact_has_a_time_with_its_zone(moment: object) -> None:
    told = {"id": str(uuid4()), "linux_user": "scout", "host": "x", "port": 1, "verdict": "denied", "kind": "http"}
    for good in ("2030-01-01T12:00:00Z", "2030-01-01T13:00:00.000001+01:00"):
        assert schema.Contact.model_validate(told | {"began_at": good}, strict=True).began_at.utcoffset() is not None
    with pytest.raises(ValidationError):
        schema.Contact.model_validate(told | {"began_at": moment}, strict=True)
