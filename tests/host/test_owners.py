"""People of a real machine, to whom agents belong."""

from __future__ import annotations

import pytest

from tests.guest.guest import Guest
from tests.host.cast import birth, death, one_line, prepare, status

PEOPLE = ("ann", "bob")


@pytest.fixture(scope="module")
def host(shared_machine: Guest) -> Guest:
    """Ann and bob have accounts on the machine, and are people of its colony."""
    prepare(shared_machine)
    for name in PEOPLE:
        shared_machine.run("useradd", "--create-home", name)
        shared_machine.run("colony-server", "user", "add", name, "--linux-user", name)
    return shared_machine


def test_an_agent_belongs_to_who_called_sudo_and_is_theirs_to_pause_without_root(host: Guest) -> None:
    birth(host, "finch", env={"SUDO_USER": "ann"})
    assert status(host, "finch")["member"]["owner"] == "ann"
    assert host.run("colony-agent", "status", "finch").stdout.splitlines()[1].split("\t")[-1] == "ann"
    for command, state in ((("colony", "pause"), "paused"), (("colony-agent", "resume"), "healthy"), (("colony", "drain"), "draining")):
        said = one_line(host.run(*command, "finch", user="bob", check=False))
        assert said.endswith("finch is not yours; its owner and administrators decide about it")
        host.run(*command, "finch", user="ann")
        assert status(host, "finch")["member"]["status"] == state
    everyone = one_line(host.run("colony-agent", "pause", "--all", user="ann", check=False))
    assert everyone == "colony-agent: only root knows all agents of this machine; name those that are yours"
    host.run("colony", "limits", "finch", "--turns-per-hour", "7", user="ann")
    assert status(host, "finch")["member"]["turns_per_hour"] == 7
    death(host, "finch")


def test_a_reborn_agent_belongs_to_its_new_owner_and_can_be_given_to_another(host: Guest) -> None:
    assert "no person of this colony is called zoe" in one_line(birth(host, "wren", "--owner", "zoe", check=False))
    birth(host, "wren", "--owner", "@bob", env={"SUDO_USER": "ann"})
    assert status(host, "wren")["member"]["owner"] == "bob"
    death(host, "wren")
    birth(host, "wren", env={"SUDO_USER": "human-without-account"})
    assert status(host, "wren")["member"]["owner"] is None
    assert "that wren is ann's" in birth(host, "wren", "--owner", "ann").stderr
    assert birth(host, "wren", "--owner", "ann").stdout.startswith("nothing to do")
    death(host, "wren")


def test_who_has_left_is_a_stranger_on_the_machine_and_owns_nothing(host: Guest) -> None:
    birth(host, "lark", "--owner", "bob")
    assert "status\tdead\n" in host.run("colony", "remove-user", "bob").stdout
    said = one_line(host.run("colony", "pause", "lark", user="bob", check=False))
    assert said == "colony: Linux user bob is no user of this colony; sudo colony-server user add bob --linux-user bob"
    assert status(host, "lark")["member"]["owner"] is None
    said = one_line(host.run("colony", "remove-user", "lark", check=False))
    assert said == "colony: lark is an agent; on its host: sudo colony-agent death lark"
    assert host.run("colony-agent", "doctor").returncode == 0
    host.run("colony-server", "user", "add", "bob", "--linux-user", "bob")
    assert "is not yours" in one_line(host.run("colony", "pause", "lark", user="bob", check=False))
    death(host, "lark")
