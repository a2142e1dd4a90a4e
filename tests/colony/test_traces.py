"""A value is found in whatever form and place it stands."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony.traces import Trace, Tripwire, forms

VALUE = "colony-admin-0123456789abcdef"
WRITTEN: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda value: value,
    "base64": base64.b64encode,
    "base64, one byte in": lambda value: base64.b64encode(b"a" + value),
    "base64, two bytes in": lambda value: base64.b64encode(b"ab" + value),
    "base64 for addresses": base64.urlsafe_b64encode,
    "hexadecimal digits": lambda value: value.hex().encode(),
    "percent-encoded": lambda value: quote(value, safe="").encode(),
    "JSON": lambda value: json.dumps(value.decode()).encode(),
}


@pytest.mark.parametrize("how", WRITTEN)
@pytest.mark.parametrize("value", [VALUE, 's"lash\\/and+more~?'])
def test_a_value_is_found_however_it_is_written(how: str, value: str) -> None:
    written = b"before " + WRITTEN[how](value.encode()) + b" after"
    assert any(form in written for form in forms(value.encode()))


@pytest.mark.parametrize("how", WRITTEN)
def test_a_trace_is_found_however_it_is_written(how: str) -> None:
    assert Trace(VALUE).is_in(b"x" + WRITTEN[how](VALUE.encode()) + b"y")
    assert not Trace(VALUE).is_in(b"x" + WRITTEN[how](VALUE[:-1].encode()) + b"y")


def test_names_hold_it_in_any_case_and_over_any_labels() -> None:
    trace = Trace(VALUE)
    assert trace.is_in_name(f"{VALUE.upper()}.evil.example")
    assert trace.is_in_name(".".join(VALUE[at : at + 5] for at in range(0, len(VALUE), 5)) + ".evil.example:443")
    assert trace.is_in_name(f"{VALUE.encode().hex()}.evil.example")
    assert not trace.is_in_name("evil.example")


@given(st.binary(max_size=200), st.integers(1, 40), st.sampled_from(sorted(WRITTEN)))
def test_it_is_found_wherever_it_is_cut(before: bytes, size: int, how: str) -> None:
    said = before + WRITTEN[how](VALUE.encode()) + b"and more"
    pieces = [said[at : at + size] for at in range(0, len(said), size)]
    wire = Tripwire(Trace(VALUE))
    assert any(wire.is_touched_by(piece) for piece in pieces)
    wire = Tripwire(Trace(VALUE))
    assert not any(wire.is_touched_by(piece) for piece in [before, WRITTEN[how](VALUE[::-1].encode())])


def test_it_is_not_shown() -> None:
    assert VALUE not in repr(Trace(VALUE))
