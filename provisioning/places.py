"""Where a colony and its agents have their things on a host."""

from __future__ import annotations

from pathlib import Path

CODE = Path("/opt/colony")  # readable by all, written by root
RELEASES = CODE / "releases"  # one folder for each version that is installed, with its own virtual environment
CURRENT = CODE / "current"  # the release that new agents get
SETTINGS = Path("/etc/colony")
RECORDS = SETTINGS / "agents"  # what the host knows of each agent
CREDENTIALS = SETTINGS / "credentials"  # encrypted by systemd-creds
DATA = Path("/var/lib/colony")
ARCHIVE = Path("/var/backups/colony-agents")  # the homes of the dead; not in DATA, which is the server's to change
HOMES = Path("/home/agents")
SOCKET = Path("/run/colony/api.sock")
LOCKS = Path("/run/lock/colony")
UNITS = Path("/etc/systemd/system")
SERVER_USER = "colony"
AGENTS_GROUP = "colony-agents"
