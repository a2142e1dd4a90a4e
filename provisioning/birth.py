"""The birth of an agent, thought out: from what there is and what is wanted to the steps that are missing. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from colony import egress, errors, operations, schema
from provisioning import credentials, places, record, units
from provisioning.facts import COMMENT, Facts
from provisioning.record import Record
from provisioning.steps import Ask, Enable, Folder, Reload, Run, Settle, Start, Step, Write
from provisioning.wish import Wish

WELCOME = "@{name} welcome: you have just been born. Introduce yourself, in two or three sentences. Who are you, and what are you good for?"
WELCOME_BACK = (
    "@{name} welcome back: your home was brought here from the archive {origin}, and what was said or done since then is not in it. "
    "Say in two or three sentences who you are, and what you were at."
)
WELCOMED_IN = "general"


def plan(facts: Facts, wish: Wish) -> list[Step]:
    """What is missing; nothing for an agent that lives as wished. Raises `Conflict` or `Invalid` when it can't be born here."""
    _require_possible(facts, wish)
    made = Record(wish.name, wish.runner, record.now(), wish.memory_max_bytes, wish.home_max_bytes, repo=wish.repo)
    known = facts.record or made
    if wish.origin:
        known = replace(known, origin=wish.origin)
    settled = _home(facts, wish)
    steps: list[Step | None] = [
        _record(facts, known),
        _member(facts, wish),
        _owner(facts, wish),
        _account(facts),
        settled,
        _limits(facts, wish),
        _watches(facts, wish),
        None if facts.is_born or not wish.egress else egress_step(wish.name, wish.egress),
        _units(facts, known, wish),
        life_step(facts, is_new_home=settled is not None and not facts.has_home) if wish.start else None,
        *(() if facts.is_born or not wish.start else (_healthy(wish.name), _welcome(known), _end(known))),
    ]
    return [step for step in steps if step]


def wanted_units(facts: Facts, known: Record) -> dict[str, str]:
    """The unit files that the agent should have."""
    return units.render(known, facts.release)


def changed_units(facts: Facts, known: Record) -> tuple[Write, ...]:
    """Those that are missing or differ."""
    wanted = wanted_units(facts, known)
    return tuple(Write(places.UNITS / name, text) for name, text in wanted.items() if facts.unit_files.get(name) != text)


def require_key(facts: Facts) -> None:
    """Raises `Invalid` where nothing would let Claude Code in."""
    if not facts.credentials.keys() & {*credentials.KEYS}:
        raise errors.Invalid(f"Claude Code needs a key: sudo colony-agent credential set {credentials.KEYS[0]}")


def require_channels(facts: Facts, watch: Iterable[str]) -> None:
    """Raises `NotFound` for channels that are not there."""
    if missing := sorted({*watch} - facts.channels):
        raise errors.NotFound(f"there is no channel {', '.join(missing)} to watch; colony create-channel makes one")


def watch_step(name: str, channels: Sequence[str]) -> Step:
    """The agent asks for it itself: nobody watches for another."""
    asks = tuple(Ask(operations.WATCH, schema.WatchChannel(channel=channel), user=name) for channel in channels)
    return Step("watch", f"that it watches {', '.join(channels)}", asks)


def egress_step(name: str, targets: Sequence[str]) -> Step:
    """It may reach them: HOST[:PORT[,PORT]…]."""
    rules = (egress.split(target) for target in targets)
    requests = (schema.SetEgress(agent=name, effect="allow", host=host, ports=ports) for host, ports in rules)
    return Step("egress", f"that it may reach {', '.join(targets)}", tuple(Ask(operations.SET_EGRESS, request) for request in requests))


def life_step(facts: Facts, *, is_new_home: bool = False) -> Step | None:
    """A worker that runs has the home that was there when it began."""
    if is_new_home and facts.active:
        return Step("start", "its worker", (Start(units.lasting(facts.name), restart=True),))
    missing = tuple(name for name in units.lasting(facts.name) if name not in facts.active)
    return Step("start", "its worker", (Start(missing),)) if missing else None


def _require_possible(facts: Facts, wish: Wish) -> None:
    name = record.checked_name(wish.name)
    if facts.is_foreign:
        raise errors.Conflict(f"a Linux user or group {name} is there already and is no agent's; choose another name")
    _require_one_origin(facts, wish)
    if facts.member and facts.member.kind != "agent":
        raise errors.Conflict(f"{name} is one of the colony's {facts.member.kind}s; choose another name")
    if facts.member and facts.member.status != "dead" and facts.member.linux_user != name:
        raise errors.Conflict(f"{name} is an agent of this colony that lives elsewhere; choose another name")
    if facts.record and facts.record.runner != wish.runner:
        if facts.is_born:
            raise errors.Conflict(f"{name} lives, and runs {facts.record.runner}; for {wish.runner}: colony-agent soul set {name} FILE")
        raise errors.Conflict(f"{name} runs {facts.record.runner} already; for {wish.runner} it must die first: colony-agent death {name}")
    if facts.is_born and facts.record and not wish.archive and wish.repo not in ("", facts.record.repo):
        has = f"a clone of {facts.record.repo}" if facts.record.repo else "no repository"
        raise errors.Conflict(f"{name} lives, with {has}; another one it gets at a birth from its archive: colony-agent death {name}")
    if wish.runner == "claude" and not facts.is_born:
        require_key(facts)
    if wish.owner and wish.owner not in facts.apes:
        raise errors.NotFound(f"no person of this colony is called {wish.owner}; colony users lists everyone")
    require_channels(facts, wish.watch)


