"""An agent's units: written from templates, and checked before they are used."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from colony import errors
from provisioning import places
from provisioning.record import Record

TEMPLATES = Path(__file__).resolve().parents[1] / "systemd"
SLICE = "colony-agents.slice"  # of all agents' services
MAX_EXPOSURE = 2.5  # of 10, as `systemd-analyze security` counts
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def worker(name: str) -> str:
    return f"agent-{name}-worker.service"


def dream(name: str) -> str:
    return f"agent-{name}-dream.service"


def dream_timer(name: str) -> str:
    return f"agent-{name}-dream.timer"


def names(name: str) -> tuple[str, ...]:
    """An agent's units, in the order in which they are stopped."""
    return dream_timer(name), worker(name), dream(name)


def lasting(name: str) -> tuple[str, str]:
    """Those that are active while the agent lives."""
    return worker(name), dream_timer(name)


def render(record: Record, release: Path) -> dict[str, str]:
    """An agent's unit files by their names."""
    values = {
        "name": record.name,
        "home": places.HOMES / record.name,
        "record": places.RECORDS / f"{record.name}.toml",
        "release": release,
        "memory_max_bytes": record.memory_max_bytes,
        "home_max_bytes": record.home_max_bytes,
    }
    return {
        worker(record.name): write("agent-worker.service.j2", values),
        dream(record.name): write("agent-dream.service.j2", values),
        dream_timer(record.name): write("agent-dream.timer.j2", values),
    }


def write(template: str, values: Mapping[str, object]) -> str:
    """One unit file. Raises jinja2's `UndefinedError` for a value that is missing."""
    return _environment().get_template(template).render(values)


def check(files: Mapping[str, str]) -> None:
    """Raises `Invalid` with what `systemd-analyze verify` complains about, or for a service that is more exposed than it may be."""
    if not files:
        return
    with tempfile.TemporaryDirectory(prefix="colony-units-") as folder:
        paths = [Path(folder) / name for name in files]
        for path in paths:
            path.write_text(files[path.name])
        # The generators would look at the whole machine, man pages and drop-ins are nobody's business here.
        verified = _analyze("verify", "--man=no", "--generators=no", "--recursive-errors=no", *map(str, paths))
        if complaints := _complaints(verified.stderr, folder) or (verified.returncode and "it says not why"):
            raise errors.Invalid(f"systemd does not take the unit: {complaints}")
        for name, found in exposures([path for path in paths if path.suffix == ".service"]).items():
            if found > MAX_EXPOSURE:
                raise errors.Invalid(f"{name} is too exposed: {found}, and {MAX_EXPOSURE} is allowed; see systemd-analyze security")


def exposures(services: Sequence[Path]) -> dict[str, float]:
    """How exposed the services in those files are, from 0 (not at all) to 10; by their names."""
    found = _exposures("--offline=yes", *map(str, services))
    if missing := {path.name for path in services} - found.keys():
        raise errors.Unavailable(f"systemd-analyze security said nothing of {', '.join(sorted(missing))}")
    return found


def present_exposures(services: Sequence[str]) -> dict[str, float]:
    """The same of services of this machine as systemd knows them, with all that was dropped in; by the names of those that are there."""
    return _exposures("--", *services) if services else {}


def _exposures(*words: str) -> dict[str, float]:
    said = _analyze("security", "--no-pager", *words).stdout
    return {name: float(value) for name, value in re.findall(r"exposure level for (\S+): ([0-9.]+) ", said)}


def _complaints(stderr: str, folder: str) -> str:
    """What is said of our files: verify speaks of other units of the machine, too."""
    lines = (line.strip() for line in stderr.splitlines())
    return "; ".join(line.replace(f"{folder}/", "") for line in lines if folder in line or line.startswith(("agent-", "colony-")))


def _analyze(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, env=_ENVIRONMENT)
    except FileNotFoundError as error:
        raise errors.Unavailable("systemd-analyze is missing: apt-get install systemd") from error


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    return Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
