"""A secret that a host sends back comes to nobody, however it is cut."""

from __future__ import annotations

import base64
import random
import time

import pytest

from egress.mask import Mask

VALUE = b"ghp_Secret42/+~"


def masked(values: list[bytes], pieces: list[bytes]) -> bytes:
    mask = Mask(values)
    return b"".join(map(mask.feed, pieces)) + mask.finish()


@pytest.mark.parametrize("size", range(1, 40))
def test_a_value_is_masked_wherever_it_is_cut(size: int) -> None:
    body = b"ghp_ghp_Secret " + VALUE + b" and " + VALUE + VALUE + b" ghp_Secret42/"
    stars = b"*" * len(VALUE)
    cut = [body[at : at + size] for at in range(0, len(body), size)]
    assert masked([VALUE], cut) == body.replace(VALUE, stars)


def test_a_value_that_begins_another_hides_neither() -> None:
    assert masked([b"abcdefgh", b"abcdefghijkl"], [b"-abcdefgh", b"ijkl-", b"abcdefghij"]) == b"-" + b"*" * 12 + b"-" + b"*" * 8 + b"ij"


def test_a_value_within_what_might_have_been_another_hides_nothing_beside_it() -> None:
    assert masked([b"xx12345678yy", b"12345678"], [b"-xx12345678", b"zz"]) == b"-xx********zz"


@pytest.mark.parametrize("size", [1, 3, 100])
def test_values_that_overlap_are_masked_both(size: int) -> None:
    body = b"-12345678abcd-"
    assert masked([b"12345678", b"5678abcd"], [body[at : at + size] for at in range(0, len(body), size)]) == b"-" + b"*" * 12 + b"-"


@pytest.mark.parametrize("before", [b"", b"u:", b"us:", b"user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_value_in_base64_is_masked_at_each_alignment(before: bytes, encode: object) -> None:
    assert callable(encode)
    shown = masked([VALUE], [encode(before + VALUE + b"!!")])
    assert VALUE[1:-1] not in base64.b64decode(shown.replace(b"*", b"A"), altchars=b"-_" if b"-" in shown or b"_" in shown else None)
    assert shown.count(b"*") >= len(VALUE) * 8 // 6 - 1


@pytest.mark.parametrize("alphabet", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_value_in_wide_letters_is_masked_too(alphabet: str, size: int) -> None:
    body = "It is ".encode(alphabet) + "ghp_ß-very-secret".encode(alphabet) + b"."
    shown = masked(["ghp_ß-very-secret".encode()], [body[at : at + size] for at in range(0, len(body), size)])
    assert len(shown) == len(body)
    assert "very".encode(alphabet)[-4:] not in shown
    assert b"s\0e" not in shown.replace(b"\0\0\0", b"\0")


def test_what_is_no_beginning_of_a_value_goes_on_at_once() -> None:
    assert Mask([VALUE]).feed(b"data: hello\n\n") == b"data: hello\n\n"


def test_it_shows_no_value() -> None:
    assert VALUE.decode() not in repr(Mask([VALUE]))


@pytest.mark.parametrize("seed", range(200))
def test_values_that_look_alike_are_masked_the_same_in_pieces_as_in_one(seed: int) -> None:
    chance = random.Random(seed)
    values = [bytes(chance.choices(b"ab", k=chance.randint(8, 12))) for _ in range(2)]
    body = bytes(chance.choices(b"ab", k=300)) + values[0]
    hidden = {
        at for value in values for begin in range(len(body)) if body.startswith(value, begin) for at in range(begin, begin + len(value))
    }
    size = chance.randint(1, 20)
    shown = masked(values, [body[at : at + size] for at in range(0, len(body), size)])
    assert shown == bytes(ord("*") if at in hidden else byte for at, byte in enumerate(body))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"a" * 4000, b"a" * 65536),
        (b"a" * 2000 + b"b" + b"a" * 2000, b"a" * 65536),
        (b"ab" * 2000 + b"c", b"ab" * 30000 + b"c"),
        (b"a" * 4000 + b"b", (b"a" * 4000 + b"b") * 16),
    ],
)
def test_a_value_that_repeats_itself_is_masked_in_no_time(value: bytes, said: bytes) -> None:
    pieces = [said[at : at + 16384] for at in range(0, len(said), 16384)]
    began = time.process_time()
    shown = masked([value], pieces)
    assert time.process_time() - began < 0.1
    assert len(shown) == len(said)
    assert value not in shown
    if value in said:
        at, end = said.find(value), said.rfind(value) + len(value)
        assert shown[at:end] == b"*" * (end - at)
