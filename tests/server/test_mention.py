"""Whom a text addresses."""

from __future__ import annotations

import re
import string
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony.schema import MAX_BODY_BYTES
from server.models import mention

ADDRESSED = [
    "@scout",
    "hello @scout",
    "@scout, please",
    "@scout.",
    "@scout!",
    "@scout?",
    "@scout: do it",
    "@scout's turn",
    "(@scout)",
    "[@scout]",
    '"@scout"',
    "*@scout*",
    "**@scout**",
    "— @scout",
    "@SCOUT",
    "@Scout",
    "@scout/@rook",
    "\t@scout\n",
    "你好@scout",
    "@scout，你好",
    "@scout …",
    "> @scout",
    "- @scout",
    "1. @scout",
    "# @scout",
    "| @scout |",
    "<@scout>",
    "a ` b @scout",
    "a ``` in the middle @scout",
    "`code` @scout `code`",
    "`` ` `` @scout",
    "`` a ` b @scout",
    "one ` tick\n\nand @scout in the next paragraph with `code`",
    "a tick ` in one\n   \n@scout and another ` here",
    "```\ncode\n```\n@scout",
    "~~~\ncode\n~~~\n@scout",
    "````\n```\n````\n@scout",
    "```\ncode\n```` \n@scout",
    "  ```\n  code\n  ```\n@scout",
    "``` not a fence ` with a tick\n@scout\n",
    "~~~ a`b\ncode\n~~~\n@scout",
    "@scout\r\nwindows",
    "`@rook`@scout",
    "@scout--",
    "@scout-",
    "mailto me, @scout; not to ann@example.org",
    "# a ` heading\n@scout says `hi`",
    "- a tick ` here\n- @scout please run `make`",
    "1. a tick ` here\n2. @scout please run `make`",
    "a tick ` here\n> @scout please run `make`",
    "a tick ` here\n***\n@scout please run `make`",
    "- ```\n  code\n  ```\n\n@scout, look",
    "- ```\n  code\n@scout outside of the list",
    "> ```\n> code\n\n@scout outside of the quote",
    "> ```\n> code\n> ```\n> @scout",
    "1. a\n   - b\n\n     ```\n     a ` tick\n\n     code\n     ```\n\n   @scout",
    "Setext `\n---\n@scout `x`",
    "two `spans\nover lines` @scout",
    "- item `a\n  b` @scout",
    r"an escaped \` tick, @scout, and \` another",
]

NOT_ADDRESSED = [
    "",
    "scout",
    "@ scout",
    "`@scout`",
    "``@scout``",
    "`` ` @scout ``",
    "`two\nlines @scout`",
    "```\n@scout\n```",
    "```python\n@scout\ndef f(): ...\n```",
    "~~~\n@scout\n~~~",
    "```\n@scout",
    "```\n~~~\n@scout\n```",
    "````\n```\n@scout\n````",
    "```\n@scout\n ``` x\n@scout",
    "  ```\n@scout\n  ```",
    "> ```\n> @scout\n> ```",
    "> `a\n> @scout`",
    "- ```\n  @scout\n  ```",
    "1. a\n   - b\n\n     ```\n     a ` tick\n\n     @scout\n     ```",
    "- `a\n  @scout`",
    "`a\n@scout` and **bold**",
    "> ```\n>\n> @scout\n> ```",
    "```\n- @scout\n> @scout\n# @scout\n```",
    r"\\`@scout`",
    r"\``@scout`",
    "ann@scout",
    "ann.b@scout",
    "ann+tag@scout",
    "ann_@scout",
    "ann-@scout",
    "ann%@scout",
    "ann@scout.org",
    "https://example.org/@scout",
    "https://ann:pw@scout/",
    "src/@scout/index.js",
    "@@scout",
    "@scout@example.org",
    "@scouts",
    "@scout2",
    "@scout_",
    "@scout-er",
    "@" + "s" * 32,
    "@1scout",
    "@_scout",
    "@-scout",
    "`@scout \\`",
]


@pytest.mark.parametrize("body", ADDRESSED)
def test_this_text_addresses_scout(body: str) -> None:
    assert "scout" in mention.find(body).usernames


