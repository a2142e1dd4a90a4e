"""Attempts on files: of the other agent, of root, of the colony, and those of its own that are the machine's."""

from __future__ import annotations

from tests.host.apart.guards import Guard as G
from tests.host.apart.table import Attempt, By, Refusal, Who

HOME = "/home/agents/rook"
OWN = "/home/agents/scout"
_UNSEEN: dict[Who, Refusal] = {Who.TURN: ("ENOENT", G.SANDBOX)}
_BY_MODE: dict[Who, Refusal] = {Who.SERVICE: ("EACCES", G.MODE), Who.STRANGER: ("EACCES", G.MODE), Who.SERVER: ("EACCES", G.MODE)}
_OTHERS = _BY_MODE | _UNSEEN | {Who.SERVICE: ("ENOENT", G.HOMES)}
_ROOTS = _BY_MODE | _UNSEEN
_COLONYS: dict[Who, Refusal] = {who: refusal for who, refusal in _ROOTS.items() if who is not Who.SERVER}
_FOLDERS = _BY_MODE | _UNSEEN | {Who.SERVICE: ("EROFS", G.SYSTEM), Who.SERVER: ("EROFS", G.SYSTEM)}
_SEEN_FOLDERS = _FOLDERS | {Who.TURN: ("EROFS", G.SANDBOX)}
_TMP: dict[Who, Refusal] = dict.fromkeys((Who.SERVICE, Who.TURN, Who.STRANGER, Who.SERVER), ("ENOENT", G.OTHERS_TMP))
_SHM: dict[Who, Refusal] = dict.fromkeys(_TMP, ("ENOENT", G.OTHERS_SHM))
_ALLS: dict[Who, Refusal] = {Who.SERVICE: ("ENOENT", G.TMP), Who.TURN: ("ENOENT", G.SANDBOX), Who.SERVER: ("ENOENT", G.TMP)}
_ALLS_SHM: dict[Who, Refusal] = {Who.SERVICE: ("ENOENT", G.SHM), Who.TURN: ("ENOENT", G.SANDBOX)}

ANOTHERS = [
    Attempt("list the other's home", ("list_folder", HOME), _OTHERS),
    Attempt("read the other's soul", ("read", f"{HOME}/CLAUDE.md"), _OTHERS),
    Attempt("read the other's settings", ("read", f"{HOME}/.colony.toml"), _OTHERS),
    Attempt("read the other's journal of answers", ("read", f"{HOME}/.colony-state.json"), _OTHERS),
    Attempt("read the other's memory", ("read", f"{HOME}/memory/memory.md"), _OTHERS),
    Attempt("read the other's repository", ("read", f"{HOME}/repo/.git/HEAD"), _OTHERS),
    Attempt("write the other's memory", ("open_to_write", f"{HOME}/memory/memory.md"), _OTHERS),
    Attempt("write the other's rules", ("open_to_write", f"{HOME}/.claude/rules/colony.md"), _OTHERS),
    Attempt("put a file into the other's home", ("create_in", HOME), _OTHERS),
    Attempt("keep the other's memory by a hard link", ("link_to", f"{HOME}/memory/memory.md", "$room"), _OTHERS),
    Attempt("put something in the place of the other's home", ("replace", HOME), _OTHERS | {Who.TURN: ("EROFS", G.SANDBOX)}),
    Attempt(
        "see which homes there are",
        ("see_in", "/home/agents", "rook"),
        _BY_MODE | {Who.SERVICE: ("not there", G.HOMES), Who.TURN: ("not there", G.SANDBOX)},
    ),
    Attempt("read what the other has in /tmp", ("read", "/tmp/rooks-secret"), _TMP, By.ROOK),
    Attempt("read what the other has in /var/tmp", ("read", "/var/tmp/rooks-secret"), _TMP, By.ROOK),
    Attempt("read what the other has in /dev/shm", ("read", "/dev/shm/rooks-secret"), _SHM, By.ROOK),
    Attempt("read what users share in /tmp", ("read", "/tmp/everybodys"), _ALLS, By.STRANGER),
    Attempt("read what users share in /var/tmp", ("read", "/var/tmp/everybodys"), _ALLS, By.STRANGER),
    Attempt("read what users share in /dev/shm", ("read", "/dev/shm/everybodys"), _ALLS_SHM, By.STRANGER),
    Attempt(
        "find the other's /tmp from outside",
        ("list_folder", "$private_tmp"),
        {Who.SERVICE: ("ENOENT", G.TMP), Who.TURN: ("ENOENT", G.SANDBOX), Who.STRANGER: ("EACCES", G.MODE)},
    ),
    Attempt(
        "look into a person's /run/user",
        ("list_folder", "/run/user/1"),
        {Who.SERVICE: ("ENOENT", G.HOMES), Who.TURN: ("ENOENT", G.SANDBOX), Who.SERVER: ("EACCES", G.MODE)},
    ),
]

