"""The one way out of a sandbox without a network: the egress gate's unix socket, with a forwarder before it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from colony.failures import UNREACHABLE
from colony_agent.runner import RunnerFailed
from colony_agent.settings import Home

PORT = 3128  # nobody else's: the loopback is the sandbox's own
URL = f"http://127.0.0.1:{PORT}"
INSIDE = Path("/run/egress")
TRUSTING = {  # where programs look for whom they trust, and the file beside the socket that has the gate, which puts secrets in
    **dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT"), "ca.pem"),
    "NODE_EXTRA_CA_CERTS": "gate.pem",  # alone: to read all of a machine's takes Claude Code some 15 ms at each start
}
NOT_BY_PROXY = "localhost,127.0.0.1"
PROXIES = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), URL),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), NOT_BY_PROXY),
}


@dataclass(frozen=True)
class Gate:
    """`socket` is where the host has it, in a folder of its own."""

    socket: Path

    @classmethod
    def of(cls, home: Home) -> Gate | None:
        """The one that the home's settings name."""
        return cls(Path(home.agent.egress.removeprefix("unix:"))) if home.agent.egress else None

    def folder(self) -> Path:
        """What a sandbox shows at `INSIDE`. Raises `RunnerFailed` when there is no gate."""
        if not self.socket.is_socket():
            raise RunnerFailed(UNREACHABLE, f"there is no egress gate at {self.socket}; start it: systemctl start colony-egress")
        # Not the socket alone, since a gate that is started anew makes another one there: whoever was shown the former one would be lost.
        return self.socket.parent

    def environment(self) -> dict[str, str]:
        """How programs find the gate, and whom they trust."""
        return PROXIES | {name: str(INSIDE / file) for name, file in TRUSTING.items() if _says_something(self.socket.parent / file)}

    @property
    def script(self) -> Path:
        from colony_agent import bytecode
        from colony_agent.sandbox import forwarder

        return bytecode.script(forwarder)

    def forwarder(self, socket: Path) -> list[str]:
        """What the program's own words come after; `socket` is where the forwarder finds the gate's."""
        return [os.path.realpath(sys.executable), "-I", "-S", str(self.script), str(PORT), str(socket)]


def _says_something(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False
