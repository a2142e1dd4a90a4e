"""What agents must prove to others, such as the key of the model's API: encrypted by systemd, and readable in the gate alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

from colony import egress, errors
from provisioning import places

KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")  # one of them is enough for Claude Code
BASE_URL = "ANTHROPIC_BASE_URL"
KNOWN = (*KEYS, BASE_URL)
MAX_BYTES = 8192


def given(agent: str) -> dict[str, Path]:
    """The files of those that an agent gets: its own, else those of all agents."""
    found = {name: next(filter(Path.exists, (_file(name, agent), _file(name, None))), None) for name in KNOWN}
    return {name: file for name, file in found.items() if file}


def loaded() -> dict[str, Path]:
    """The files of all, by the names under which the gate's service gets them: an agent's own begins with its name and a dot."""
    return {_name(name, agent): _file(name, agent or None) for agent, names in stored().items() for name in names}


def store(name: str, value: str, agent: str | None) -> None:
    """Keep it, for one agent or for all; only systemd can read it again. Raises `Invalid` for what can't be one."""
    _require_known(name)
    if not value or not value.isascii() or not value.isprintable() or " " in value or len(value) > MAX_BYTES:
        raise errors.Invalid(f"that is no {name}: it must be one line of printable characters")
    if name == BASE_URL:
        value = egress.model_url(value)
    file = _file(name, agent)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    staged = file.with_name(f".{file.name}.new")
    staged.unlink(missing_ok=True)
    argv = ["systemd-creds", "encrypt", "--with-key=host", f"--name={_name(name, agent)}", "-", str(staged)]
    done = subprocess.run(argv, input=value, capture_output=True, text=True)
    if done.returncode:
        raise errors.Unavailable(f"systemd-creds: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
    staged.chmod(0o600)
    staged.rename(file)


def remove(name: str, agent: str | None) -> None:
    """Raises `NotFound`."""
    _require_known(name)
    try:
        _file(name, agent).unlink()
    except FileNotFoundError:
        raise errors.NotFound(f"there is no {name} {f'of {agent}' if agent else 'for all agents'}") from None


def stored() -> dict[str, list[str]]:
    """The names of what is kept, by whom it is for; "" is for all agents."""
    files = sorted(places.CREDENTIALS.glob("**/*")) if places.CREDENTIALS.is_dir() else []
    found: dict[str, list[str]] = {}
    for file in files:
        if file.is_file() and file.name in KNOWN:
            found.setdefault("" if file.parent == places.CREDENTIALS else file.parent.name, []).append(file.name)
    return found


def _require_known(name: str) -> None:
    if name not in KNOWN:
        raise errors.Invalid(f"unknown credential {name}; known are {', '.join(KNOWN)}")


def _name(name: str, agent: str | None) -> str:
    return f"{agent}.{name}" if agent else name


def _file(name: str, agent: str | None) -> Path:
    return places.CREDENTIALS / agent / name if agent else places.CREDENTIALS / name