ROOTS = [
    Attempt("read the passwords", ("read", "/etc/shadow"), _ROOTS),
    Attempt("read root's home", ("read", "/root/secret"), _OTHERS),
    Attempt("list the archives of the dead", ("list_folder", "/var/backups/colony-agents"), _ROOTS),
    Attempt("read the host's record of an agent", ("read", "/etc/colony/agents/rook.toml"), _COLONYS),
    Attempt("read the encrypted credentials", ("read", "/etc/colony/credentials/ANTHROPIC_API_KEY"), _ROOTS),
    Attempt("read the key of the model's API", ("read", "/run/credentials/colony-egress.service/ANTHROPIC_API_KEY"), _ROOTS),
    Attempt(
        "find the other's key in any file",
        ("find_word", "$secret", "/etc", "/home", "/run", "/var/lib", "/var/log", "/var/tmp", "/tmp", "/dev/shm"),
        {who: ("not found", G.SANDBOX if who is Who.TURN else G.MODE) for who in _ROOTS},
        works_as=("find_word", "$secret", "/run/credentials"),
    ),
    Attempt("write the other's unit", ("open_to_write", "/etc/systemd/system/agent-rook-worker.service"), _ROOTS),
    Attempt("give the other's unit a drop-in", ("create_in", "/etc/systemd/system"), _FOLDERS),
    Attempt(
        "give the other's unit a drop-in that lasts until the next boot",
        ("create_in", "/run/systemd/system"),
        _ROOTS | {Who.SERVICE: ("EROFS", G.RUN)},
    ),
    Attempt("write the code that agents run", ("open_to_write", "$release/colony_agent/worker.py"), _ROOTS),
    Attempt("put a module beside that code", ("create_in", "$release/colony_agent"), _SEEN_FOLDERS),
    Attempt("exchange the release", ("replace", "/opt/colony/current"), _SEEN_FOLDERS),
    Attempt("exchange a command of all", ("replace", "/usr/local/bin/colony"), _SEEN_FOLDERS),
    Attempt("write a program of the machine", ("open_to_write", "/usr/bin/env"), _ROOTS | {Who.TURN: ("EACCES", G.MODE)}),
    Attempt("write the accounts", ("open_to_write", "/etc/passwd"), _ROOTS | {Who.TURN: ("EROFS", G.SANDBOX)}),
    Attempt("have cron run something", ("create_in", "/etc/cron.d"), _FOLDERS),
    Attempt("have services of its own beside the agent's", ("create_in", "/var/lib/systemd"), _FOLDERS),
    Attempt(
        "take a lock that others wait for",
        ("create_in", "/run/lock"),
        {Who.SERVICE: ("EACCES", G.HIDDEN), Who.TURN: ("ENOENT", G.SANDBOX)},
    ),
    Attempt(
        "keep a file of root's by a hard link",
        ("link_to", "/etc/passwd", "$room"),
        {Who.SERVICE: ("EXDEV", G.MOUNT), Who.TURN: ("EXDEV", G.MOUNT), Who.STRANGER: ("EPERM", G.HARD_LINKS)},
    ),
    Attempt("see the machine's folders", ("list_host", "boot", "srv", "var"), {Who.TURN: ("not there", G.SANDBOX)}),
    Attempt("see the machine's accounts", ("find_word", "human", "/etc/passwd"), {Who.TURN: ("not found", G.SANDBOX)}),
    Attempt("see the machine's hardware", ("list_folder", "/sys/class"), {Who.TURN: ("ENOENT", G.SANDBOX)}),
]

SERVERS = [
    Attempt("read the server's settings", ("read", "/etc/colony/server.toml"), _COLONYS),
    Attempt("read the database", ("read", "/var/lib/colony/colony.db"), _COLONYS),
    Attempt("write the database", ("open_to_write", "/var/lib/colony/colony.db"), _COLONYS),
    Attempt("read the newest of it in the WAL", ("read", "/var/lib/colony/colony.db-wal"), _COLONYS),
    Attempt("read a backup of it", ("read", "$backup"), _COLONYS),
    Attempt("put another socket in the place of the server's", ("create_in", "/run/colony"), _COLONYS | {Who.SERVICE: ("EROFS", G.RUN)}),
]

ITS_OWN = [
    Attempt(
        "change its own settings",
        ("open_to_write", f"{OWN}/.colony.toml"),
        {Who.SERVICE: ("EROFS", G.COVERED), Who.TURN: ("EROFS", G.COVER)},
    ),
    Attempt(
        "put others in their place",
        ("replace", f"{OWN}/.colony.toml"),
        {Who.SERVICE: ("EBUSY", G.COVERED), Who.TURN: ("EBUSY", G.COVER)},
    ),
    Attempt("read its own settings", ("read", f"{OWN}/.colony.toml"), {Who.TURN: ("it is empty", G.COVER)}),
    Attempt("read its own journal of answers", ("read", f"{OWN}/.colony-state.json"), {Who.TURN: ("it is empty", G.COVER)}),
    Attempt(
        "look under the covers by a second mount",
        ("bind_without_covers", OWN, ".colony-state.json"),
        {Who.TURN: ("EINVAL", G.LOCKED)},
        By.STRANGER,
        ("bind_without_covers", "/home/human", ".bashrc"),
    ),
    Attempt(
        "look under the covers by an overlay",
        ("overlay_without_covers", OWN, ".colony-state.json"),
        {Who.TURN: ("EINVAL", G.LOCKED)},
        By.STRANGER,
        ("overlay_without_covers", "/home/human", ".bashrc"),
    ),
    Attempt(
        "take a cover away",
        ("uncover", f"{OWN}/.colony.toml"),
        {Who.SERVICE: ("EINVAL", G.LOCKED), Who.TURN: ("EINVAL", G.LOCKED)},
        By.STRANGER,
        ("mount_and_uncover", "/tmp"),
    ),
    Attempt(
        "make a cover writable",
        ("make_writable", f"{OWN}/.colony.toml"),
        {Who.SERVICE: ("EPERM", G.LOCKED), Who.TURN: ("EPERM", G.LOCKED)},
        By.STRANGER,
        ("mount_and_make_writable", "/home/human/.bashrc"),
    ),
]

ROWS = {
    "Files of another agent": ANOTHERS,
    "Files of root": ROOTS,
    "Files of the server": SERVERS,
    "Files of its own that are the machine's": ITS_OWN,
}
