"""What a turn leaves in the temporary folder: nothing, even if it was killed and its home is no more."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from colony_agent.tool_socket import LEFT_SECONDS, ToolSocket


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary folder: near the root, as a socket's path is short."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


def grow_old(tools: ToolSocket) -> None:
    long_ago = time.time() - LEFT_SECONDS - 60
    os.utime(tools.path, (long_ago, long_ago))


def test_a_turn_leaves_nothing(temporary: Path) -> None:
    with ToolSocket(Path("/home/one")):
        assert list(temporary.iterdir())
    assert list(temporary.iterdir()) == []


def test_what_a_killed_turn_of_another_home_has_left_is_swept(temporary: Path) -> None:
    killed = ToolSocket(Path("/home/one"))
    killed.listener.close()
    with ToolSocket(Path("/home/other")):
        assert killed.path.exists(), "it could begin just now"
    grow_old(killed)
    with ToolSocket(Path("/home/other")):
        assert not killed.path.parent.exists()


def test_what_somebody_answers_at_stays_however_old(temporary: Path) -> None:
    with ToolSocket(Path("/home/one")) as lives:
        grow_old(lives)
        with ToolSocket(Path("/home/other")):
            assert lives.path.exists()


def test_what_is_something_else_stays(temporary: Path) -> None:
    killed = ToolSocket(Path("/home/one"))
    killed.listener.close()
    (killed.path.parent / "notes").write_text("mine")
    grow_old(killed)
    (temporary / f"colony-{os.getuid()}-link").symlink_to(killed.path.parent)
    (temporary / f"colony-{os.getuid()}-file").write_text("")
    with ToolSocket(Path("/home/other")):
        assert (killed.path.parent / "notes").read_text() == "mine"
        assert (temporary / f"colony-{os.getuid()}-file").exists()
