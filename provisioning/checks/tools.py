"""The programs that turns need: bubblewrap, and Claude Code for those agents that think with it. They are tried, as an agent would."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from colony import errors
from provisioning import places, reach
from provisioning.checks import trial
from provisioning.checks.finding import HOST, Finding, Findings
from provisioning.checks.resident import Resident
from provisioning.checks.scene import Scene
from provisioning.host.facts import RESTRICTION

# The namespaces and mounts that a sandbox is made of.
SANDBOX = ("--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--", "/bin/true")
LOCK = "requirements/claude.lock"
_KNOBS = {  # kernel settings that keep namespaces from ordinary users, with the values that do
    Path("/proc/sys/kernel/unprivileged_userns_clone"): ("0", "sysctl kernel.unprivileged_userns_clone=1"),
    Path("/proc/sys/user/max_user_namespaces"): ("0", "sysctl user.max_user_namespaces=15000"),
}


def sandbox(scene: Scene, residents: Iterable[Resident]) -> Findings:
    """Whether an agent's user can make a sandbox here."""
    bwrap = Path("/usr/bin/bwrap")  # for which the AppArmor profile is, too
    if not bwrap.exists():
        yield Finding(HOST, f"{bwrap} is missing: no turn can run", "apt-get install bubblewrap")
        return
    user = next((each.name for each in residents if each.account), "nobody")
    if said := trial.complaint((str(bwrap), *SANDBOX), user, scene.is_root):
        yield Finding(HOST, f"{user} can't make a sandbox: {said}", _userns_remedy())


def claude(scene: Scene, residents: Iterable[Resident]) -> Findings:
    """Whether each release that an agent thinks with has the Claude Code that it pins, and agents can run it."""
    thinkers = [each for each in residents if each.record and each.record.runner == "claude"]
    releases = {each.release for each in thinkers if each.release and each.release.exists()}
    for release in sorted(releases | ({scene.release} if thinkers else set())):
        yield from _claude_of(release, scene)


def pinned(release: Path) -> Path | None:
    """Where the Claude Code of a release is, by its lock file; None where that says nothing."""
    try:
        version = (release / LOCK).read_text().split()[0].partition("==")[2]
    except (OSError, IndexError):
        return None
    return places.CLAUDE / version / "claude" if version else None


def _claude_of(release: Path, scene: Scene) -> Findings:
    link, wanted = release / ".venv/bin/claude", pinned(release)
    install = f"{release}/bin/prepare host"
    if wanted is None or not wanted.exists():
        yield Finding(HOST, f"the Claude Code of the release {release.name} is missing" + (f": {wanted}" if wanted else ""), install)
        return
    if link.resolve() != wanted:
        yield Finding(HOST, f"the release {release.name} runs another Claude Code than it pins: {link} leads to {link.resolve()}", install)
    try:
        reach.require_runnable(str(wanted))
    except errors.Invalid as error:
        yield Finding(HOST, error.detail, f"chmod -R a+rX {places.CLAUDE}")
        return
    if said := trial.complaint((str(wanted), "--version"), "nobody", scene.is_root):
        yield Finding(HOST, f"agents can't run {wanted}: {said}", f"rm {wanted}; {install}")


def _userns_remedy() -> str:
    if RESTRICTION.exists() and RESTRICTION.read_text().strip() == "1":
        return "colony-server install"  # which brings a profile
    for knob, (forbidden, remedy) in _KNOBS.items():
        if knob.exists() and knob.read_text().strip() == forbidden:
            return remedy
    return "allow ordinary users to make user namespaces (sysctl, AppArmor, SELinux); try: bwrap --unshare-all --ro-bind / / true"
