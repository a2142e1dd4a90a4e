"""Whatever an archive holds, it gets nowhere but into the home; what is no whole archive is refused before that."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from colony import errors
from provisioning import archives, unpacking
from tests.provisioning.cast import RECORD

SETTINGS = '[agent]\nname = "scout"\nrunner = "command"\ncommand = ["/usr/bin/true"]\n'


def entry(name: str, text: str = "", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(text)
    for key, value in more.items():
        setattr(info, key, value)
    return info, text.encode()


def made(folder: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = folder / "made.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return path


def whole(folder: Path) -> Path:
    texts = {archives.RECORD: RECORD.text, "scout/CLAUDE.md": "# Scout\n", "scout/.colony.toml": SETTINGS}
    return made(folder, entry("scout", type=tarfile.DIRTYPE), *(entry(name, text) for name, text in texts.items()))


def unpacked(archive: Path, folder: Path) -> Path:
    home = folder / "home"
    home.mkdir()
    with archive.open("rb") as file:
        unpacking.unpack(file, home, ())
    return home


def test_it_says_who_lived_there(tmp_path: Path) -> None:
    found = unpacking.read(whole(tmp_path))
    assert (found.record, found.soul, found.has_repo) == (RECORD, "# Scout\n", False)
    assert found.agent["command"] == ["/usr/bin/true"]


def test_an_archive_that_tar_made_says_less(tmp_path: Path) -> None:
    home = tmp_path / "scout"
    (home / "repo").mkdir(parents=True)
    (home / "CLAUDE.md").write_text("# Scout\n")
    (home / "same").hardlink_to(home / "CLAUDE.md")
    with (home / "hole").open("wb") as hole:
        hole.truncate(2**30)
        hole.seek(2**29)
        hole.write(b"middle")
    path = tmp_path / "scout.tar.gz"
    subprocess.run(["tar", "--create", "--gzip", "--sparse", f"--file={path}", f"--directory={tmp_path}", "scout"], check=True)
    found = unpacking.read(path)
    assert (found.record, found.soul, found.agent, found.has_repo) == (None, "# Scout\n", {}, True)
    back = unpacked(path, tmp_path)
    assert (back / "same").read_text() == "# Scout\n"
    assert (back / "hole").stat().st_size == 2**30
    assert (back / "hole").stat().st_blocks < 2**14
    with (back / "hole").open("rb") as hole:
        hole.seek(2**29)
        assert hole.read(7) == b"middle\0"


@pytest.mark.parametrize("name", ["/etc/passwd", "scout/../../etc/passwd", "../x", "scout/.."])
def test_what_belongs_in_no_home_is_refused(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, entry("scout", type=tarfile.DIRTYPE), entry(name, "x"))
    with pytest.raises(errors.Invalid, match="belongs in no home"):
        unpacking.read(path)
    with pytest.raises(errors.Invalid, match="belongs in no home"):
        unpacked(path, tmp_path)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "theirs").write_text("theirs")
    link = entry("scout/way", type=tarfile.SYMTYPE, linkname=str(outside))
    archive = made(
        tmp_path,
        link,
        entry("scout/way/planted", "x"),
        entry("scout/way/also", type=tarfile.SYMTYPE, linkname="x"),
        entry("scout/file", type=tarfile.SYMTYPE, linkname=str(outside / "theirs")),
        entry("scout/file", "mine"),
        entry("scout/stolen", type=tarfile.LNKTYPE, linkname="scout/way/theirs"),
    )
    home = unpacked(archive, tmp_path)
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"theirs": "theirs"}
    assert (home / "file").read_text() == "mine"
    assert (home / "way").is_dir()
    assert not (home / "way").is_symlink()
    assert not (home / "stolen").exists()


def test_devices_pipes_and_special_modes_do_not_come_out(tmp_path: Path) -> None:
    odd = {"device": tarfile.CHRTYPE, "disk": tarfile.BLKTYPE, "pipe": tarfile.FIFOTYPE}
    files = (entry("scout/run", "#!/bin/sh", mode=0o6777, uid=0, gid=0), entry("scout/open", "x", mode=0o666, uid=0))
    home = unpacked(made(tmp_path, *files, *(entry(f"scout/{name}", type=kind) for name, kind in odd.items())), tmp_path)
    assert {path.name: oct(path.lstat().st_mode & 0o7777) for path in home.iterdir()} == {"run": "0o700", "open": "0o600"}


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    raw = bytearray(gzip.decompress(data))
    packed = bytearray(gzip.compress(bytes(raw), 0))
    packed[len(packed) // 2] ^= 1
    return bytes(packed)


@pytest.mark.parametrize("damage", [cut, flipped, lambda data: data[:-4], lambda data: b"no archive", lambda data: b""])
def test_what_is_damaged_is_refused_in_one_line(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = whole(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(errors.Invalid, match="is no whole archive of a home") as caught:
        unpacking.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ((entry("scout/x"), entry("rook/x")), "holds 2 homes, not one"),
        ((entry(archives.RECORD, RECORD.text),), "holds 0 homes, not one"),
        ((entry("scout/x"), entry(archives.RECORD, "name = 1")), "record.toml: "),
        ((entry("scout/.colony.toml", "[agent"),), "Expected"),
    ],
)
def test_what_is_no_archive_of_one_home_is_refused(tmp_path: Path, entries: tuple[tuple[tarfile.TarInfo, bytes], ...], says: str) -> None:
    path = made(tmp_path, *entries)
    with pytest.raises(errors.Invalid, match=says.replace("[", r"\[")) as caught:
        unpacking.read(path)
    assert str(path) in str(caught.value)


def test_what_is_not_there_or_no_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="there is no archive"):
        unpacking.read(tmp_path / "none")
    with pytest.raises(errors.Invalid, match="it is no file"):
        unpacking.read(tmp_path)
