"""Where a colony and its agents have their things on a host."""

from __future__ import annotations

from pathlib import Path

from colony import config

CODE = Path("/opt/colony")  # readable by all, written by root
RELEASES = config.HOST_RELEASES  # one folder for each version that is installed, with its own virtual environment
CURRENT = CODE / "current"  # the release that new agents get
PREVIOUS = CODE / "previous"  # the one before that, to which one can go back
CLAUDE = CODE / "claude"  # a folder for each version of Claude Code that a release needs
COMMANDS = Path("/usr/local/bin")
SETTINGS = Path("/etc/colony")
RECORDS = SETTINGS / "agents"  # what the host knows of each agent
CREDENTIALS = SETTINGS / "credentials"  # encrypted by systemd-creds
SERVER_SETTINGS = SETTINGS / "server.toml"
GATE_SETTINGS = SETTINGS / "egress.toml"
DATA = config.HOST_HOME
ARCHIVE = Path("/var/backups/colony-agents")  # the homes of the dead; not in DATA, which is the server's to change
BACKUPS = ARCHIVE / "living"  # copies of the homes of the living
HOMES = Path("/home/agents")
SOCKET = config.HOST_SOCKET
LOCKS = Path("/run/colony-locks")  # not in /run/lock, where any user could have put something
UNITS = Path("/etc/systemd/system")
SERVER_USER = config.HOST_USER
GATE_USER = config.GATE_USER
GATE_SOCKET = config.HOST_GATE  # the only way out of agents' sandboxes
AGENTS_GROUP = "colony-agents"
