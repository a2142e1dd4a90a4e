"""What can go wrong on a host without anyone noticing, each as a shell line that does it; scout and thinker live there.

What stands in one round is done at once: nothing in it hides anything else, or mends it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

RELEASE = "/opt/colony/current"
UNITS = "/etc/systemd/system"
WORKER = "agent-scout-worker.service"
SLICE = "colony-agents.slice"
DREAM = "agent-scout-dream.service"
DREAMS = "agent-scout-dream.timer"
KEY = "sk-planted-123"
KEYS = "/etc/colony/credentials"
RECORD = "/etc/colony/agents/scout.toml"
HOME = "/home/agents/scout"
SETTINGS = f"{HOME}/.colony.toml"
SERVER_SETTINGS = "/etc/colony/server.toml"
SECRET_KEYS = "/var/lib/colony/secret-keys"
SECRET = "printf a-secret-value | colony secret set TOKEN --host a.example"
BACKUPS = "/var/lib/colony/backups"
REJECTED = """\
import sqlite3
with sqlite3.connect("/var/lib/colony/colony.db") as colony:
    note = "the model's API rejected the credentials (`401`). What helps: give the agent a valid key"
    colony.execute("UPDATE users SET held_until = 4000000000000000, status_note = ? WHERE username = 'thinker'", [note])
"""
RELOAD = "systemctl daemon-reload"
RESTART = "colony-agent restart scout"
UNSEALED = (
    *("NoNewPrivileges=no", "CapabilityBoundingSet=~", "SystemCallFilter=", "SystemCallArchitectures=", "ProtectSystem=no"),
    *("ProtectHome=no", "ProtectProc=default", "ProtectClock=no", "ProtectKernelModules=no", "ProtectKernelLogs=no"),
    *("ProtectKernelTunables=no", "PrivateTmp=no", "PrivateDevices=no", "PrivateIPC=no", "PrivateNetwork=no", "RestrictNamespaces=no"),
    *("RestrictRealtime=no", "RestrictSUIDSGID=no", "RestrictAddressFamilies=", "LockPersonality=no", "MemoryDenyWriteExecute=no"),
)


@dataclass(frozen=True)
class Ailment:
    break_it: str
    finds: tuple[str, ...]  # "SUBJECT: how it begins", one for each finding
    fix: bool = False  # --fix mends it
    left: tuple[str, ...] = ()  # what --fix leaves to people
    undo: str = ""  # where a remedy is no command
    stdin: str = ""  # for the remedy


def dropped_in(unit: str, *lines: str) -> str:
    text = "\\n".join(("[Service]", *lines))
    return f"mkdir -p {UNITS}/{unit}.d; printf '{text}\\n' > {UNITS}/{unit}.d/x.conf; {RELOAD}"


def failed(unit: str) -> str:
    """Let it fail once, and make it as it was."""
    return f"{dropped_in(unit, 'ExecStart=', 'ExecStart=/bin/false')}; systemctl start {unit}; rm -r {UNITS}/{unit}.d; {RELOAD}"


def copied(path: str) -> tuple[str, str]:
    """A copy, and the way back to it."""
    copy = f"/root/{path.replace('/', '-')}"
    return f"cp -a {path} {copy}", f"rm -rf {path}; cp -a {copy} {path}"


def unlimited(file_of_v1: str, file_of_v2: str, unit: str = WORKER) -> str:
    """The unit's cgroup without that limit, wherever this machine has it."""
    files = ((file_of_v1, "-1"), (file_of_v2, "max"))
    find = "find /sys/fs/cgroup -path '*/{}/{}' -exec sh -c 'echo {} > {{}}' ';'"
    return "; ".join(find.format(unit, file, value) for file, value in dict(files).items())


