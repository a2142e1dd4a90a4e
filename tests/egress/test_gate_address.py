"""Which addresses are never reached, and the forms in which they come."""

from __future__ import annotations

import errno
import socket

import psutil
import pytest

from egress import address, target
from egress.refusals import Malformed
from tests.egress.house import House, Upstream, code, echo, everything, hear, status, until

FORBIDDEN = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.254", "127.0.0.1", "127.255.0.1"),
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1"),
    *("198.51.100.1", "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:a00:1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1"),
    *("64:ff9b::10.0.0.1", "64:ff9b:1::8.8.8.8", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1", "2001::1", "2001:0:4136::f"),
    *("2001:db8::1", "2001:10::1", "3fff::1", "fc00::1", "fd12:3456::1", "fe80::1", "fec0::1", "ff02::1", "100::1", "5f00::1"),
)
PUBLIC = ("1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "198.20.0.1", "223.255.255.255")
PUBLIC_V6 = ("2606:4700::1111", "2a00:1450:4001::200e", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8")


@pytest.mark.parametrize("text", FORBIDDEN)
def test_an_address_that_is_not_public_is_forbidden(text: str) -> None:
    assert address.is_forbidden(address.parsed(text))


@pytest.mark.parametrize("text", PUBLIC + PUBLIC_V6)
def test_a_public_address_is_not(text: str) -> None:
    assert not address.is_forbidden(address.parsed(text))


def test_this_machines_own_addresses_are_known() -> None:
    own = [each.address for found in psutil.net_if_addrs().values() for each in found if each.family == socket.AF_INET]
    assert "127.0.0.1" in own
    assert all(address.is_own(address.parsed(each)) for each in own)
    assert not any(address.is_own(address.parsed(each)) for each in PUBLIC + PUBLIC_V6)


def test_where_a_kind_of_address_is_unknown_the_others_are_reached(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose kernel was started without IPv6."""
    upstream = house.upstream()
    house.allow("both.example", upstream.port)
    house.names["both.example"] = [["2606:4700::1111", "127.0.0.1"]]
    really = socket.socket

    class WithoutIpv6(really):  # type: ignore[misc,valid-type]
        def __init__(self, family: int = -1, *args: object, **options: object) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *args, **options)

    monkeypatch.setattr(socket, "socket", WithoutIpv6)
    house.tunnel("both.example", upstream.port).close()


def test_what_listens_on_this_machine_is_not_reached_by_a_public_address_either(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "is_forbidden", lambda each: False)  # as if the loopback were a public address of this machine
    house.allow("mine.example")
    house.names["mine.example"] = [["127.0.0.1"]]
    answer = house.ask(b"CONNECT mine.example:443 HTTP/1.1\r\n\r\n")
    assert (status(answer), code(answer)) == (403, "egress_denied")


@pytest.mark.parametrize(
    "text",
    [
        *("127.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "0177.0.0.1", "017700000001", "127.0.0.01", "127.0.0.1.", "1.2.3", "0", "0x"),
        *("256.1.1.1", "1.2.3.4.5", "[::1", "::1", "[fe80::1%eth0]", "[::ffff:127.0.0.1%1]", "[127.0.0.1]", "[]", "", ".", "a..b"),
        *("pypi.org..", "pypí.org", "１２７.0.0.1", "127。0。0。1", "pypi.org\x00.evil", "-a.org", "a b.org"),
        *("a/b", "a\\b", "x" * 64 + ".org", ("a." * 127) + "org", "*", "*.org", "pypi.org#", "user@pypi.org", "user:pw@pypi.org"),
    ],
)
def test_an_evasive_host_is_no_host_or_the_plain_address_that_it_means(text: str) -> None:
    try:
        found = target.authority(f"{text}:80")
    except Malformed:
        return
    assert found.host in ("127.0.0.1",), "only a trailing dot may be left away"
    assert text == "127.0.0.1."


def test_a_mapped_address_is_the_address_that_it_means() -> None:
    assert target.authority("[::ffff:8.8.8.8]:53").host == "8.8.8.8"
    assert target.authority("[2606:4700:0:0::1111]:53").host == "2606:4700::1111"
    assert target.authority("PyPI.org.:443") == target.Target("pypi.org", 443)


@pytest.mark.parametrize("port", ["", ":", ":0", ":65536", ":99999", ":-1", ":+80", ":8a", ":080", ":８０", ": 80", ":80:80", ":1e3"])
def test_a_port_out_of_range_is_no_port(port: str) -> None:
    with pytest.raises(Malformed):
        target.authority(f"pypi.org{port}")


@pytest.mark.parametrize(
    "uri",
    [
        *("https://pypi.org/", "ftp://pypi.org/", "http:/pypi.org/", "http:pypi.org", "//pypi.org/", "pypi.org/", "*", "http://"),
        *("http:///x", "http://user@pypi.org/", "http://u:p@pypi.org/", "http://pypi.org@evil.org/", "http://pypi.org:80@evil.org/"),
        *(
            "http://pypi.org#@evil.org/",
            "http://pypi.org\\@evil.org/",
            "http://pypi.org:/",
            "http://pypi.org/#x",
            "http://[::1/",
            "file:///etc",
        ),
    ],
)
def test_an_address_that_two_could_read_differently_is_refused(uri: str) -> None:
    with pytest.raises(Malformed):
        target.absolute(uri)


def test_a_path_may_be_empty_and_a_query_may_hold_an_address() -> None:
    assert target.absolute("HTTP://PyPI.org?u=http://user@evil.org/") == (target.Target("pypi.org", 80), "/?u=http://user@evil.org/")
    assert target.absolute("http://pypi.org:8080") == (target.Target("pypi.org", 8080), "/")


@pytest.mark.parametrize("found", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "10.1.2.3", "fe80::1%lo", "64:ff9b::7f00:1"])
def test_a_name_that_leads_to_a_forbidden_address_is_refused_whatever_its_rule_says(house: House, found: str) -> None:
    house.allow("*")
    house.names["rebind.example"] = [[found]]
    answer = house.ask(b"CONNECT rebind.example:443 HTTP/1.1\r\n\r\n")
    assert status(answer) in (403, 502)
    assert house.contact().verdict in ("denied", "failed")


def test_one_forbidden_address_among_public_ones_refuses_the_name_as_a_whole(house: House) -> None:
    house.allow("mixed.example")
    house.names["mixed.example"] = [["93.184.216.34", "10.0.0.7"]]
    answer = house.ask(b"CONNECT mixed.example:443 HTTP/1.1\r\n\r\n")
    assert (status(answer), code(answer)) == (403, "egress_denied")
    assert "10.0.0.7" in house.contact().reason


def test_a_name_is_resolved_once_and_that_address_is_reached(house: House) -> None:
    """A resolver that answers differently the second time leads nowhere else."""
    upstream = house.upstream()
    house.allow("flip.example", upstream.port)
    house.names["flip.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    answer = house.ask(f"GET http://flip.example:{upstream.port}/ HTTP/1.1\r\nHost: flip.example:{upstream.port}\r\n\r\n".encode())
    assert answer.endswith(b"ok")
    assert house.looked_up == ["flip.example"]


def test_a_rebinding_name_is_judged_anew_at_each_connection(house: House) -> None:
    upstream = house.upstream()
    house.allow("flip.example", upstream.port)
    house.names["flip.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    ask = f"GET http://flip.example:{upstream.port}/ HTTP/1.1\r\nHost: flip.example:{upstream.port}\r\n\r\n".encode()
    assert status(house.ask(ask)) == 200
    assert status(house.ask(ask)) == 403
    assert upstream.accepted == 1


def test_only_a_rule_that_names_the_very_address_opens_a_forbidden_one(house: House) -> None:
    upstream = house.upstream()
    house.rules["scout"].clear()
    house.allow("*", upstream.port)
    ask = f"CONNECT 127.0.0.1:{upstream.port} HTTP/1.1\r\n\r\n".encode()
    assert status(house.ask(ask)) == 403
    house.allow("127.0.0.2", upstream.port)
    house.allow("127.0.0.1", upstream.port + 1)
    assert status(house.ask(ask)) == 403
    house.allow("127.0.0.1", upstream.port)
    house.tunnel("127.0.0.1", upstream.port).close()
    house.tunnel("[::ffff:127.0.0.1]", upstream.port).close()


def test_a_denied_address_is_denied_by_every_name(house: House) -> None:
    upstream = house.upstream()
    house.allow("alias.example", upstream.port)
    house.names["alias.example"] = [["127.0.0.1"]]
    house.tunnel("alias.example", upstream.port).close()
    house.allow("127.0.0.1", upstream.port, effect="deny")
    assert status(house.ask(f"CONNECT alias.example:{upstream.port} HTTP/1.1\r\n\r\n".encode())) == 403


@pytest.mark.parametrize("change", ["denied", "forgotten"])
def test_what_is_open_by_a_name_is_cut_when_its_address_is_allowed_no_longer(house: House, change: str) -> None:
    upstream = house.upstream(echo)
    house.allow("alias.example", upstream.port)
    house.allow("other.example", upstream.port, user="rook")
    house.allow("127.0.0.1", upstream.port, user="rook")
    house.names = {name: [["127.0.0.1"]] for name in ("alias.example", "other.example")}
    with house.tunnel("alias.example", upstream.port) as cut:
        house.user = "rook"
        with house.tunnel("other.example", upstream.port) as kept:
            house.rules["scout"] = [rule for rule in house.rules["scout"] if rule.host == "alias.example"]
            if change == "denied":
                house.allow("127.0.0.1", effect="deny")
            house.hear()
            house.judge_again()
            assert everything(cut) == b""
            kept.sendall(b"still")
            assert kept.recv(100) == b"still"
    assert house.contact().reason.startswith("no longer allowed: alias.example is at 127.0.0.1")


def test_a_download_by_a_name_is_cut_when_its_address_is_allowed_no_longer(house: House) -> None:
    def endless(upstream: Upstream, connection: socket.socket) -> None:
        upstream.heard.append(hear(connection))
        everything(connection)

    upstream = house.upstream(endless)
    house.allow("alias.example", upstream.port)
    house.names["alias.example"] = [["127.0.0.1"]]
    host = f"alias.example:{upstream.port}"
    with house.knock() as connection:
        connection.sendall(f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        until(lambda: upstream.heard)
        house.allow("127.0.0.1", effect="deny")
        house.judge_again()
        assert b"a rule denies that address" in everything(connection)


def test_the_systems_resolver_leads_nobody_home(house: House) -> None:
    house.allow("*")
    house.names["localhost"] = [[str(found[4][0]) for found in socket.getaddrinfo("localhost", None)]]
    for name in ("localhost", "LOCALHOST", "localhost."):
        assert status(house.ask(f"CONNECT {name}:80 HTTP/1.1\r\n\r\n".encode())) == 403


def test_a_name_with_a_crowd_of_addresses_is_refused(house: House) -> None:
    house.allow("crowd.example")
    house.names["crowd.example"] = [[f"93.184.216.{number}" for number in range(40)]]
    assert status(house.ask(b"CONNECT crowd.example:443 HTTP/1.1\r\n\r\n")) == 502
