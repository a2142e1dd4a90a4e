"""The sandboxes that must keep the same promises: all of them, but where a developer's machine lacks one."""

from __future__ import annotations

import os
import shutil

ENGINES = ("bwrap", "podman") if shutil.which("podman") or os.environ.get("CI") else ("bwrap",)