CODE_AND_FILES = {
    "homes that everybody may list": Ailment("chmod 755 /home/agents", ("host: /home/agents is 0755 root:root, not 0711 root:root",), True),
    "open credentials": Ailment(f"chmod 755 {KEYS}", (f"host: {KEYS} is 0755 root:root",), True),
    "an open credential": Ailment(f"chmod 644 {KEYS}/ANTHROPIC_API_KEY", (f"host: {KEYS}/ANTHROPIC_API_KEY is 0644",), True),
    "settings that everybody may read": Ailment(f"chmod 644 {SERVER_SETTINGS}", (f"host: {SERVER_SETTINGS} is 0644",), True),
    "a setting that nobody knows": Ailment(
        f"echo 'dayz = 3' >> {SERVER_SETTINGS}",
        (f"host: {SERVER_SETTINGS}: [prune] dayz is unknown; known are days",),
        undo=f"sed -i /dayz/d {SERVER_SETTINGS}",
    ),
    "a release that was never finished": Ailment(
        f"rm -f {RELEASE}/.complete",
        ("host: the release",),
        undo=f"touch {RELEASE}/.complete",
    ),
    "code that others may write": Ailment(f"chmod 666 {RELEASE}/colony/errors.py", ("host: code that runs is not root's alone",), True),
    "commands that others may write": Ailment("chmod 777 /usr/local/bin", ("host: /usr/local/bin, on the way to /usr/local/bin/colony",)),
    "a member without a Linux user": Ailment(
        "colony create-user ghost --kind ape --linux-user ghost", ("host: ghost of the colony is the Linux user ghost, who does not exist",)
    ),
    "no command": Ailment("rm -f /usr/local/bin/colony-server", ("host: the link /usr/local/bin/colony-server is missing",), True),
    "a closed socket": Ailment("chmod 600 /run/colony/api.sock", ("host: not everybody can reach the server",), True),
    "an open database": Ailment(
        "chmod 644 /var/lib/colony/colony.db", ("host: others than the server can read or write /var/lib/colony/colony.db",), True
    ),
    "open keys": Ailment(
        f"{SECRET}; chmod 644 {SECRET_KEYS}", (f"host: others than the server can read or write {SECRET_KEYS}: it has the mode 0644",), True
    ),
    "no copy for days": Ailment(
        f"install -d -m 700 -o colony -g colony {BACKUPS}; touch -d '5 days ago' {BACKUPS}/colony-20200101T000000.000000Z.db",
        ("host: There is no new backup since",),
    ),
    "no bubblewrap": Ailment("mv /usr/bin/bwrap /root", ("host: /usr/bin/bwrap is missing",), undo="mv /root/bwrap /usr/bin"),
    "a Claude Code for root alone": Ailment("chmod 700 /opt/colony/claude", ("host: agents can't run /opt/colony/claude",)),
    "a stranger among the agents": Ailment("gpasswd -a human colony-agents", ("host: human is in the group colony-agents",)),
    "an open home": Ailment(f"chmod 755 {HOME}", (f"scout: {HOME} is 0755 scout:scout, not 0700 scout:scout",), True),
    "a file of root in the home": Ailment(f"touch '{HOME}/a note'", (f"scout: {HOME}/a note does not belong to it",)),
    "a home without a soul": Ailment(f"mv {HOME}/CLAUDE.md /root", ("scout: its home lacks CLAUDE.md",), undo=f"mv /root/CLAUDE.md {HOME}"),
    "a brain that agents may change": Ailment(
        "chown scout /opt/brains",
        ("scout: agents can change /opt/brains, on the way to the program that it runs: it belongs to scout",),
        undo="chown root /opt/brains",
    ),
    "old rules": Ailment(f"echo mine > {HOME}/.claude/rules/colony.md", ("scout: its rules are not those of its release",), True),
    "a memory without end": Ailment(
        f"runuser -u scout -- sh -c 'yes remember | head -c 20000 > {HOME}/memory/memory.md'",
        ("scout: its memory has outgrown its bound of 16384 bytes",),
    ),
    "a record that others may write": Ailment(f"chmod 666 {RECORD}", ("scout: the record",), True),
    "a key to log in with": Ailment(
        f"runuser -u scout -- sh -c 'mkdir {HOME}/.ssh; echo ssh-ed25519 AAAA > {HOME}/.ssh/authorized_keys'",
        ("scout: somebody may log in as it",),
    ),
    "another comment": Ailment("usermod --comment me scout", ("scout: its Linux user is not marked as an agent's: its comment is 'me'",)),
    "a shell": Ailment("usermod --shell /bin/bash scout", ("scout: its Linux user has a shell: /bin/bash",)),
    "a password": Ailment("echo scout:secret | chpasswd", ("scout: its Linux user has a password",)),
    "a group too many": Ailment("gpasswd -a scout adm", ("scout: its Linux user is in the group adm",)),
}
OWNERS_AND_CONTENTS = {
    "homes that are an agent's": Ailment("chown scout /home/agents", ("host: /home/agents is 0711 scout:root",), True),
    "code of an agent": Ailment(f"chown -R scout {RELEASE}/colony", ("host: code that runs is not root's alone",), True),
    "code that agents can't run": Ailment(f"chmod 700 {RELEASE}/.venv/lib", ("host: agents can't run the release",)),
    "another command": Ailment("ln -sfn /bin/true /usr/local/bin/colony", ("host: /usr/local/bin/colony is something else",), True),
    "a foreign command": Ailment(
        "rm /usr/local/bin/colony-server; cp /bin/true /usr/local/bin/colony-server", ("host: /usr/local/bin/colony-server is something",)
    ),
    "root's database": Ailment("chown root:root /var/lib/colony/colony.db", ("host: /var/lib/colony/colony.db belongs to root",)),
    "a bubblewrap that may do nothing": Ailment(
        f"{copied('/usr/bin/bwrap')[0]}; rm /usr/bin/bwrap; printf '#!/bin/sh\\necho bwrap: No permissions >&2; exit 1' > /usr/bin/bwrap;"
        "chmod 755 /usr/bin/bwrap",
        ("host: scout can't make a sandbox: bwrap: No permissions",),
        undo=copied("/usr/bin/bwrap")[1],
    ),
    "another Claude Code": Ailment(
        f"ln -sfn /bin/true {RELEASE}/.venv/bin/claude",
        ("host: the release",),
        undo=f"ln -sfn /opt/colony/claude/*/claude {RELEASE}/.venv/bin/claude",
    ),
    "a home of root": Ailment(f"chown root:root {HOME}", (f"scout: its home {HOME} belongs to root",)),
    "a group too few": Ailment("gpasswd -d scout colony-agents", ("scout: its Linux user is not in the group colony-agents",)),
}
UNITS_AND_LIVES = {
    "a changed unit": Ailment(
        f"echo '# mine' >> {UNITS}/colony-backup.service; {RELOAD}", ("host: colony-backup.service was changed; changes belong",), True
    ),
    "a missing unit": Ailment(f"rm {UNITS}/colony-watch.service; {RELOAD}", ("host: the unit colony-watch.service is missing",)),
    "a unit of another release": Ailment(
        f"sed -i 's,/releases/[^/]*/,/releases/0.0.9/,' {UNITS}/colony-prune.service; {RELOAD}",
        ("host: colony-prune.service runs another release than the host's",),
    ),
    "a timer that won't come again": Ailment("systemctl disable colony-backup.timer", ("host: colony-backup.timer is not enabled",), True),
    "a timer that is off": Ailment("systemctl stop colony-prune.timer", ("host: colony-prune.timer is inactive",), True),
    "a unit that others may write": Ailment(f"chmod 666 {UNITS}/{WORKER}", (f"host: {UNITS}/{WORKER} is not root's alone",), True),
    "a service that is less sealed": Ailment(
        dropped_in("colony-server.service", *UNSEALED), ("host: colony-server.service is too exposed",)
    ),
    "lost keys": Ailment(
        f"{SECRET}; mv {SECRET_KEYS} /root",
        (f"host: secrets can't be opened by {SECRET_KEYS}: agents: TOKEN",),
        undo=f"mv /root/secret-keys {SECRET_KEYS}",
    ),
    "a worker that won't come again": Ailment(f"systemctl disable {WORKER}", (f"scout: {WORKER} is not enabled",), True),
    "a changed unit of an agent": Ailment(
        f"sed -i s/TasksMax=.*/TasksMax=700/ {UNITS}/{WORKER}; {RELOAD}; {RESTART}",
        (f"scout: {WORKER} is not what it should be",),
        True,
        ("scout: its worker has run since before its unit was changed",),
    ),
    "a missing timer of an agent": Ailment(f"rm {UNITS}/{DREAMS}; {RELOAD}", (f"scout: {DREAMS} is missing",), True),
    "a dream that failed": Ailment(
        f"runuser -u scout -- sh -c 'echo tea >> {HOME}/memory/memory.md'; {failed(DREAM)}", ("scout: its last dream failed (exit-code)",)
    ),
}
MORE_UNITS = {
    "a masked unit": Ailment(
        f"ln -sfn /dev/null {UNITS}/colony-watch.timer; {RELOAD}",
        ("host: the unit colony-watch.timer is missing", "host: colony-watch.timer is masked"),
        undo="systemctl unmask colony-watch.timer; colony-server install",
    ),
    "a service that failed": Ailment(failed("colony-prune.service"), ("host: colony-prune.service has failed (exit-code)",)),
    "no settings": Ailment(f"rm {SERVER_SETTINGS}", (f"host: {SERVER_SETTINGS} is missing",)),
    "a dead worker": Ailment(f"systemctl stop {WORKER}", (f"scout: {WORKER} is inactive",), True),
    "dreams that are off": Ailment(f"systemctl stop {DREAMS}", (f"scout: {DREAMS} is inactive",), True),
    "dreams that won't come again": Ailment(f"systemctl disable {DREAMS}", (f"scout: {DREAMS} is not enabled",), True),
    "no key": Ailment("colony-agent credential rm ANTHROPIC_API_KEY", ("thinker: no key for the model's API is kept for it",), stdin=KEY),
    "a gate that is off": Ailment(
        "systemctl stop colony-egress", ("host: colony-egress.service is inactive", "host: the gate does not answer"), True
    ),
    # Last of all: the others have systemd read its units.
    "a unit that systemd has not read": Ailment(
        f"echo '# mine' >> {UNITS}/colony-backup.timer",
        ("host: colony-backup.timer was changed; changes belong", "host: colony-backup.timer was changed since systemd read it"),
        True,
    ),
}
ROUNDS = {
    "code and files": CODE_AND_FILES,
    "owners and contents": OWNERS_AND_CONTENTS,
    "units and lives": UNITS_AND_LIVES,
    "more units": MORE_UNITS,
    "who has to wait": {
        "a limit that is reached": Ailment(
            "colony limits scout --turns-per-hour 0; colony post general '@scout are you there?'; "
            """until colony agents --json | grep -q '"held_until":"'; do sleep 0.1; done""",
            ("scout: it has to wait until",),
            undo="colony limits scout --lift all",
        ),
        "a key that was rejected": Ailment(
            f"runuser -u colony -- /usr/bin/python3 -c {shlex.quote(REJECTED)}",
            ("thinker: it can't think: the model's API rejected the credentials (`401`)",),
            stdin=KEY,
        ),
    },
    "a masked worker": {
        "a credential of another machine": Ailment(
            f"echo garbage > {KEYS}/ANTHROPIC_API_KEY", ("host: this machine can't decrypt",), stdin=KEY
        ),
        "a masked worker": Ailment(
            f"ln -sfn /dev/null {UNITS}/{WORKER}; {RELOAD}; systemctl stop {WORKER}",
            (f"scout: {WORKER} is missing",),
            True,
        ),
        "no Claude Code": Ailment(
            "mv /opt/colony/claude /root", ("host: the Claude Code of the release",), undo="mv /root/claude /opt/colony"
        ),
    },
    "a unit that was touched": {
        "a unit that systemd has not read": Ailment(
            f"touch {UNITS}/{WORKER}",
            (f"scout: {WORKER} was changed since systemd read it", "scout: its worker has run since before its unit was changed"),
            True,
            ("scout: its worker has run since before its unit was changed",),
        ),
        "another key than the gate has": Ailment(
            f"printf other-{KEY} | systemd-creds encrypt --with-key=host --name=ANTHROPIC_API_KEY - {KEYS}/ANTHROPIC_API_KEY;"
            f"chmod 600 {KEYS}/ANTHROPIC_API_KEY",
            ("host: the gate runs without the ANTHROPIC_API_KEY that is kept now",),
        ),
        "a brain that is gone": Ailment(
            "mv /opt/brains/echo /root",
            ("scout: its settings can't be used: there is no program /opt/brains/echo",),
            undo="mv /root/echo /opt/brains",
        ),
    },
    "an unsealed worker": {
        "an unsealed worker": Ailment(
            f"{dropped_in(WORKER, *UNSEALED)}; {RESTART}",
            (
                f"scout: {WORKER} is too exposed",
                "scout: its worker is not sealed: it may gain privileges",
                "scout: its worker sees too much: it has not its own shared memory; it has not its own network; the system can be written",
            ),
        ),
    },
    "a kernel without limits": {
        "settings that are a pipe": Ailment(
            f"mv {SETTINGS} /root/settings; runuser -u scout -- mkfifo {SETTINGS}",
            (f"scout: {SETTINGS} is no file",),
            undo=f"mv -f /root/settings {SETTINGS}",
        ),
        "memory without end": Ailment(
            unlimited("memory.limit_in_bytes", "memory.max"),
            ("scout: its memory is not limited as its unit says: as much as there is, not 256 MB",),
        ),
        "processes without end": Ailment(unlimited("pids.max", "pids.max"), ("scout: the number of its processes is not limited",)),
        "agents without end": Ailment(
            f"{unlimited('memory.limit_in_bytes', 'memory.max', SLICE)}; {unlimited('pids.max', 'pids.max', SLICE)}",
            (
                f"host: the memory of all agents together is not limited as {SLICE} says: as much as there is",
                f"host: the number of all agents' processes is not limited as {SLICE} says: any",
            ),
        ),
    },
    "what can't be read": {
        "settings that can't be read": Ailment(
            f"{copied(SERVER_SETTINGS)[0]}; echo '[[' >> {SERVER_SETTINGS}",
            (f"host: can't read {SERVER_SETTINGS}",),
            undo=copied(SERVER_SETTINGS)[1],
        ),
        "a record that can't be read": Ailment(
            f"{copied(RECORD)[0]}; echo '[[' >> {RECORD}",
            ("scout: its record can't be read",),
            undo=copied(RECORD)[1],
        ),
    },
    "no server": {
        "settings with an unknown key": Ailment(
            f"{copied(SETTINGS)[0]}; echo 'mood = 1' >> {SETTINGS}",
            (f"scout: its settings can't be used: {SETTINGS}: unknown key agent.mood",),
            undo=copied(SETTINGS)[1],
        ),
        "a record with an unknown key": Ailment(
            f"echo 'mood = 1' >> {RECORD}",
            ("scout: its record says what this release does not know, and passes over: mood",),
            undo=f"sed -i /^mood/d {RECORD}",
        ),
        "no server": Ailment(
            "systemctl stop colony-server", ("host: colony-server.service is inactive", "host: the server does not answer"), True
        ),
    },
    "no bus": {
        "no bus": Ailment("systemctl stop dbus.socket dbus.service", ("host: systemd's bus",)),
        "a home without settings": Ailment(
            f"mv {SETTINGS} /root/settings",
            ("scout: its home lacks .colony.toml", "scout: its settings can't be used"),
            undo=f"mv /root/settings {SETTINGS}",
        ),
    },
    "no Linux user": {"no Linux user": Ailment("userdel --force scout", ("scout: its Linux user scout is missing",))},
}
