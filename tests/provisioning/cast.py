"""Facts of a machine on which scout lives, or of one that never heard of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from colony import schema
from provisioning import birth, units
from provisioning.facts import Facts
from provisioning.record import Record
from provisioning.wish import Wish

RELEASE = Path("/opt/colony/releases/one")
RECORD = Record("scout", "command", "2030-01-01T12:00:00+00:00", is_born=True)
WISH = Wish("scout", "# Scout\n", runner="command", command=("/usr/bin/true",), watch=("general",), limits={"turns_per_hour": 5})
NOTHING = Facts(
    name="scout",
    release=RELEASE,
    record=None,
    has_record=False,
    member=None,
    apes={"ann": "ann", "bob": None},
    channels=frozenset({"general", "ops"}),
    has_account=False,
    is_foreign=False,
    has_home=False,
    is_home_complete=False,
    unit_files={},
    enabled=frozenset(),
    active=frozenset(),
    credentials={},
)


def member(**more: Any) -> schema.User:
    return schema.User(**{"id": 7, "username": "scout", "kind": "agent", "linux_user": "scout", "status": "healthy", **more})


def lives(**changes: Any) -> Facts:
    """All that there is of a scout that lives, but for the changes."""
    lasting = frozenset({units.worker("scout"), units.dream_timer("scout")})
    facts = replace(
        NOTHING,
        record=RECORD,
        has_record=True,
        member=member(),
        has_account=True,
        has_home=True,
        is_home_complete=True,
        enabled=lasting,
        active=lasting,
    )
    return replace(facts, **{"unit_files": birth.wanted_units(facts, RECORD), **changes})
