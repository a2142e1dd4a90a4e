"""systemd, spoken to over its bus."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from colony import errors

START_SECONDS = 60.0
STOP_SECONDS = 120.0  # a unit's own limit comes first
RUN_SECONDS = 900.0
_TICK_SECONDS = 0.005
_UNSET = 2**64 - 1  # for numbers that systemd doesn't know


@dataclass(frozen=True)
class UnitState:
    """How a unit is; of one that doesn't exist, `load` is "not-found"."""

    name: str
    load: str
    active: str  # active, activating, deactivating, inactive, failed, reloading
    sub: str
    result: str = ""  # of a service: success, exit-code, signal, watchdog, oom-kill, start-limit-hit, …
    pid: int = 0
    exit_code: int = 0  # of its main process, the last time it ended
    restarts: int = 0
    memory_bytes: int | None = None
    cpu_seconds: float | None = None
    is_outdated: bool = False  # its files have changed since systemd read them
    started_at: float | None = None  # seconds since 1970: when its main process began
    says: str = ""  # of itself, the last time it ran


@dataclass(frozen=True)
class Limits:
    """What a service, or all in a slice, may use, as the unit says; None: as much as there is."""

    memory_bytes: int | None
    tasks: int | None


class Systemd:
    """One connection to the machine's systemd. Every failure is an `Unavailable`."""

    def __init__(self) -> None:
        require_running()
        try:
            from pystemd.dbuslib import DBus
            from pystemd.systemd1 import Manager
        except ModuleNotFoundError as error:
            raise errors.Unavailable("pystemd is not installed; this command is for a host on which `make install` was run") from error

        with _translated("systemd's bus"):
            self._bus = DBus()
            self._bus.open()
            self._manager: Any = Manager(bus=self._bus, _autoload=True).Manager

    def __enter__(self) -> Systemd:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bus.close()

    def reload(self) -> None:
        with _translated("daemon-reload"):
            self._manager.Reload()

    def enable(self, units: Sequence[str]) -> None:
        with _translated(", ".join(units)):
            self._manager.EnableUnitFiles([unit.encode() for unit in units], False, True)

    def disable(self, units: Sequence[str]) -> None:
        """Those that there are: systemd would refuse all of them if one was missing."""
        present = [unit.encode() for unit in units if self._file_state(unit)]
        with _translated(", ".join(units)):
            self._manager.DisableUnitFiles(present, False)

    def is_enabled(self, unit: str) -> bool:
        return self._file_state(unit) == b"enabled"

    def start(self, units: Sequence[str], *, restart: bool = False, seconds: float = START_SECONDS) -> None:
        """Returns once all are active. Raises `Unavailable` with the reason that systemd gives."""
        deadline = time.monotonic() + seconds
        for unit in units:
            self._forgive(unit)
            with _translated(unit):
                (self._manager.RestartUnit if restart else self._manager.StartUnit)(unit.encode(), b"replace")
        for unit in units:
            self._await(unit, ("active",), ("failed", "inactive"), deadline)

    def run(self, unit: str, seconds: float = RUN_SECONDS) -> UnitState:
        """How a service ended that does one thing and then ends; it may run already."""
        self.begin(unit)
        deadline = time.monotonic() + seconds
        while (state := self.state(unit)).active in ("activating", "active", "deactivating", "reloading"):
            if time.monotonic() > deadline:
                raise errors.Unavailable(f"{unit} has run for more than {seconds:g} s; see journalctl -u {unit}")
            time.sleep(_TICK_SECONDS)
        return state

    def begin(self, unit: str) -> None:
        """Start one that has failed, as if it never had, without waiting for what becomes of it."""
        self._forgive(unit)
        with _translated(unit):
            self._manager.StartUnit(unit.encode(), b"replace")

    def stop(self, units: Sequence[str], seconds: float = STOP_SECONDS) -> None:
        """Returns once all are inactive."""
        deadline = time.monotonic() + seconds
        present = [unit for unit in units if self.state(unit).active != "inactive"]
        for unit in present:
            with _translated(unit):
                self._manager.StopUnit(unit.encode(), b"replace")
        for unit in present:
            if self._await(unit, ("inactive", "failed"), (), deadline).active == "failed":
                self._forgive(unit)  # nobody shall look into it any more

    def state(self, unit: str) -> UnitState:
        from pystemd.systemd1 import Unit

        with _translated(unit):
            found: Any = Unit(unit.encode(), bus=self._bus, _autoload=True)
            facts = found.Unit
            load, active, sub = (str(text.decode()) for text in (facts.LoadState, facts.ActiveState, facts.SubState))
            if load != "loaded" or not unit.endswith(".service"):
                return UnitState(unit, load, active, sub, is_outdated=bool(facts.NeedDaemonReload))
            service = found.Service
            cpu = _number(service.CPUUsageNSec)
            return UnitState(
                unit,
                load,
                active,
                sub,
                result=service.Result.decode(),
                pid=int(service.MainPID),
                exit_code=int(service.ExecMainStatus),
                restarts=int(service.NRestarts),
                memory_bytes=_number(service.MemoryCurrent),
                cpu_seconds=None if cpu is None else cpu / 1e9,
                is_outdated=bool(facts.NeedDaemonReload),
                started_at=int(service.ExecMainStartTimestamp) / 1e6 or None,
                says=service.StatusText.decode(errors="replace"),
            )

    def limits(self, unit: str) -> Limits:
        """Of a service or a slice."""
        from pystemd.systemd1 import Unit

        with _translated(unit):
            found: Any = Unit(unit.encode(), bus=self._bus, _autoload=True)
            bounded = found.Slice if unit.endswith(".slice") else found.Service
            return Limits(_number(bounded.MemoryMax), _number(bounded.TasksMax))

    def named(self, *patterns: str, states: Sequence[str] = ()) -> list[str]:
        """The units that systemd has in memory whose names match; only those in one of the states if some are given."""
        with _translated("the list of units"):
            found = self._manager.ListUnitsByPatterns([state.encode() for state in states], [pattern.encode() for pattern in patterns])
            return sorted(row[0].decode() for row in found)

    def version(self) -> str:
        return str(self._manager.Version.decode())

    def _forgive(self, unit: str) -> None:
        """It has not failed, and its start limit begins anew: that counts what was started on purpose, too."""
        with suppress(Exception):  # nobody remembers anything of a unit that is not loaded
            self._manager.ResetFailedUnit(unit.encode())

    def _file_state(self, unit: str) -> bytes:
        try:
            return bytes(self._manager.GetUnitFileState(unit.encode()))
        except Exception:  # there is no such file
            return b""

    def _await(self, unit: str, wanted: tuple[str, ...], lost: tuple[str, ...], deadline: float) -> UnitState:
        began = time.monotonic()
        while (state := self.state(unit)).active not in wanted:
            # A start that is still queued looks like a unit that does nothing.
            has_job = state.active != "failed" and time.monotonic() < began + 1
            if (state.active in lost and not has_job) or time.monotonic() > deadline:
                raise errors.Unavailable(f"{unit} is {state.active} ({state.result or state.sub}); see journalctl -u {unit}")
            time.sleep(_TICK_SECONDS)
        return state


def is_running() -> bool:
    """Whether systemd runs this machine, as sd_booted(3) finds out."""
    return Path("/run/systemd/system").is_dir()


def require_running() -> None:
    """Raises `Unavailable`."""
    if not is_running():
        raise errors.Unavailable("systemd does not run here; agents live as its services (make run tries a colony without it)")


def _number(value: int) -> int | None:
    return None if value == _UNSET else int(value)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except errors.ColonyError:
        raise
    except Exception as error:  # pystemd has no common class for what can go wrong
        said = getattr(error, "err_message", b"") or str(error)
        raise errors.Unavailable(f"{what}: {said.decode(errors='replace') if isinstance(said, bytes) else said}") from error
