"""A network beyond a throw-away machine, with one web server in it."""

from __future__ import annotations

from tests.guest.guest import Guest

WEB = "93.184.215.14"  # as far as the machine knows that is somewhere in the world
OUT = "93.184.215.1"  # the machine's own address there
_WORLD = f"""
ip netns add world
ip link add out type veth peer name in netns world
ip address add {OUT}/24 dev out
ip link set out up
ip netns exec world ip address add {WEB}/24 dev in
ip netns exec world ip link set in up
systemd-run --unit=web --property=NetworkNamespacePath=/run/netns/world \\
    /usr/bin/python3 -m http.server --bind {WEB} --directory /srv/web 80
"""


def open_world(machine: Guest) -> None:
    """The web server has a page when this returns. What names lead there, the machine's /etc/hosts says."""
    machine.write("/srv/web/index.html", "a page")
    machine.run("sh", "-ec", _WORLD)
    machine.wait_until("curl", "--fail", "--silent", f"http://{WEB}/")