def _require_one_origin(facts: Facts, wish: Wish) -> None:
    """A home is of one archive or of none, and none that is there is written over."""
    begun = facts.record.origin if facts.record else ""
    may_go_on = begun == wish.origin and (facts.is_home_complete or not (facts.record and facts.record.is_born))
    if wish.origin and facts.has_home and not may_go_on:
        raise errors.Conflict(f"{facts.name} has a home already: {_path(facts)}; it must go first: colony-agent death {facts.name}")
    if begun and not wish.origin and not facts.is_home_complete and not (facts.record and facts.record.is_born):
        raise errors.Conflict(
            f"{facts.name} was to have its home from {begun}: repeat the birth with --from, or colony-agent death {facts.name}"
        )


def _record(facts: Facts, known: Record) -> Step | None:
    if facts.record == known:
        return None
    return Step("record", f"the host's record of {known.name}", (Write(known.path, known.text),))


def _member(facts: Facts, wish: Wish) -> Step | None:
    if facts.member and facts.member.status != "dead":
        return None
    callers = (name for name, linux_user in facts.apes.items() if wish.caller and linux_user == wish.caller)
    owner = wish.owner or next(callers, None)
    request = schema.CreateUser(username=facts.name, kind="agent", linux_user=facts.name, owner=owner)
    says = f"{facts.name} in the colony" + (f", as {owner}'s" if owner else "")
    return Step("member", says, (Ask(operations.CREATE_USER, request),))


def _owner(facts: Facts, wish: Wish) -> Step | None:
    """Only who is named takes an agent over from somebody else."""
    member = facts.member
    if member is None or member.status == "dead" or wish.owner in (None, member.owner):
        return None
    request = schema.SetOwner(agent=facts.name, owner=wish.owner)
    return Step("owner", f"that {facts.name} is {wish.owner}'s", (Ask(operations.SET_OWNER, request),))


def _account(facts: Facts) -> Step | None:
    if facts.has_account:
        return None
    argv = ("useradd", "--system", "--user-group", "--groups", places.AGENTS_GROUP, "--no-create-home", "--shell", "/usr/sbin/nologin")
    return Step("user", f"the Linux user {facts.name}", (Run((*argv, "--home-dir", str(_path(facts)), "--comment", COMMENT, facts.name)),))


def _home(facts: Facts, wish: Wish) -> Step | None:
    if facts.is_home_complete:
        return None
    path = _path(facts)
    connection = {"url": f"unix:{places.SOCKET}"}  # no token: the kernel says who calls
    made = Folder(path, 0o700, facts.name, facts.name)
    repo = wish.repo if wish.archive or not facts.is_born else ""
    says = f"its home {path}" + (f" from {wish.archive}" if wish.archive else "") + (f" with a clone of {repo}" if repo else "")
    is_first = not (facts.is_born or wish.archive)
    return Step("home", says, (made, Settle(path, facts.name, wish.soul, connection, wish.agent, repo or None, is_first, wish.archive)))


def _limits(facts: Facts, wish: Wish) -> Step | None:
    if facts.is_born or not wish.limits:
        return None
    request = schema.SetLimits.model_validate({"agent": facts.name, **wish.limits})
    return Step("limits", "its limits", (Ask(operations.SET_LIMITS, request),))


def _watches(facts: Facts, wish: Wish) -> Step | None:
    return None if facts.is_born or not wish.watch else watch_step(facts.name, wish.watch)


def _units(facts: Facts, known: Record, wish: Wish) -> Step | None:
    changed = changed_units(facts, known)
    wanted = tuple(name for name in units.lasting(facts.name) if wish.start and name not in facts.enabled)
    if not changed and not wanted:
        return None
    # Units that systemd has never seen are read when they start; a reload runs all the machine's generators.
    is_known = any(act.path.name in facts.unit_files for act in changed)
    return Step("units", "its units", (*changed, *((Reload(),) if is_known else ()), *((Enable(wanted),) if wanted else ())))


def _healthy(name: str) -> Step:
    request = schema.SetStatus(agent=name, status="healthy")
    return Step("healthy", f"that {name} may work", (Ask(operations.SET_STATUS, request),))


def _welcome(known: Record) -> Step:
    body = (WELCOME_BACK if known.origin else WELCOME).format(name=known.name, origin=known.origin)
    request = schema.PostMessage(channel=WELCOMED_IN, body=body, client_id=f"birth:{known.name}:{known.born_at}")
    return Step("welcome", f"a welcome in #{WELCOMED_IN}", (Ask(operations.POST, request),))


def _end(known: Record) -> Step:
    return Step("born", "that nothing is missing", (Write(known.path, replace(known, is_born=True).text),))


def _path(facts: Facts) -> Path:
    return places.HOMES / facts.name
