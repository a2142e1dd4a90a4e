"""The decision itself, against one that is made word by word."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from colony.operations import OPERATIONS
from colony.schema import KINDS, AclRow
from server.judgement import DEFAULTS, bare, covers, decide, may_pass_on

PAGE = Path(__file__).parents[2] / "docs/access.md"
principals = st.sampled_from(["scout", "ann", "agents", "apes", "role:editors"])
actions = st.sampled_from(["post", "read", "tool:post", "tool:read"])
scopes = st.sampled_from(["channel:general", "channel:garden", "channel:@own", "agent:scout", "agent:@own", "*"])
action_patterns = actions | st.sampled_from(["*", "tool:*"])
scope_patterns = scopes | st.sampled_from(["channel:*", "agent:*"])
rows = st.builds(
    AclRow,
    principal=principals,
    action=action_patterns,
    scope=scope_patterns,
    effect=st.sampled_from(["allow", "deny", "hold"]),
    grant_option=st.booleans(),
)


def naive(pattern: str, name: str) -> bool:
    """Segment by segment; a `*` at the end means one segment or more."""
    wanted, given = pattern.split(":"), name.split(":")
    if wanted[-1] == "*":
        return wanted[:-1] == given[: len(wanted) - 1] and len(given) >= len(wanted)
    return wanted == given


@given(st.lists(rows, max_size=8), st.frozensets(principals), st.lists(actions, min_size=1), st.lists(scopes, min_size=1))
def test_any_deny_wins_no_allow_is_one_and_then_any_hold_wins(
    found: list[AclRow], who: frozenset[str], what: list[str], where: list[str]
) -> None:
    meant = [
        row
        for row in found
        if row.principal in who and any(naive(row.action, each) for each in what) and any(naive(row.scope, each) for each in where)
    ]
    effects = {row.effect for row in meant}
    expected = "deny" if "deny" in effects or "allow" not in effects else "hold" if "hold" in effects else "allow"
    decision = decide(found, who, what, where)
    assert decision.effect == expected
    if effects <= {"hold"}:
        assert decision.row is None
    else:
        assert decision.row in meant
        assert decision.row.effect == expected
    assert decide(reversed(found), who, what, where).effect == expected


@given(action_patterns | scope_patterns, action_patterns | scope_patterns, actions | scopes)
def test_what_covers_a_pattern_covers_all_that_it_means(wide: str, narrow: str, name: str) -> None:
    assert covers(wide, name) == naive(wide, name)
    if covers(wide, narrow) and covers(narrow, name):
        assert covers(wide, name)


@given(st.lists(rows, max_size=6), rows.filter(lambda row: row.effect == "allow"), actions, scopes.filter(lambda scope: "@" not in scope))
def test_nobody_passes_on_what_they_may_not_do(found: list[AclRow], wanted: AclRow, action: str, scope: str) -> None:
    mine = [row.model_copy(update={"principal": "ann"}) for row in found]
    names, noun = sorted({action, bare(action)}), scope.partition(":")[0]
    places = [scope, f"{noun}:@own"] if ":" in scope else [scope]  # it may be anybody's own
    gains = decide([wanted.model_copy(update={"principal": "rook"})], frozenset({"rook"}), names, places).effect == "allow"
    if may_pass_on(mine, wanted, needs_grant=False) and gains:
        assert decide(mine, frozenset({"ann"}), names, places).effect == "allow"
    if may_pass_on(mine, wanted, needs_grant=True):
        assert may_pass_on(mine, wanted, needs_grant=False)
        assert any(row.grant_option for row in mine)


def test_the_page_says_what_holds_by_default() -> None:
    told = set()
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[1] in ("allow", "deny"):
            told |= {(cells[0], cells[1], action, cells[3].strip("`")) for action in re.findall(r"`([^`]+)`", cells[2])}
    assert told == {(row.principal, row.effect, row.action, row.scope) for row in DEFAULTS}


def test_every_default_speaks_of_what_there_is() -> None:
    for row in DEFAULTS:
        assert row.principal in KINDS
        assert bare(row.action) in {*OPERATIONS, "*"}
        assert OPERATIONS[bare(row.action)].who == "user" if row.action != "*" else True
        assert row.granted_by is None
