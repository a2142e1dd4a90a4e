"""The host's own units: as they would be made now, enabled, at work, and no more exposed than they may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from provisioning import credentials, places, units
from provisioning.checks import writers
from provisioning.checks.finding import HOST, Finding, Findings
from provisioning.checks.scene import Scene
from provisioning.host import files
from provisioning.steps import Enable, Reload, Run, Start, Step, Write
from provisioning.systemd import UnitState

INSTALL = "colony-server install"
_RELEASE = re.compile(rf"^ExecStart={re.escape(str(places.RELEASES))}/([^/\s]+)", re.MULTILINE)


def files_as_made(scene: Scene) -> Findings:
    """Whether the unit files say what this release and the settings want."""
    scene.require_own_code()
    wanted = files.render(scene.release, scene.settings, credentials.loaded())
    present = {name: path.read_text(errors="replace") for name in files.unit_names() if (path := places.UNITS / name).is_file()}
    yield from drift(wanted, present)


def drift(wanted: Mapping[str, str], present: Mapping[str, str]) -> Findings:
    """What differs. A unit that runs another release is an upgrade's business, since the database may be another, too."""
    for name, text in wanted.items():
        found = present.get(name)
        if found == text:
            continue
        if found is None:
            yield Finding(HOST, f"the unit {name} is missing", INSTALL)
        elif _RELEASE.findall(found) != _RELEASE.findall(text):
            yield Finding(HOST, f"{name} runs another release than the host's: an install was interrupted", INSTALL)
        else:
            fix = Step("units", f"{name} as it is made", (Write(places.UNITS / name, text), Reload()))
            yield Finding(HOST, f"{name} was changed; changes belong into a drop-in: systemctl edit {name}", INSTALL, fix=fix)
    for name in present.keys() - wanted.keys():
        yield Finding(HOST, f"{name} is of no use with these settings", INSTALL, "warning")


def safety(scene: Scene) -> Findings:
    """Whether root alone may change what systemd runs for the colony, its agents included."""
    for path in sorted((*places.UNITS.glob("colony*"), *places.UNITS.glob("agent-*"))):
        if how := writers.besides_root(path.lstat()):
            acts = (Run(("chown", "--no-dereference", "root:root", str(path))), Run(("chmod", "go-w", str(path))))
            fix = Step("units", f"{path} for root alone", acts)
            yield Finding(HOST, f"{path} is not root's alone: {how}", f"chown root:root {path}; chmod go-w {path}", fix=fix)


def life(scene: Scene) -> Findings:
    """Whether what should always be there is there, and nothing has failed."""
    for name in files.unit_names():
        if (places.UNITS / name).exists() and not name.endswith(".slice"):
            yield from judged(scene.systemd.state(name), scene.systemd.is_enabled(name))


def judged(state: UnitState, is_enabled: bool) -> Findings:
    """What is wrong with one of the units."""
    name = state.name
    if state.load == "masked":
        yield Finding(HOST, f"{name} is masked: it can't start", f"systemctl unmask {name}; {INSTALL}")
        return
    if state.load != "loaded":
        yield Finding(HOST, f"systemd does not take {name} ({state.load})", f"systemctl status {name}; {INSTALL}")
        return
    if state.is_outdated:
        fix = Step("reload", f"that systemd has read {name}", (Reload(),))
        yield Finding(HOST, f"{name} was changed since systemd read it", "systemctl daemon-reload", "warning", fix)
    if _lasts(name):
        yield from _lasting(state, is_enabled)
    elif state.active == "failed":
        yield Finding(HOST, f"{name} has failed ({state.result})", f"journalctl -u {name}; systemctl start {name}", "warning")


def exposure(scene: Scene) -> Findings:
    """Whether they are sealed as they should be, with what was dropped in."""
    scene.systemd  # noqa: B018 it must be there to be asked
    found = units.present_exposures([name for name in files.unit_names() if name.endswith(".service") and (places.UNITS / name).exists()])
    for name, value in found.items():
        yield from exposed(HOST, name, value, f"systemctl restart {name}" if _lasts(name) else "")


def exposed(subject: str, name: str, value: float, then: str) -> Findings:
    if value > units.MAX_EXPOSURE:
        remedy = f"systemctl revert {name}" + (f"; {then}" if then else "")
        dropped = "" if not drop_ins(name) else f"; see {', '.join(map(str, drop_ins(name)))}"
        yield Finding(subject, f"{name} is too exposed: {value}, and {units.MAX_EXPOSURE} is allowed{dropped}", remedy)


def drop_ins(name: str) -> list[Path]:
    return sorted((places.UNITS / f"{name}.d").glob("*.conf"))


def _lasting(state: UnitState, is_enabled: bool) -> Findings:
    name = state.name
    if not is_enabled:
        fix = Step("enable", f"that {name} starts at boot", (Enable((name,)),))
        yield Finding(HOST, f"{name} is not enabled: it won't start at the next boot", f"systemctl enable {name}", fix=fix)
    if state.active not in ("active", "activating", "reloading"):
        fix = Step("start", f"that {name} runs", (Start((name,)),))
        why = f" ({state.result})" if state.active == "failed" else ""
        yield Finding(HOST, f"{name} is {state.active}{why}", f"systemctl restart {name}", fix=fix)
    elif name.endswith(".timer") and state.sub == "elapsed":
        yield Finding(HOST, f"{name} will never come again", f"systemctl restart {name}")


def _lasts(name: str) -> bool:
    return name in files.LASTING or name.endswith(".timer")
