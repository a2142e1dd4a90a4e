"""Where an agent is to think, by what somebody says at its birth and by its soul."""

from __future__ import annotations

import pytest

from colony import errors
from colony_agent.birth_wish import Said, made
from provisioning.soul import Soul
from provisioning.wish import Wish


def wish(soul: Soul, sandbox: str | None = None) -> Wish:
    return made(Said("scout", soul, None, None, "command:/bin/true", sandbox, {}, (), None, True), None)


def test_it_thinks_in_bubblewrap_unless_somebody_says_otherwise() -> None:
    plain, contained = Soul("# Scout\n"), Soul("# Scout\n", sandbox="podman", image="/opt/image")
    assert "sandbox" not in wish(plain).agent
    assert {"sandbox": "podman", "image": "/opt/image"}.items() <= wish(contained).agent.items()


def test_what_is_said_at_the_birth_counts_more_than_the_soul() -> None:
    contained = wish(Soul("# Scout\n", sandbox="podman", image="/opt/image"), "podman").agent
    assert (contained["sandbox"], "image" in contained) == ("podman", False)
    assert "sandbox" not in wish(Soul("# Scout\n", sandbox="podman", image="/opt/image"), "bwrap").agent


@pytest.mark.parametrize("said", ["none", "docker", "podman:", "podman:tools", "podman:/etc/passwd"])
def test_another_sandbox_is_refused(said: str) -> None:
    with pytest.raises(errors.Invalid, match=r"is no sandbox|is no image|holds no root file system"):
        wish(Soul("# Scout\n"), said)
