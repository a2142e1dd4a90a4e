"""The sandboxes that must keep the same promises: all of them, but where a developer's machine lacks one."""

from __future__ import annotations

import os
import shutil

from colony.bounds import SandboxKind

ENGINES: tuple[SandboxKind, ...] = ("bwrap", "podman") if shutil.which("podman") or os.environ.get("CI") else ("bwrap",)
