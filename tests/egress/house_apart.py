"""`python -m tests.egress.house_apart PORT AGENT…`: a gate in a process of its own, whose memory can be looked at.

Its model's API is at that port. It says where its socket is, and ends with its standard input.
"""

from __future__ import annotations

import sys

from egress.settings import Model
from tests.egress.house import House


def main(port: str, *agents: str) -> None:
    house = House(model=Model(f"http://127.0.0.1:{port}"))
    house.rules |= {agent: [] for agent in agents}
    house.hear()
    print(house.socket, flush=True)
    sys.stdin.read()
    house.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
