"""Scripts that run from bytecode: an interpreter that compiles one itself takes milliseconds more, and keeps a megabyte."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType


def script(module: ModuleType) -> Path:
    """What to run a module's file from: its bytecode, which the import has just brought up to date, or else its source."""
    compiled: str | None = vars(module)["__cached__"]
    found = compiled if compiled and Path(compiled).exists() else module.__file__
    assert found
    return Path(found)
