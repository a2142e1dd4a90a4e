"""Scripts that run from bytecode: an interpreter that compiles one itself takes milliseconds more, and keeps a megabyte."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import ModuleType

_HEADER = struct.Struct("<4sIII")  # magic number, flags, and by flags of 0 the source's time and size: PEP 552
_WORD = 0xFFFF_FFFF


def script(module: ModuleType) -> Path:
    """What to run a module's file from: its bytecode, or its source where that is newer and the import has compiled it for itself alone."""
    source: str | None = module.__file__
    compiled: str | None = vars(module)["__cached__"]
    assert source
    return Path(compiled) if compiled and _is_of(compiled, source) else Path(source)


def _is_of(compiled: str, source: str) -> bool:
    try:
        with open(compiled, "rb") as file:
            _, flags, seconds, size = _HEADER.unpack(file.read(_HEADER.size))
        found = os.stat(source)
    except (OSError, struct.error):
        return False
    return (flags, seconds, size) == (0, int(found.st_mtime) & _WORD, found.st_size & _WORD)
