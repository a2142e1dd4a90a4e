"""A socket at which everybody may knock: whether they can."""

from __future__ import annotations

import stat
from pathlib import Path

from provisioning.checks.finding import HOST, Finding, Findings
from provisioning.steps import Run, Step

MODE = 0o666  # the kernel says who it is


def judged(path: Path, unit: str, user: str, trouble: str) -> Findings:
    """What is wrong with the socket of the unit, which runs as the user; `trouble` is what another mode means."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return  # that nobody answers there is said already
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISSOCK(facts.st_mode):
        yield Finding(HOST, f"{path} is no socket", f"systemctl restart {unit}")
    elif mode != MODE:
        # As the user, who could have put a link to something of root's there.
        fix = Step("socket", f"the mode of {path}", (Run(("chmod", f"{MODE:o}", str(path)), user=user),))
        yield Finding(HOST, f"{trouble}: {path} has the mode {mode:04o}, not {MODE:04o}", f"chmod {MODE:o} {path}", fix=fix)
