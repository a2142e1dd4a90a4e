"""The root file system of a guest: the running system's, under a tmpfs that takes all changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.guest import minimal
from tests.guest.places import mount, unmount


class Changes:
    """What a guest changes, in a tmpfs at `folder`. As `upper` it can be a layer of later guests; unmounted it is gone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.upper, self.work = folder, folder / "upper", folder / "work"

    def mount(self, size_bytes: int | None = None) -> None:
        """Begin with none; half of the memory is room enough, unless `size_bytes` says otherwise."""
        unmount(self.folder)
        mount("tmpfs", self.folder.parent.name, self.folder, "mode=755", *([f"size={size_bytes}"] if size_bytes else []))
        self.upper.mkdir()
        self.work.mkdir()


def mount_root(root: Path, changes: Changes, layers: Sequence[Path] = ()) -> None:
    """Mount it at `root`, with the layers between this machine and the changes, the newest first."""
    if not layers:
        minimal.hide(changes.upper)
    lower = ":".join(map(str, (*layers, Path("/"))))
    # redirect_dir: else a folder of a lower layer could not be renamed, as it can on any real disk.
    mount("overlay", root.parent.name, root, f"lowerdir={lower}", f"upperdir={changes.upper}", f"workdir={changes.work}", "redirect_dir=on")
    if not layers:
        minimal.trim(root)
    minimal.christen(root, root.parent.name)
