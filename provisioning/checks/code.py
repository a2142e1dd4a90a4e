"""The code that the host runs: there, whole, for everybody to run and for nobody but root to change."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from provisioning import found, places
from provisioning.checks import trial, writers
from provisioning.checks.finding import HOST, Finding, Findings
from provisioning.checks.scene import Scene
from provisioning.host import files
from provisioning.steps import Run, Step

INSTALL = "sudo make install, in a checkout of Colony"
TRIAL = "import colony_agent.cli"
PROGRAMS = ("colony", "colony-agent", "colony-egress", "colony-server", "python")
_MENDED = (("chown", "-Rh", "root:root", str(places.CODE)), ("chmod", "-R", "go-w", str(places.CODE)))


def release(scene: Scene) -> Findings:
    """The release that is the host's: whether it is there and whole, and whether an agent could run it."""
    if not places.CURRENT.is_symlink() or scene.release.parent != places.RELEASES:
        yield Finding(HOST, f"{places.CURRENT} is no link to a release: there is no code that new agents could run", INSTALL)
        return
    if lacks := missing(scene.release):
        remedy = f"rm -rf {scene.release}/.venv {scene.release}/.complete; then {INSTALL}"
        yield Finding(HOST, f"the release {scene.release.name} is not whole: {lacks} is missing", remedy)
        return
    if said := trial.complaint((f"{scene.release}/.venv/bin/python", "-I", "-c", TRIAL), "nobody", scene.is_root):
        yield Finding(HOST, f"agents can't run the release {scene.release.name}: {said}", f"chmod -R a+rX {places.CODE}")


def missing(release: Path) -> str:
    """What a release lacks, in a word; empty for a whole one."""
    wanted = (release, release / ".complete", *(release / ".venv/bin" / name for name in PROGRAMS))
    return next((str(path.relative_to(release.parent)) for path in wanted if not path.exists()), "")


def safety(scene: Scene) -> Findings:
    """Whether anybody but root could change what runs."""
    loose = {path: how for path, facts in writers.below(places.CODE) if (how := writers.besides_root(facts))}
    if loose:
        yield Finding(
            HOST,
            f"{_counted(loose)}; what it says now can't be trusted if you don't know why",
            " && ".join(" ".join(argv) for argv in _MENDED),
            fix=Step("code", f"that {places.CODE} is root's alone", tuple(Run(argv) for argv in _MENDED)),
        )
    for program in _programs():
        for path, facts in (*writers.above(program), (program, program.stat())):
            if how := writers.besides_root(facts):
                what = f"{path}, on the way to {program}, is not root's alone: {how}"
                yield Finding(HOST, what, f"chown root: {path}; chmod go-w {path}")


def commands(scene: Scene) -> Findings:
    """Whether `colony` and its siblings are what a shell finds."""
    entries = found.look(link.path for link in files.LINKS)
    gone = tuple(link for link in files.LINKS if not found.is_so(link, entries))
    for link in gone:
        entry = entries.get(link.path)
        is_foreign = entry is not None and entry.kind != "link"
        what = f"{link.path} is something else than a link to {link.target}" if entry else f"the link {link.path} is missing"
        fix = None if is_foreign else Step("commands", f"the link {link.path}", (link,))
        remedy = f"mv {link.path} {link.path}.old; ln -s {link.target} {link.path}" if is_foreign else f"ln -sfn {link.target} {link.path}"
        yield Finding(HOST, what, remedy, fix=fix)


def _counted(loose: Mapping[Path, str]) -> str:
    path, how = next(iter(loose.items()))
    others = f", and {len(loose) - 1} more below {places.CODE}" if len(loose) > 1 else ""
    return f"code that runs is not root's alone: {path} ({how}){others}"


def _programs() -> list[Path]:
    """What the code is run with, wherever that is; in folders that people, too, put things into."""
    named = [os.path.realpath(sys.executable), shutil.which("bwrap", path="/usr/bin:/bin"), *(str(link.path) for link in files.LINKS[:1])]
    return [Path(name) for name in named if name and Path(name).exists()]
