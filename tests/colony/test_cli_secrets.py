"""`colony secret` against the real house."""

from __future__ import annotations

import pytest

from colony import errors, operations
from tests.colony.cast import Said, Shell, on_terminal
from tests.server.cast import token_of

ANN = token_of("ann")
VALUE = b"ghp_a-token-of-ann"


@pytest.fixture
def robin(run: Shell, channel: str) -> str:
    """An agent that has a Linux user and is ann's."""
    name = f"robin-{abs(hash(channel)) % 10**6}"
    run.house.call(operations.CREATE_USER, username=name, kind="agent", linux_user=name, owner="ann")
    return name


def put(run: Shell, robin: str, *more: str, value: bytes = VALUE + b"\n", token: str = ANN) -> Said:
    return run("secret", "set", "TOKEN", "--agent", robin, *(more or ("--host", "api.example")), stdin=value, token=token)


def test_a_secret_is_set_listed_and_taken_away(run: Shell, robin: str) -> None:
    said = put(run, robin, "--host", "API.example", "--host", "*.example.org:8443")
    assert said.code == 0, said.err
    assert said.out.startswith(f"{robin}: TOKEN, in the place of colony-secret-TOKEN-")
    assert said.out.endswith(", to api.example, *.example.org:8443\n")
    put(run, robin, "--host", "api.example", "--header", "Authorization: Bearer {}")
    head, line = (line.split("\t") for line in run("secret", "list", "--agent", robin, token=ANN).out.splitlines())
    assert head == ["agent", "name", "hosts", "header", "in_path", "as_environment", "set_by", "set_at", "uses", "used_at"]
    assert line[:7] == [robin, "TOKEN", "api.example", "Authorization: Bearer {}", "no", "no", "ann"]
    assert line[8:] == ["0", ""]
    for shown in (said.out, run("secret", "list", token=ANN).out, run("secret", "list", "--json").out):
        assert VALUE.decode() not in shown
    assert run("secret", "rm", "TOKEN", "--agent", robin, token=ANN).err == "colony: this secret is gone\n"
    again = run("secret", "rm", "TOKEN", "--agent", robin, token=ANN)
    assert (again.code, again.out) == (errors.NotFound.exit_code, "")


def test_where_one_goes_is_said(run: Shell, robin: str) -> None:
    said = put(run, robin, "--host", "api.example", "--in-path").out
    assert said.endswith(", also in the path, to api.example\n")
    assert run("secret", "list", "--agent", robin, token=ANN).out.splitlines()[1].split("\t")[4] == "yes"


def test_that_an_agent_has_no_gate_which_would_put_it_in_is_said(run: Shell, channel: str) -> None:
    name = f"rook-{abs(hash(channel)) % 10**6}"
    run.house.call(operations.CREATE_USER, username=name, kind="agent", owner="ann")
    said = put(run, name)
    assert (said.code, said.err) == (0, f"colony: {name} has no gate, since it has no Linux user: nobody puts this in for it\n")
    assert put(run, name, "--as-environment").err == ""


def test_who_pastes_one_is_told_that_it_is_covered(run: Shell, robin: str, channel: str) -> None:
    put(run, robin)
    said = run("post", channel, "mine is", VALUE.decode(), token=ANN)
    assert (said.code, said.err) == (0, "colony: it held a secret of this colony, which is covered\n")
    assert VALUE.decode() not in run("read", channel, token=ANN).out
    assert run("post", channel, "nothing to hide", token=ANN).err == ""


@pytest.mark.parametrize(
    ("more", "value", "complaint"),
    [
        ((), b"", "value: "),
        ((), b"short\n", "value: "),
        ((), b"two words of it\n", "value: must be one line of ASCII"),
        ((), b"two\nlines-of-it\n", "value: "),
        ((), b"\xff" * 20, "value: "),
        ((), b"x" * 9000, "value: "),
        (("--header", "X: {}"), VALUE, "hosts: name at least one host that it is for"),
        (("--host", "https://api.example/"), VALUE, "hosts.0: "),
        (("--host", "*"), VALUE, "hosts.0: '*' must name a host"),
        (("--host", "a.example", "--header", "Bearer {}"), VALUE, "header: 'Bearer {}' must be a header's name"),
    ],
)
def test_a_bad_argument_is_one_clear_line_that_tells_no_value(
    more: tuple[str, ...], value: bytes, complaint: str, run: Shell, robin: str
) -> None:
    said = put(run, robin, *more, value=value)
    assert (said.code, said.out) == (errors.Invalid.exit_code, "")
    assert said.err.startswith(f"colony: {complaint}")
    assert len(said.err.splitlines()) == 1
    assert not value.strip() or value.strip().decode(errors="replace") not in said.err
    assert robin not in run("secret", "list", token=ANN).out


def test_only_its_owner_and_administrators_decide(run: Shell, robin: str) -> None:
    assert put(run, robin, token=token_of("bob")).code == errors.Forbidden.exit_code
    assert put(run, "nobody-here").code == errors.NotFound.exit_code
    said = run("secret", "set", "TOKEN", "--host", "api.example", stdin=VALUE, token=ANN)
    assert said.err == "colony: administrators decide what all agents may use\n"


def test_on_a_terminal_the_value_is_asked_for_and_not_shown(run: Shell, robin: str) -> None:
    code, seen = on_terminal([VALUE.decode()], "secret", "set", "TOKEN", "--agent", robin, "--host", "api.example")
    assert code == 0, seen
    assert VALUE.decode() not in seen
    assert f"{robin}: TOKEN" in seen
