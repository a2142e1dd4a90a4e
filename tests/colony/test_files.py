"""Files below a folder that somebody hostile may have filled."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from colony import files


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("the host's")
    return home


def secret(home: Path) -> str:
    return (home.parent / "outside" / "secret").read_text()


def as_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(f"/proc/self/fd/{folder}/{path.name}")  # the path itself may be too long
    os.close(folder)


def as_open_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o755)


def as_link_to_my_folder(path: Path) -> None:
    path.with_name("mine").mkdir(0o700)
    path.symlink_to("mine")


def as_folder_of_nobody(path: Path) -> None:
    path.mkdir(0o700)
    os.chown(path, 65534, 65534)


ODD: dict[str, Callable[[Path], object]] = {
    "link": lambda path: path.symlink_to("../outside/secret"),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "socket": as_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
}
odd = pytest.mark.parametrize("make", ODD.values(), ids=ODD)


def test_what_is_written_is_read(home: Path) -> None:
    files.write(home, "deep/er/name", "one\n")
    files.write(home, "deep/er/name", "two \N{SNOWMAN}\n")
    assert files.read(home, "deep/er/name", 100) == "two \N{SNOWMAN}\n"
    assert [path.name for path in (home / "deep" / "er").iterdir()] == ["name"]
    assert (home / "deep").stat().st_mode & 0o777 == 0o700
    assert (home / "deep/er/name").stat().st_mode & 0o777 == 0o600


def test_what_is_missing_is_empty(home: Path) -> None:
    assert files.read(home, "none", 100) == ""
    assert files.read(home, "no/such/file", 100) == ""


def test_no_more_is_read_than_allowed_and_of_any_encoding(home: Path) -> None:
    (home / "large").write_bytes(b"\xff" + b"x" * 1000)
    assert files.read(home, "large", 5) == "\N{REPLACEMENT CHARACTER}xxxx"


@odd
def test_an_odd_file_is_not_read(home: Path, make: Callable[[Path], object]) -> None:
    make(home / "name")
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(OSError, match=r".+"):
            files.read(home, "name", 100)
    assert len(os.listdir("/proc/self/fd")) < open_before + 20  # none is left open each time


@odd
def test_an_odd_file_is_replaced_and_what_it_points_to_is_not(home: Path, make: Callable[[Path], object]) -> None:
    make(home / "name")
    if (home / "name").is_dir() and not (home / "name").is_symlink():
        with pytest.raises(OSError, match="directory"):
            files.write(home, "name", "new")
    else:
        files.write(home, "name", "new")
        assert not (home / "name").is_symlink()
        assert (home / "name").read_text() == "new"
    assert secret(home) == "the host's"
    assert [path.name for path in home.iterdir()] == ["name"]


@pytest.mark.parametrize("text", ["", "longer than it was before", "short"])
def test_what_is_written_over_is_the_same_file(home: Path, text: str) -> None:
    (home / "soul.md").write_text("as it was")
    before = (home / "soul.md").stat().st_ino
    files.overwrite(home, "soul.md", text)
    assert ((home / "soul.md").read_text(), (home / "soul.md").stat().st_ino) == (text, before)
    with pytest.raises(FileNotFoundError):
        files.overwrite(home, "missing.md", text)


@odd
def test_an_odd_file_is_not_written_over(home: Path, make: Callable[[Path], object]) -> None:
    make(home / "odd")
    with pytest.raises(OSError, match=r".+"):
        files.overwrite(home, "odd", "text")


def test_what_is_appended_stands_at_the_end(home: Path) -> None:
    for word in (b"one\n", b"\xff\n"):
        files.append(home, "deep/er/name", word)
    assert files.read_bytes(home, "deep/er/name", 100) == b"one\n\xff\n"
    assert (home / "deep").stat().st_mode & 0o777 == 0o700
    assert (home / "deep/er/name").stat().st_mode & 0o777 == 0o600


@odd
def test_nothing_is_appended_to_an_odd_file(home: Path, make: Callable[[Path], object]) -> None:
    make(home / "name")
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(OSError, match=r".+"):
            files.append(home, "name", b"mine")
    assert len(os.listdir("/proc/self/fd")) < open_before + 20
    assert secret(home) == "the host's"
    assert [path.name for path in home.iterdir()] == ["name"]


def test_nothing_is_appended_to_a_pipe_that_somebody_reads(home: Path) -> None:
    os.mkfifo(home / "name")
    reader = os.open(home / "name", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="no regular file"):
        files.append(home, "name", b"mine")
    assert os.read(reader, 10) == b""
    os.close(reader)


def test_a_linked_file_outlives_the_replacement_of_its_first_name(home: Path) -> None:
    files.write(home, "name", "one")
    files.link(home, "name", "deep/other")
    files.write(home, "name", "two")
    assert files.read(home, "deep/other", 100) == "one"
    with pytest.raises(FileExistsError):
        files.link(home, "name", "deep/other")


def test_a_link_on_the_way_is_not_followed(home: Path) -> None:
    (home / "own").touch()
    (home / "memory").symlink_to("../outside")
    for act in (
        lambda: files.read(home, "memory/secret", 100),
        lambda: files.write(home, "memory/secret", "mine"),
        lambda: files.write(home, "memory/new", "mine"),
        lambda: files.write(home, "memory/deeper/new", "mine"),
        lambda: files.prune(home, "memory", 0),
        lambda: files.append(home, "memory/secret", b"mine"),
        lambda: files.append(home, "memory/new", b"mine"),
        lambda: files.link(home, "memory/secret", "mine"),
        lambda: files.link(home, "own", "memory/new"),
        lambda: files.put_aside(home, "memory/secret", "gone"),
        lambda: files.exists(home, "memory/secret"),
        lambda: files.exists(home, "memory/none"),
        lambda: files.make_folder(home, "memory"),
        lambda: files.make_folder(home, "memory/deeper"),
    ):
        with pytest.raises(OSError, match="Not a directory"):
            act()
    assert os.listdir(home.parent / "outside") == ["secret"]
    assert secret(home) == "the host's"


@odd
def test_whatever_is_there_exists(home: Path, make: Callable[[Path], object]) -> None:
    assert not files.exists(home, "name")
    make(home / "name")
    assert files.exists(home, "name")
    assert not files.exists(home, "no/such/file")


def test_a_folder_is_made_with_those_above_it_and_only_once(home: Path) -> None:
    files.write(home, "deep/name", "kept")
    for _ in range(2):
        files.make_folder(home, "deep/er/still")
    assert (home / "deep" / "er" / "still").is_dir()
    assert (home / "deep" / "er").stat().st_mode & 0o777 == 0o700
    assert files.read(home, "deep/name", 100) == "kept"


@odd
def test_no_folder_is_made_where_something_else_is(home: Path, make: Callable[[Path], object]) -> None:
    make(home / "name")
    for name in ("name", "name/deeper"):
        if (home / "name").is_dir() and not (home / "name").is_symlink():
            files.make_folder(home, name)
        else:
            with pytest.raises(OSError, match="Not a directory"):
                files.make_folder(home, name)
    assert os.listdir(home.parent / "outside") == ["secret"]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_private_folder_is_the_same_for_the_same_key(temporary: Path) -> None:
    one, other = files.private_folder("one"), files.private_folder("other")
    assert one != other
    assert files.private_folder("one") == one
    assert {one, other} == set(temporary.iterdir())
    assert one.stat().st_mode & 0o777 == 0o700


TAKEN: dict[str, Callable[[Path], object]] = {
    **{what: make for what, make in ODD.items() if what != "folder"},
    "folder that others may read": as_open_folder,
    "link to a folder of mine": as_link_to_my_folder,
}
if os.geteuid() == 0:
    TAKEN["folder of somebody else"] = as_folder_of_nobody


@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN)
def test_a_private_folder_whose_name_is_taken_is_another(temporary: Path, take: Callable[[Path], object]) -> None:
    usual = files.private_folder("one")
    usual.rmdir()
    take(usual)
    facts = usual.lstat()
    first, second = files.private_folder("one"), files.private_folder("one")
    assert len({usual, first, second}) == 3
    for own in (first, second):
        assert own.is_dir()
        assert not own.is_symlink()
        assert (own.stat().st_mode & 0o777, own.stat().st_uid) == (0o700, os.geteuid())
        assert list(own.iterdir()) == []
    assert (usual.lstat().st_mode, usual.lstat().st_uid, usual.lstat().st_ino) == (facts.st_mode, facts.st_uid, facts.st_ino)


def test_prune_keeps_the_last_and_what_is_no_file(home: Path) -> None:
    folder = home / "dreams"
    folder.mkdir()
    for number in range(5):
        (folder / f"2030-01-0{number + 1}.md").touch()
    (folder / "2029").mkdir()
    (folder / "2028").symlink_to("../../outside/secret")
    files.prune(home, "dreams", 2)
    assert sorted(os.listdir(folder)) == ["2028", "2029", "2030-01-04.md", "2030-01-05.md"]
    files.prune(home, "dreams", 0)
    assert sorted(os.listdir(folder)) == ["2028", "2029"]
    assert secret(home) == "the host's"


@odd
def test_whatever_is_in_the_way_is_put_aside(home: Path, make: Callable[[Path], object]) -> None:
    make(home / "name")
    files.put_aside(home, "name", "aside")
    assert os.listdir(home) == ["aside"]
    assert secret(home) == "the host's"


def test_a_name_leads_nowhere_else(home: Path) -> None:
    """Names are ours, never the agent's; still, none of them may climb over a link."""
    (home / "up").symlink_to("..")
    with pytest.raises(OSError, match="Not a directory"):
        files.read(home, "up/outside/secret", 100)


def test_a_listing_holds_regular_files_only(tmp_path: Path) -> None:
    (tmp_path / "diary" / "folder").mkdir(parents=True)
    (tmp_path / "diary" / "b").write_text("two")
    (tmp_path / "diary" / "a").write_text("one!")
    (tmp_path / "diary" / "link").symlink_to("a")
    os.mkfifo(tmp_path / "diary" / "pipe")
    assert [(name, size) for name, size, _ in files.listing(tmp_path, "diary")] == [("a", 4), ("b", 3)]
    assert files.listing(tmp_path, "nothing") == []
