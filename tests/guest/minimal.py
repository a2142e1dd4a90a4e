"""What of the running system a guest gets to see and to start: a small Debian on which no Colony was ever installed."""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from pathlib import Path

# Empty in the guest: what this machine starts and keeps for itself, people's homes, and a Colony that its developer lives with.
EMPTY = (
    "etc/colony",
    "etc/systemd/system",
    "home",
    "opt/colony",
    "root",
    "usr/local/lib/systemd",
    "var/lib/colony",
    "var/lib/systemd",
    "var/log/journal",
)
ABSENT = ("etc/fstab", "usr/local/bin/colony", "usr/local/bin/colony-agent", "usr/local/bin/colony-server")

# Of what Debian's packages start at boot, the guest starts these. The rest is slow, noisy or means hardware.
STARTED = frozenset({
    "dbus.service",
    "dbus.socket",
    "systemd-journal-flush.service",
    "systemd-journald-dev-log.socket",
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-logind.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-tmpfiles-setup.service",
    "systemd-user-sessions.service",
})  # fmt: skip
VENDOR = ("lib/systemd", "usr/lib/systemd")


def hide(upper: Path) -> None:
    """Empty those folders in the upper directory of an overlay that is not mounted yet; a million files take no longer than one."""
    for name in EMPTY:
        if (Path("/") / name).is_dir():
            os.setxattr(_like_below(upper, Path(name)), "trusted.overlay.opaque", b"y")
    for name in ABSENT:
        if os.path.lexists(Path("/") / name):
            _like_below(upper, Path(name).parent)
            os.mknod(upper / name, stat.S_IFCHR, os.makedev(0, 0))  # so says overlayfs that there is none


def trim(root: Path) -> None:
    """Start only what a small Debian starts, and know nobody of a Colony."""
    for vendor in VENDOR:
        for wish in [*(root / vendor / "system").glob("*.wants/*"), *(root / vendor / "system").glob("*.requires/*")]:
            if wish.name not in STARTED:
                wish.unlink()
        # They would make units of this machine's file systems, databases and old init scripts.
        for generator in (root / vendor / "system-generators").glob("*"):
            generator.unlink()
    (root / "etc/systemd/system/default.target").symlink_to("/lib/systemd/system/multi-user.target")
    (root / "var/log/journal").mkdir(exist_ok=True)  # it makes the journal persistent
    _forget_users(root)


def christen(root: Path, name: str) -> None:
    """Give it a host name and a machine-id of its own."""
    (root / "etc/hostname").write_text(f"{name}\n")
    (root / "etc/machine-id").unlink(missing_ok=True)
    (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")


def _like_below(upper: Path, name: Path) -> Path:
    """That folder in the upper directory, as it is in the running system."""
    made = upper
    for part in name.parts:
        made = made / part
        if not made.exists():
            made.mkdir()
            original = Path("/") / made.relative_to(upper)
            shutil.copystat(original, made)
            os.chown(made, original.stat().st_uid, original.stat().st_gid)
    return made


def _forget_users(root: Path) -> None:
    accounts = [line.split(":") for line in (root / "etc/passwd").read_text().splitlines()]
    known = {line[0] for line in accounts if line[5] == "/var/lib/colony" or line[5].startswith("/home/agents/")}
    known |= {"colony", "colony-agents"}
    for name in ("passwd", "group", "shadow", "gshadow"):
        file = root / "etc" / name
        lines = file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.partition(":")[0] not in known]
        if kept != lines:
            file.write_text("".join(kept))
