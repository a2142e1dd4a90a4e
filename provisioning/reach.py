"""Whether an agent will be able to run a program: known before it is born."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

from colony import errors

PATH = "/usr/local/bin:/usr/bin:/bin"
HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # from every agent's service


PODMAN = ("podman", "crun", "catatonit")  # Debian packages, each with a program of its name


def require_podman() -> None:
    """Raises `Invalid` where agents can have no containers."""
    if missing := [program for program in PODMAN if not shutil.which(program, path=PATH)]:
        raise errors.Invalid(f"{missing[0]} is not installed: apt-get install {' '.join(missing)}")


def require_runnable(program: str) -> Path:
    """Where it really is. Raises `Invalid` for a program that is not there, or not for everybody."""
    found = shutil.which(program, path=PATH)
    if not found:
        raise errors.Invalid(f"there is no program {program}")
    real = Path(found).resolve()
    if any(real.is_relative_to(folder) for folder in HIDDEN):
        raise errors.Invalid(f"agents don't see {real}; put it where all may read it, as in /usr/local or /opt")
    for path in (*reversed(real.parents), real):
        needed = 0o001 if path != real else 0o005
        if stat.S_IMODE(path.stat().st_mode) & needed != needed:
            raise errors.Invalid(f"agents can't run {real}: {path} is not for everybody (chmod o+rx)")
    return real
