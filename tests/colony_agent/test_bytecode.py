"""What is run from bytecode is what the source says."""

from __future__ import annotations

import importlib.util
import os
import py_compile
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from colony_agent import bytecode


def module(folder: Path) -> ModuleType:
    source = folder / "said.py"
    source.write_text("print('one')\n")
    py_compile.compile(str(source))
    spec = importlib.util.spec_from_file_location("said", source)
    assert spec
    return importlib.util.module_from_spec(spec)


def run(script: Path) -> str:
    return subprocess.run([sys.executable, "-I", "-S", str(script)], capture_output=True, text=True, check=True).stdout


def test_bytecode_is_run_where_it_is_there(tmp_path: Path) -> None:
    found = bytecode.script(module(tmp_path))
    assert found.suffix == ".pyc"
    assert run(found) == "one\n"


@pytest.mark.parametrize("later", [0, 10])
def test_bytecode_of_a_source_that_has_changed_is_not(tmp_path: Path, later: int) -> None:
    """As where Python is told to write none: PYTHONDONTWRITEBYTECODE."""
    said = module(tmp_path)
    assert said.__file__
    before = os.stat(said.__file__)
    Path(said.__file__).write_text("print('another')\n")
    os.utime(said.__file__, (before.st_atime + later, before.st_mtime + later))
    assert run(bytecode.script(said)) == "another\n"


@pytest.mark.parametrize("content", [None, b"", b"short", b"\0" * 100])
def test_bytecode_that_is_none_is_not(tmp_path: Path, content: bytes | None) -> None:
    said = module(tmp_path)
    compiled = Path(vars(said)["__cached__"])
    compiled.unlink()
    if content is not None:
        compiled.write_bytes(content)
    assert run(bytecode.script(said)) == "one\n"