@pytest.mark.parametrize("body", NOT_ADDRESSED)
def test_this_text_does_not_address_scout(body: str) -> None:
    assert "scout" not in mention.find(body).usernames


def test_broadcasts_address_kinds_and_nobody_of_that_name() -> None:
    found = mention.find("@agents and @APES, but not `@agents`")
    assert found == mention.Mentions(frozenset(), frozenset({"agent", "ape"}))


def test_a_mention_after_the_longest_name_still_counts() -> None:
    longest = "s" * 31
    assert mention.find(f"@{longest} @{longest}x @scout").usernames == {longest, "scout"}


@pytest.mark.parametrize(
    "unit",
    [
        "`",
        "` ",
        "`` ` ",
        "~",
        "@",
        "@a",
        "@a ",
        "@a@",
        "```\n",
        "~~~\n",
        "`\n\n",
        "\n",
        "a`" * 3,
        "@" + "a-" * 20,
        "\\`",
        "- `\n",
        "> `\n",
        "# `\n",
        " ",
        "\t",
        ">",
        "- ",
        "=",
        "* ",
        "\\",
    ],
)
def test_the_time_to_read_a_text_grows_with_its_size_and_no_faster(unit: str) -> None:
    require_linear(lambda size: (unit * size)[: size - 10] + "\n\n@scout")


def test_backtick_runs_of_every_length_take_no_longer() -> None:
    runs = " ".join("`" * length for length in range(1, 360))
    assert "scout" in mention.find(f"{runs} @scout").usernames
    require_linear(lambda size: runs[:size])


def require_linear(body_of: Callable[[int], str]) -> None:
    """Four times the text may take four times as long, and some noise; if each character looked at all others, it took sixteen times."""
    quarter, whole = cpu_seconds(body_of(MAX_BODY_BYTES // 4)), cpu_seconds(body_of(MAX_BODY_BYTES))
    assert whole < 0.2 or whole < 10 * quarter


def cpu_seconds(body: str) -> float:
    """The least of a few tries, which is the one that the machine disturbed least."""
    tries = []
    for _ in range(4):
        began = time.process_time()
        mention.find(body)
        tries.append(time.process_time() - began)
    return min(tries)


PIECES = [
    "@scout",
    "@rook",
    "@agents",
    "`",
    "``",
    "```",
    "~~~",
    "\n",
    "\n\n",
    " ",
    "a",
    ".",
    "-",
    ">",
    "#",
    "\\",
    "/",
    "@",
    "é",
    "\u2028",
    "\r\n",
]
texts = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@given(st.text() | texts)
def test_any_text_gives_names_that_stand_in_it(body: str) -> None:
    found = mention.find(body)
    assert all(f"@{name}" in body.lower() for name in found.usernames)
    assert all(re.fullmatch("[a-z][a-z0-9_-]{0,30}", name) for name in found.usernames)
    assert found.kinds <= {"ape", "agent"}


@given(texts)
def test_a_mention_in_a_paragraph_of_its_own_is_found_unless_a_fence_is_open(body: str) -> None:
    if not re.search(r"^ {0,3}(```|~~~)", body.replace("\u2028", "\n"), re.MULTILINE) and not re.search(r"^[ >#-]*(```|~~~)", body, re.M):
        assert "ann" in mention.find(f"{body}\n\n@ann\n\n{body}").usernames


@given(st.text(alphabet=string.printable + "é"))
def test_without_backticks_and_tildes_every_word_with_an_at_counts(text: str) -> None:
    plain = re.sub("[`~]", "", text)
    assert {"ann", "scout"} <= mention.find(f"@ann {plain} @scout").usernames


@given(texts, st.integers(1, 6))
def test_what_a_code_span_holds_addresses_nobody(text: str, ticks: int) -> None:
    inside = re.sub(r"[`\r\n\u2028]", "", text)
    assert not mention.find(f"see {'`' * ticks} {inside} {'`' * ticks} there").usernames


@given(texts)
def test_what_a_fence_holds_addresses_nobody(text: str) -> None:
    inside = text.replace("`", "")
    assert mention.find(f"```\n{inside}\n```\n@ann") == mention.Mentions(frozenset({"ann"}), frozenset())
