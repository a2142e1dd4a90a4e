"""A home goes into an archive whatever lies there, and comes out of it as it was."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from colony import errors
from provisioning import packing, unpacking
from provisioning.packing import Packed
from tests.provisioning.cast import RECORD

MB = 10**6
KEPT = {
    "CLAUDE.md": "# Scout\n",
    ".colony.toml": '[agent]\nname = "scout"\n',
    "memory/memory.md": "I like tea\n",
    "tools/run": "#!/bin/sh\n",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "scout"
    for name, text in KEPT.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    (home / "tools/run").chmod(0o6755)
    (home / "link").symlink_to("/usr/bin/python3")
    return home


@pytest.fixture
def archive() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        yield file


def pack(home: Path, archive: IO[bytes], max_bytes: int = 10 * MB) -> Packed:
    packed = packing.pack(str(home), RECORD.text, archive, max_bytes)
    assert unpacking.count(archive) == packed.entries
    return packed


def names(archive: IO[bytes]) -> list[str]:
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        return tar.getnames()


def reasons(packed: Packed) -> dict[str, str]:
    """By the reason: the first that was left out."""
    assert packed.left_out.keys() == packed.examples.keys()
    return packed.examples


def test_what_goes_in_comes_out_and_what_can_be_had_again_does_not_go_in(home: Path, archive: IO[bytes], tmp_path: Path) -> None:
    for gone in ("repo/README", ".cache/pip/x", ".colony-state.json"):
        (home / gone).parent.mkdir(parents=True, exist_ok=True)
        (home / gone).write_text("again")
    packed = pack(home, archive)
    assert reasons(packed) == {}
    back = tmp_path / "back"
    back.mkdir()
    unpacking.unpack(archive, back, ())
    found = {str(path.relative_to(back)): path.read_text() for path in back.rglob("*") if path.is_file() and not path.is_symlink()}
    assert found == KEPT
    assert (back / "link").readlink() == Path("/usr/bin/python3")
    assert {oct(path.lstat().st_mode & 0o7777) for path in back.rglob("*") if not path.is_symlink()} == {"0o700", "0o600"}
    assert os.access(back / "tools/run", os.X_OK)
    assert int((back / "memory/memory.md").stat().st_mtime) == int((home / "memory/memory.md").stat().st_mtime)


def test_it_begins_with_the_record_and_with_what_matters_most(home: Path, archive: IO[bytes]) -> None:
    (home / "a").write_text("first by name")
    pack(home, archive)
    assert names(archive)[:6] == ["record.toml", "scout", "scout/CLAUDE.md", "scout/.colony.toml", "scout/memory", "scout/memory/memory.md"]


def test_what_is_too_large_is_left_out_and_said_and_the_rest_is_kept(home: Path, archive: IO[bytes]) -> None:
    with (home / "hole").open("wb") as hole:
        hole.truncate(2**42)
    (home / "big").write_bytes(os.urandom(MB))
    (home / "small").write_text("fits")
    packed = pack(home, archive, MB)
    assert packed.left_out == {"beyond 1 MB": 2}
    assert reasons(packed) == {"beyond 1 MB": "scout/big"}
    assert "scout/small" in names(archive)
    assert packed.bytes <= MB


def test_what_is_neither_file_nor_folder_is_left_out_and_holds_nothing_up(home: Path, archive: IO[bytes]) -> None:
    os.mkfifo(home / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home / "socket"))
    assert pack(home, archive).left_out == {"neither file nor folder": 2}


def test_folders_in_folders_have_an_end(home: Path, archive: IO[bytes]) -> None:
    inner = os.open(home, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=inner)
        outer, inner = inner, os.open("d", os.O_RDONLY, dir_fd=inner)
        os.close(outer)
    os.close(inner)
    packed = pack(home, archive)
    assert packed.left_out == {"nested too deeply": 1}
    assert max(name.count("/") for name in names(archive)) == packing.MAX_DEPTH - 1
    assert "scout/tools/run" in names(archive)


def test_entries_have_an_end_too(home: Path, archive: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_ENTRIES", 50)
    (home / "many").mkdir()
    for number in range(200):
        (home / "many" / str(number)).touch()
    packed = pack(home, archive)
    assert list(packed.left_out) == ["beyond 50 entries"]
    assert packed.entries <= 53
    assert "scout/memory/memory.md" in names(archive)


def test_what_was_packed_is_not_remembered(home: Path, archive: IO[bytes]) -> None:
    (home / "many").mkdir()
    for number in range(3000):
        (home / "many" / f"{number:0250}").touch()
    tracemalloc.start()
    packing.pack(str(home), RECORD.text, archive, 10 * MB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * MB


def test_time_has_an_end(home: Path, archive: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_SECONDS", -1.0)
    with pytest.raises(errors.Unavailable, match="not packed within"):
        pack(home, archive)


@pytest.mark.parametrize("size", [0, 5, 300_000])
def test_a_file_that_changes_meanwhile_does_no_harm(size: int) -> None:
    whole = packing._Whole(io.BytesIO(b"x" * size))
    assert whole.read(200_000) == (b"x" * size)[:200_000].ljust(200_000, b"\0")


@pytest.mark.parametrize("name", [b"line\nbreak", b"\xff\xfe", "snow \N{SNOWMAN}".encode(), b"x" * 255])
def test_a_file_may_have_any_name(home: Path, archive: IO[bytes], tmp_path: Path, name: bytes) -> None:
    (home / os.fsdecode(name)).write_text("odd")
    pack(home, archive)
    back = tmp_path / "back"
    back.mkdir()
    unpacking.unpack(archive, back, ())
    assert (back / os.fsdecode(name)).read_text() == "odd"


def test_a_link_is_kept_and_not_followed(home: Path, archive: IO[bytes], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("mine")
    (home / "way").symlink_to(outside)
    pack(home, archive)
    assert "scout/way" in names(archive)
    assert not any("secret" in name for name in names(archive))
