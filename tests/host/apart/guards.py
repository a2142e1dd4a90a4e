"""What refuses, in words for people; and how a setting of an agent's unit is taken away, to see that it was the one that refused."""

from __future__ import annotations

from enum import Enum


class Guard(Enum):
    # the kernel, whatever systemd does
    MODE = "file mode"
    OWNER = "another user's"
    CAPABILITY = "no capability"
    NAMESPACE = "root of a user namespace is nobody outside of it"
    LOCKED = "what a namespace has mounted can't be undone in one below it"
    HARD_LINKS = "fs.protected_hardlinks"
    MOUNT = "the home is a mount of its own"
    NO_ARGUMENTS = "no argument holds a message or a key"
    # settings of an agent's unit
    HOMES = "ProtectHome=tmpfs"
    SYSTEM = "ProtectSystem=strict"
    COVERED = "BindReadOnlyPaths="
    RUN = "ReadOnlyPaths=/run"
    HIDDEN = "InaccessiblePaths="
    PROCESSES = "ProtectProc=invisible"
    CALLS = "SystemCallFilter="
    TUNABLES = "ProtectKernelTunables=yes"
    TMP = "PrivateTmp=yes"
    SHM = "TemporaryFileSystem=/dev/shm"
    IPC = "PrivateIPC=yes"
    OTHERS_TMP = "PrivateTmp=yes of the other"
    OTHERS_SHM = "TemporaryFileSystem=/dev/shm of the other"
    OTHERS_IPC = "PrivateIPC=yes of the other"
    OTHERS_NETWORK = "PrivateNetwork=yes of the other"
    DEVICES = "PrivateDevices=yes"
    NETWORK = "PrivateNetwork=yes"
    FAMILIES = "RestrictAddressFamilies="
    SETUID = "RestrictSUIDSGID=yes"
    PERSONALITY = "LockPersonality=yes"
    PRIVILEGES = "NoNewPrivileges=yes"  # other settings bring it along: it can't be taken away alone
    ADDRESSES = "IPAddressDeny="
    CORES = "LimitCORE=0"
    NAMESPACES = "RestrictNamespaces="
    TASKS = "TasksMax="
    FILES = "LimitNOFILE="
    FILE_SIZE = "LimitFSIZE="
    # the sandbox of a turn
    SANDBOX = "not in the sandbox"
    PIDS = "PID namespace of the sandbox"
    COVER = "covered in the sandbox"
    # those who are asked
    PEER = "the kernel tells the server who calls"
    GATE = "the server's gate"
    TOOLS = "the turn's tools"
    SYSTEMD = "systemd's own policy"
    CALLER = "the kernel tells the egress gate who calls"
    RULES = "no rule allows it"
    JUDGED = "the egress gate judges what a name leads to"
    STRICT = "the egress gate reads strictly"
    BOUNDS = "the egress gate's bounds"
    MODEL = "what the egress gate asks of the model"


WITHOUT = {  # lines of a drop-in
    Guard.HOMES: "ProtectHome=no",
    Guard.SYSTEM: "ProtectSystem=no",
    Guard.COVERED: "BindReadOnlyPaths=\nBindPaths=/home/agents/scout",  # one list for both
    Guard.RUN: "ReadOnlyPaths=",
    Guard.HIDDEN: "InaccessiblePaths=",
    Guard.PROCESSES: "ProtectProc=default",
    Guard.CALLS: "SystemCallFilter=",
    Guard.TUNABLES: "ProtectKernelTunables=no",
    Guard.TMP: "PrivateTmp=no",
    Guard.SHM: "TemporaryFileSystem=",
    Guard.IPC: "PrivateIPC=no",
    Guard.DEVICES: "PrivateDevices=no",
    Guard.NETWORK: "PrivateNetwork=no\nIPAddressDeny=",
    Guard.FAMILIES: "RestrictAddressFamilies=",
    Guard.SETUID: "RestrictSUIDSGID=no",
    Guard.PERSONALITY: "LockPersonality=no",
    Guard.ADDRESSES: "IPAddressDeny=",
    Guard.CORES: "LimitCORE=infinity",
    Guard.NAMESPACES: "RestrictNamespaces=no",
}
