"""What the colony tells of an agent's surroundings."""

from __future__ import annotations

from provisioning import facts
from tests.server.samples import room
from tests.server.support import Colony, only_sqlite


@only_sqlite
def test_a_private_channel_is_there_for_the_agents_in_it(colony: Colony) -> None:
    room(colony, "scout")
    colony.open_channel("garden")
    everywhere = facts.watchable(colony.admin, "rook")
    assert everywhere >= {"general", "garden"}
    assert facts.watchable(colony.admin, "scout") == everywhere | {"attic"}
    assert "attic" not in facts.watchable(colony.admin, "not-born-yet")
