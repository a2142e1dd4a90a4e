"""A soul in words: the file that is written of it is the soul that is read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioning.soul import Limits, Soul, load
from provisioning.soul_words import changes, flat, written

TEXT = "# Scout\n\n---\nYou are scout.\n"
WHOLE = Limits(budget_usd_per_day=2.5, turns_per_hour=30, posts_per_turn=0, memory_max=3 * 2**29, home_max=2**40, turn_timeout_seconds=600)


@pytest.mark.parametrize(
    "soul",
    [
        Soul(TEXT),
        Soul(TEXT, "scout", ("general", "ops"), "claude", (), "claude-sonnet-5", WHOLE, 0, ("pypi.org", "*.x.org:443,8443", "2001:db8::1")),
        Soul(TEXT, "scout", (), "claude", (), "", Limits(turns_per_hour=1), 30),
        Soul(
            TEXT,
            "no",
            ("123", "true", "null", "1e5", "2001-01-01"),
            "command",
            ("sh", "-c", "echo 'a: b' # \"c\"", "", "snow \N{SNOWMAN}\N{FOX FACE}"),
        ),
        Soul(TEXT, sandbox="bwrap"),
        Soul(TEXT, sandbox="podman"),
        Soul(TEXT, runner="command", command=("a" * 300, "b " * 300)),
    ],
)
def test_what_is_written_reads_the_same(soul: Soul, tmp_path: Path) -> None:
    file = tmp_path / "soul.md"
    file.write_text(written(soul))
    assert load(file) == soul


def test_every_key_that_a_soul_can_have_is_written_and_has_its_words() -> None:
    soul = Soul(TEXT, "scout", ("general",), "claude", (), "claude-sonnet-5", WHOLE, 0, ("pypi.org",), "podman", "/opt/image")
    assert None not in flat(soul).values()
    for key in flat(soul).keys() - {"command", "image"}:
        assert f"{key}:" in written(soul)


def test_a_difference_is_told_as_people_say_it() -> None:
    one = Soul(TEXT, model="", command=("sh",), limits=Limits(memory_max=2**30, budget_usd_per_day=2.5))
    other = Soul(TEXT, model="opus", command=("sh", "a b"), limits=Limits(memory_max=2**31), pulse_minutes=0)
    assert changes(one, one, *flat(one)) == []
    assert changes(one, other, "model", "command", "memory_max", "budget_usd_per_day", "pulse_minutes") == [
        "model default → opus",
        "command sh → sh 'a b'",
        "memory_max 1G → 2G",
        "budget_usd_per_day 2.5 → none",
        "pulse_minutes none → 0",
    ]
