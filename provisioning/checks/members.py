"""Members of the colony whom their Linux user should speak for."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from colony import schema
from provisioning.checks.finding import HOST, Finding, Findings
from provisioning.checks.scene import Scene


def strays(scene: Scene) -> Findings:
    yield from judged(scene.colony.users.values(), scene.accounts.keys())


def judged(users: Iterable[schema.User], accounts: Collection[str]) -> Findings:
    """Those whose Linux user this machine does not have: whoever gets that name later speaks as them."""
    for user in users:
        if user.linux_user is None or user.linux_user in accounts or user.status == "dead":
            continue
        if user.kind == "agent" and user.linux_user == user.username:
            continue  # an agent that should live here: that is looked at with what is left of it
        who = f"{user.username} of the colony is the Linux user {user.linux_user}"
        what = f"{who}, who does not exist: whoever gets that name speaks as them"
        yield Finding(HOST, what, f"useradd --system --shell /usr/sbin/nologin {user.linux_user}", "warning")
