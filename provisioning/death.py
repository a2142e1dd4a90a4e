"""The death of an agent, thought out: which steps remove what there is of it. Nothing is changed here."""

from __future__ import annotations

from colony import errors, operations, schema
from provisioning import archives, packing, places, record, units
from provisioning.facts import Facts
from provisioning.steps import Ask, Disable, Folder, Reload, Remove, Run, Step, Stop

MAX_MEMORY_BYTES = 2**31  # of who archives; then the death fails, and not the host
# tar takes memory with the square of the depth, and an agent can nest folders as deep as it likes. No birth takes more out of an archive.
_LEFT_OUT = (
    *("--anchored", "--no-wildcards-match-slash", f"--exclude={'/'.join('*' * (packing.MAX_DEPTH + 1))}"),
    *("--wildcards-match-slash", f"--exclude={'?' * (packing.MAX_PATH_BYTES + 1)}*"),
)


def plan(facts: Facts, archive_name: str | None) -> list[Step]:
    """What is left to do until nothing of the agent is on this machine; its words stay in the colony.

    The home is archived under `archive_name`; None keeps nothing. Raises `NotFound` where there is no such agent.
    """
    if facts.is_foreign:
        raise errors.Conflict(f"the Linux user {facts.name} is no agent's")
    is_member = facts.member is not None and facts.member.kind == "agent" and facts.member.status != "dead"
    if is_member and facts.member and facts.member.linux_user != facts.name:
        raise errors.Conflict(f"{facts.name} lives elsewhere; only its status can be set from here: colony pause {facts.name}")
    steps: list[Step | None] = [
        _silence(facts) if is_member else None,
        _units(facts),
        _home(facts, archive_name) if facts.has_home else None,
        _backups(facts) if archive_name is None and facts.backups else None,
        _account(facts) if facts.has_account else None,
        _dead(facts) if is_member else None,
        _record(facts),
    ]
    found = [step for step in steps if step]
    if not found:
        raise errors.NotFound(f"no agent {facts.name} lives on this machine; `colony-agent status` lists who does")
    return found


def _silence(facts: Facts) -> Step | None:
    """Else its worker, which is stopped next, would be missed."""
    if facts.member and facts.member.status in ("healthy", "paused"):
        request = schema.SetStatus(agent=facts.name, status="draining", note="it dies")
        return Step("draining", f"that {facts.name} takes no more work", (Ask(operations.SET_STATUS, request),))
    return None


def _units(facts: Facts) -> Step | None:
    if not facts.unit_files and not facts.active and not facts.enabled:
        return None
    names = units.names(facts.name)
    gone = tuple(Remove(places.UNITS / name) for name in names)
    return Step("units", "the end of its services", (Stop(names), Disable(names), *gone, Reload()))


def _home(facts: Facts, archive_name: str | None) -> Step:
    staged = places.ARCHIVE / f".{facts.name}.new"  # there from an earlier death that was interrupted, perhaps
    gone = Remove(places.HOMES / facts.name), Remove(staged)
    if archive_name is None:
        return Step("home", "the end of its home", gone)
    target = places.ARCHIVE / archive_name
    options = ("--create", "--gzip", "--sparse", "--one-file-system", "--warning=no-file-ignored")
    known = record.path(facts.name)
    beside = (f"--transform=s,^{known.name}$,{archives.RECORD},SH", f"--directory={known.parent}", known.name) if facts.has_record else ()
    tar = ("prlimit", f"--as={MAX_MEMORY_BYTES}", "tar", *options, *_LEFT_OUT, f"--file={staged}")
    pack = Run((*tar, *beside, f"--directory={places.HOMES}", facts.name))
    rename = Run(("mv", "--no-target-directory", "--", str(staged), str(target)))
    return Step("home", f"the end of its home, which is kept in {target}", (Folder(places.ARCHIVE, 0o700), pack, rename, *gone))


def _backups(facts: Facts) -> Step:
    return Step("backups", "the end of the backups of its home", tuple(map(Remove, facts.backups)))


def _account(facts: Facts) -> Step:
    return Step("user", f"the end of the Linux user {facts.name}", (Run(("userdel", facts.name)),))


def _dead(facts: Facts) -> Step:
    request = schema.SetStatus(agent=facts.name, status="dead")
    return Step("dead", f"that {facts.name} is no longer part of the colony", (Ask(operations.SET_STATUS, request),))


def _record(facts: Facts) -> Step | None:
    if not facts.has_record:
        return None
    return Step("record", "the end of the host's record", (Remove(places.CREDENTIALS / facts.name), Remove(record.path(facts.name))))
