"""Whom a message in a private channel reaches, against the plainest way to say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colony import operations, schema
from colony.client import Client
from server.models.inbox import inbox
from server.models.user import users
from tests.server.rooms import add, wrong
from tests.server.samples import room
from tests.server.support import Colony, only_sqlite

PEOPLE = {"ann": "ape", "bob": "ape", "cora": "ape"}
EVERYONE = PEOPLE | {"scout": "agent", "rook": "agent", "newt": "agent", "gate": "gateway", "bell": "service"}
GONE = {"ghost": "ape"}  # who has left the colony
some = st.sets(st.sampled_from(sorted(EVERYONE)))


@dataclass(frozen=True)
class Scene:
    """A private channel's story, and one message in it."""

    joined: set[str]
    watch: set[str]
    removed: set[str]
    named: set[str]
    kinds: set[str]
    author: str
    unknown: set[str] = field(default_factory=set)

    @property
    def members(self) -> set[str]:
        return ({"ann"} | self.joined) - self.removed

    @property
    def body(self) -> str:
        return " ".join(f"@{name}" for name in sorted(self.named | self.unknown | self.kinds))

    def delivered(self) -> dict[str, str]:
        """What the inbox must hold: everyone looked at, one by one."""
        found = {}
        for name, kind in EVERYONE.items():
            if name == self.author or name not in self.members:
                continue
            if name in self.named:
                found[name] = "mention"
            elif f"{kind}s" in self.kinds:
                found[name] = "broadcast"
            elif name in self.watch & ({"ann"} | self.joined):
                found[name] = "watch"
        return found


scenes = st.builds(
    Scene,
    joined=some,
    watch=some,
    removed=some.map(lambda names: names - {"ann"}),
    named=some,
    kinds=st.sets(st.sampled_from(["agents", "apes"])),
    author=st.sampled_from(sorted(EVERYONE)),
    unknown=st.sets(st.sampled_from(["zoe", "scuot", "ghost"])),
).map(lambda scene: scene if scene.author in scene.members else Scene(**{**vars(scene), "author": "ann"}))


def test_a_message_reaches_the_members_whom_it_concerns_and_nobody_else(colony: Colony) -> None:
    numbers = count()
    clients = {"ann": colony.ann, "bob": colony.bob, "scout": colony.scout, "rook": colony.rook}
    clients |= {name: add(colony, name, kind) for name, kind in EVERYONE.items() if name not in clients}  # type: ignore[arg-type]
    colony.admin.call(operations.SET_ACL, schema.SetAcl(principal="services", action="*", effect="allow"))
    colony.set_status("newt", "healthy")
    add(colony, "ghost", "ape")
    colony.admin.call(operations.REMOVE_USER, schema.RemoveUser(username="ghost"))
    usernames = {row.id: row.username for row in colony.rows(users)}

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(scenes)
    def check(scene: Scene) -> None:
        channel = f"room-{next(numbers)}"
        play(scene, channel, clients)
        body = scene.body or "nothing"
        posted = colony.post(clients[scene.author], body, channel)
        items = {usernames[row.agent_id]: row.trigger for row in colony.rows(inbox, inbox.c.message_id == posted.id)}
        assert items == scene.delivered()
        assert set(posted.not_members) == scene.named - scene.members
        assert set(posted.unknown_mentions) == scene.unknown - GONE.keys()

    check()
    assert wrong(colony) == []


def play(scene: Scene, channel: str, clients: dict[str, Client]) -> None:
    ann = clients["ann"]
    ann.call(operations.CREATE_CHANNEL, schema.CreateChannel(name=channel, private=True))
    if scene.joined:
        ann.call(operations.INVITE, schema.InviteMembers(channel=channel, usernames=sorted(scene.joined)))
    for name in scene.watch & ({"ann"} | scene.joined):
        clients[name].call(operations.WATCH, schema.WatchChannel(channel=channel))
    for name in scene.removed & scene.joined:
        ann.call(operations.REMOVE_MEMBER, schema.RemoveMember(channel=channel, username=name))


@only_sqlite
def test_a_post_in_public_asks_for_no_members(colony: Colony) -> None:
    asked: list[str] = []
    writing = colony.gate.database._writing.connection.driver_connection  # type: ignore[attr-defined]
    room(colony, "scout")
    for channel, asks in (("general", False), ("attic", True)):
        colony.post(colony.ann, "@scout hello", channel)  # so that everything is prepared
        writing.set_trace_callback(asked.append)
        colony.post(colony.ann, "@scout hello", channel)
        writing.set_trace_callback(None)
        assert any("INTO messages" in statement for statement in asked)
        assert any("members" in statement for statement in asked) == asks
        asked.clear()
