"""What only an agent's own code can say of its home: whether its settings can be used, and whether its memory keeps its bound."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from colony import errors, files
from colony.config import PROJECT_FILE
from colony_agent import overflow, process
from colony_agent.runner import RunnerFailed
from colony_agent.sandbox import for_home
from colony_agent.settings import Home, load
from provisioning import places, reach, stepdown
from provisioning.checks import writers
from provisioning.checks.finding import Finding, Findings, Unseen
from provisioning.checks.resident import Resident
from provisioning.checks.scene import Scene
from provisioning.facts import is_ours

PATIENCE_SECONDS = 10  # with what an agent has put in its home
SOCKET = f"unix:{places.SOCKET}"


def settings(scene: Scene, resident: Resident) -> Findings:
    """Whether its settings load, fit what the host knows of it, and name what can be run and no agent can change."""

    def look(path: Path) -> None:
        home = load(path)
        _fit(resident, home)
        if home.agent.runner == "command":
            _require_safe(home.agent.command, scene, resident)

    try:
        _as_agent(scene, resident, look)
    except errors.Conflict as error:
        yield Finding(resident.name, error.detail, "chown root: what is named there; chmod go-w it")
    except (errors.Invalid, errors.Unavailable) as error:
        remedy = f"mend {resident.home / PROJECT_FILE}; then colony-agent restart {resident.name}"
        yield Finding(resident.name, f"its settings can't be used: {error.detail}", remedy)


def memory(scene: Scene, resident: Resident) -> Findings:
    """Whether its memory keeps its bound. While a turn runs, it may be larger for a while."""
    try:
        _as_agent(scene, resident, lambda path: _bounded(load(path)))
    except errors.TooLarge as error:
        yield Finding(resident.name, error.detail, f"colony-agent dream {resident.name} --now", "warning")
    except errors.Invalid as error:
        raise Unseen("its settings can't be used") from error


def container(scene: Scene, resident: Resident) -> Findings:
    """Whether podman starts where it is to think in a container; bubblewrap is all agents' matter."""
    try:
        _as_agent(scene, resident, lambda path: _require_container(load(path)))
    except errors.Unavailable as error:
        yield Finding(resident.name, f"no turn of it can run: {error.detail}", f"apt-get install {' '.join(reach.PODMAN)}")
    except errors.Invalid as error:
        raise Unseen("its settings can't be used") from error


CHECKS = (("its settings", settings), ("its container", container), ("its memory", memory))


def _fit(resident: Resident, home: Home) -> None:
    """Raises `Invalid`."""
    agent, record = home.agent, resident.record
    if agent.name != resident.name:
        raise errors.Invalid(f"{home.config_file} is {agent.name}'s")
    if record and agent.runner != record.runner:
        raise errors.Invalid(f"{home.config_file} says that it runs {agent.runner}, and its units are made for {record.runner}")
    if home.colony.url != SOCKET:
        raise errors.Invalid(f"{home.config_file} leads to another colony than this machine's: {home.colony.url}")


def _require_safe(command: Sequence[str], scene: Scene, resident: Resident) -> None:
    """Raises `Invalid` for a program that the agent can't run, and `Conflict` for one that an agent could change."""
    program = reach.require_runnable(command[0] if command else "")
    ours = [account for account in scene.accounts.values() if is_ours(account) or account == resident.account]
    uids, gids = {account.pw_uid for account in ours}, {gid for account in ours for gid in os.getgrouplist(account.pw_name, account.pw_gid)}
    for path, facts in (*writers.above(program), (program, program.stat())):
        if how := writers.among(facts, uids, gids):
            raise errors.Conflict(f"agents can change {path}, on the way to the program that it runs: {how}")


def _require_container(home: Home) -> None:
    """Raises `Unavailable`."""
    if home.agent.sandbox != "podman":
        return
    try:
        ended = process.run(for_home(home).confine(["/bin/true"], {}), b"", lambda _: None, PATIENCE_SECONDS, threading.Event())
    except RunnerFailed as failed:
        raise errors.Unavailable(failed.detail) from failed
    if ended.returncode:
        raise errors.Unavailable(ended.last_words)


def _bounded(home: Home) -> None:
    """Raises `TooLarge`."""
    bound = home.agent.memory_max_bytes
    if len(files.read_bytes(home.path, overflow.MEMORY, bound + 1)) > bound:
        raise errors.TooLarge(f"its memory has outgrown its bound of {bound} bytes")


def _as_agent(scene: Scene, resident: Resident, work: Callable[[Path], None]) -> None:
    """In a process of the agent's own: it obeys what lies in the home, and can do no more harm than the agent may."""
    scene.require_root()
    if resident.account is None or not resident.has_home:
        raise Unseen("its Linux user or its home is missing")
    if resident.home.stat().st_uid != resident.account.pw_uid:
        raise Unseen("its home is not its own")
    if (resident.home / PROJECT_FILE).exists():
        files.read_bytes(resident.home, PROJECT_FILE, 1)  # raises OSError for what is no file, such as a pipe

    def there() -> None:
        signal.alarm(PATIENCE_SECONDS)  # the agent may put a pipe there even now
        work(resident.home)

    stepdown.as_user(resident.name, there)
