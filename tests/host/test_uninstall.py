"""A host is a machine like any other again."""

from __future__ import annotations

from pathlib import Path

from tests.guest.guest import Guest
from tests.guest.layers import INSTALL, INSTALLS_WITHIN, PIP, SOURCE, Layers
from tests.host.cast import answer, birth, death, messages, prepare, say
from tests.host.hosting import everything, version


def test_a_purge_leaves_nothing(layers: Layers) -> None:
    """Of a colony that has lived: an agent worked in it, and another one died. Its first install was killed."""
    with Guest(binds=layers.binds()) as host:
        host.write("/etc/pip.conf", PIP)
        prepare(host)
        before = {line for line in everything(host) if not line.startswith("/opt/colony ")}  # as a machine may have that runs the tests
        killed = host.start(f"{SOURCE}/bin/install")
        host.wait_until("sh", "-c", "ls /opt/colony/releases/*/.venv/lib/python3*/site-packages/setuptools", seconds=120)
        host.run("pkill", "-KILL", "--full", "bin/install|bin/prepare|-m pip")
        killed.wait(20)
        host.run(*INSTALL, seconds=INSTALLS_WITHIN)
        birth(host, "scout")
        birth(host, "crow")
        assert answer(host, say(host, "@scout hello")) == "you said: @scout hello"
        death(host, "crow")
        host.run("systemctl", "start", "colony-backup", "colony-home-backup", "colony-home-sizes", "colony-prune", "colony-watch")
        assert len(everything(host)) > len(before) + 1000
        host.run("make", "--directory", SOURCE, "uninstall", "ARGS=--purge --yes", seconds=120)
        left = everything(host) ^ before
        # systemd keeps there when timers ran last, and a key for what it encrypts.
        assert {line for line in left if "/var/lib/systemd" not in line} == set()


def test_what_an_uninstall_leaves_can_be_purged_later(installed: Path, layers: Layers) -> None:
    """From a checkout of somebody, as no command is left; it stays theirs."""
    with Guest(layers=[installed], binds=layers.binds()) as host:
        host.run("useradd", "--create-home", "human")
        uninstall = ("make", "--directory", version(host, "checkout", {}), "uninstall")
        host.run("chown", "--recursive", "human:", "/srv/checkout")
        prepare(host)
        birth(host, "scout")
        host.run(*uninstall, seconds=120)
        said = host.run(*uninstall, seconds=INSTALLS_WITHIN).stdout
        left = "/var/lib/colony, /etc/colony, /var/backups/colony-agents, /home/agents"
        stay = f"{left} stay until: sudo make uninstall ARGS=--purge, in a checkout"
        assert f"nothing to do: no colony is installed here; {stay}" in said
        assert "nothing was removed" in host.run(*uninstall, "ARGS=--purge", stdin="yes\n", check=False).stderr
        assert host.path("/var/lib/colony/colony.db").exists()
        host.run(*uninstall, "ARGS=--purge --yes")
        for gone in ("/var/lib/colony", "/etc/colony", "/home/agents", "/opt/colony", "/var/backups/colony-agents"):
            assert not host.path(gone).exists(), gone
        accounts = host.run("cat", "/etc/passwd", "/etc/group").stdout
        assert "colony" not in accounts
        assert "scout" not in accounts
        assert host.run("find", "/srv/checkout", "-user", "root").stdout == ""
        assert "no colony is installed here" in host.run(*uninstall, check=False).stderr


def test_a_colony_can_be_installed_again_on_what_an_uninstall_leaves(installed: Path, layers: Layers) -> None:
    with Guest(layers=[installed], binds=layers.binds()) as host:
        prepare(host)
        birth(host, "scout")
        assert answer(host, say(host, "@scout one")) == "you said: @scout one"
        said = messages(host)
        host.run("colony-server", "uninstall", seconds=120)
        for gone in ("/opt/colony", "/usr/local/bin/colony", "/etc/systemd/system/colony-server.service"):
            assert not host.path(gone).exists(), gone
        assert host.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "colony*", "agent-*").stdout == ""
        assert host.path("/home/agents/scout/CLAUDE.md").exists()
        host.run(*INSTALL, seconds=INSTALLS_WITHIN)
        assert messages(host) == said
        host.run("colony-agent", "upgrade", "--all", seconds=120)
        assert answer(host, say(host, "@scout two")) == "you said: @scout two"
