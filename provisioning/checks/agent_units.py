"""An agent's units: as they would be made now, enabled, at work, and no more exposed than they may be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from provisioning import places, units
from provisioning.checks import code
from provisioning.checks.finding import Finding, Findings, Unseen
from provisioning.checks.host_units import exposed
from provisioning.checks.resident import Resident
from provisioning.checks.scene import Scene
from provisioning.steps import Act, Enable, Reload, Start, Step, Write
from provisioning.systemd import UnitState

MANY_RESTARTS = 5


def files_as_made(scene: Scene, resident: Resident) -> Findings:
    """Whether the unit files say what this release and the agent's record want."""
    scene.require_own_code()
    scene.require_root()  # for the record
    if resident.record is None:
        raise Unseen("its record can't be read")
    if resident.release in (scene.release, None):
        wanted = units.render(resident.record, scene.release)
        yield from drift(resident.name, wanted, resident.unit_files, is_born=resident.is_born)


def drift(name: str, wanted: Mapping[str, str], present: Mapping[str, str], *, is_born: bool) -> Findings:
    """What is missing or differs. Mending it ends nothing that runs: the worker has the change when it starts again."""
    for unit, text in wanted.items():
        found = present.get(unit)
        if found == text:
            continue
        lasts = is_born and unit in (units.worker(name), units.dream_timer(name))
        acts: tuple[Act, ...] = (Write(places.UNITS / unit, text), Reload(), *((Enable((unit,)),) if lasts else ()))
        fix = Step("units", f"{unit} as it is made", acts)
        what = f"{unit} is not what it should be: its settings or template have changed" if found else f"{unit} is missing"
        yield Finding(name, what, f"colony-agent upgrade {name}", fix=fix)


def release(scene: Scene, resident: Resident) -> Findings:
    """Whether the code that its worker runs is there, and is the host's."""
    used = resident.release
    if used is None or used == scene.release:  # which is looked at by itself
        return
    upgrade = f"colony-agent upgrade {resident.name}"
    if lacks := code.missing(used):
        yield Finding(resident.name, f"its worker runs the release {used.name}, of which {lacks} is missing", upgrade)
    elif scene.release.parent == places.RELEASES:
        what = f"it runs the release {used.name}, and the host's is {scene.release.name}"
        if kept := past_the_gate(resident.unit_files.get(units.worker(resident.name), "")):
            yield Finding(resident.name, f"{what}; until its upgrade it has {' and '.join(kept)}, past the gate", upgrade)
        else:
            yield Finding(resident.name, what, upgrade, "warning")


def past_the_gate(unit: str) -> list[str]:
    """What the units of releases without a gate gave to agents, and this one still does."""
    lines = unit.splitlines()
    network = [] if "PrivateNetwork=yes" in lines else ["a network"]
    return network + (["a key"] if any(line.startswith("LoadCredential") for line in lines) else [])


def life(scene: Scene, resident: Resident) -> Findings:
    """Whether its worker and its dreams' timer run, and come again after a boot."""
    if not resident.is_born:
        return
    member = resident.member
    may_start = member is not None and member.status == "healthy" and resident.account is not None and resident.has_home
    for unit in (units.worker(resident.name), units.dream_timer(resident.name)):
        if unit in resident.unit_files:
            state = scene.systemd.state(unit)
            yield from judged(resident.name, state, unit in resident.enabled, may_start=may_start)
    yield from dreamt(resident.name, scene.systemd.state(units.dream(resident.name)))


def judged(name: str, state: UnitState, is_enabled: bool, *, may_start: bool) -> Findings:
    """What is wrong with its worker or its timer."""
    unit = state.name
    if state.load == "masked":
        yield Finding(name, f"{unit} is masked: it can't start", f"systemctl unmask {unit}; colony-agent upgrade {name}")
        return
    if state.load != "loaded":
        yield Finding(name, f"systemd does not take {unit} ({state.load})", f"colony-agent upgrade {name}; systemctl status {unit}")
        return
    if state.is_outdated:
        fix = Step("reload", f"that systemd has read {unit}", (Reload(),))
        remedy = f"systemctl daemon-reload; colony-agent restart {name}"
        yield Finding(name, f"{unit} was changed since systemd read it", remedy, "warning", fix)
    if not is_enabled:
        fix = Step("enable", f"that {unit} starts at boot", (Enable((unit,)),))
        yield Finding(name, f"{unit} is not enabled: it won't start at the next boot", f"systemctl enable {unit}", fix=fix)
    if state.active not in ("active", "activating", "reloading"):
        start = Step("start", f"that {unit} runs", (Start((unit,)),)) if may_start else None
        why = f" ({state.result}); colony-agent logs {name} says more" if state.active == "failed" else ""
        yield Finding(name, f"{unit} is {state.active}{why}", f"systemctl restart {unit}", fix=start)
    elif unit.endswith(".timer") and state.sub == "elapsed":
        yield Finding(name, f"{unit} will never come again", f"systemctl restart {unit}")
    if state.restarts >= MANY_RESTARTS:
        what = f"its worker has fallen over {state.restarts} times; colony-agent logs {name} says why"
        yield Finding(name, what, f"colony-agent restart {name}", "warning")


def dreamt(name: str, state: UnitState) -> Findings:
    if state.active == "failed":
        what = f"its last dream failed ({state.result}), so its memory is as it was; colony-agent logs {name} says more"
        yield Finding(name, what, f"colony-agent dream {name} --now", "warning")
    elif state.is_outdated:
        fix = Step("reload", f"that systemd has read {state.name}", (Reload(),))
        yield Finding(name, f"{state.name} was changed since systemd read it", "systemctl daemon-reload", "warning", fix)


def exposure(scene: Scene, resident: Resident) -> Findings:
    """Whether its services are sealed as they should be, with what was dropped in."""
    scene.systemd  # noqa: B018 it must be there to be asked
    worker = units.worker(resident.name)
    wanted = [unit for unit in (worker, units.dream(resident.name)) if unit in resident.unit_files]
    for unit, value in units.present_exposures(wanted).items():
        yield from exposed(resident.name, unit, value, f"colony-agent restart {resident.name}" if unit == worker else "")


def age(scene: Scene, resident: Resident) -> Findings:
    """Whether its worker runs with the unit that there is now: what seals it takes effect at its start only."""
    worker = units.worker(resident.name)
    path = places.UNITS / worker
    state = scene.systemd.state(worker)
    if state.active == "active" and path.exists():
        changed = max(each.stat().st_mtime for each in (path, *_drop_ins(path)))
        yield from younger(resident.name, state.started_at, changed)


def younger(name: str, started_at: float | None, changed_at: float) -> Findings:
    if started_at is not None and started_at < changed_at:
        what = "its worker has run since before its unit was changed, so not all of that is in force"
        yield Finding(name, what, f"colony-agent restart {name}", "warning")


def _drop_ins(path: Path) -> list[Path]:
    return list(path.with_name(f"{path.name}.d").glob("*.conf"))
