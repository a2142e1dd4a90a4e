"""The fixtures of tests that need a machine with systemd: `machine`, `bare_machine`, and both shared by the tests of a file.

As an ordinary user, or without systemd-nspawn, such tests are skipped and say why. In CI they fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.guest.guest import Guest, why_not
from tests.guest.layers import INSTALLS_WITHIN, Layers
from tests.guest.places import Place

OWNED = pytest.StashKey[Place]()


@pytest.fixture
def machine(installed: Path, layers: Layers) -> Iterator[Guest]:
    """A fresh machine on which Colony is installed and no agent was born."""
    with Guest(layers=[installed], binds=layers.binds()) as guest:
        yield guest


@pytest.fixture(scope="module")
def shared_machine(installed: Path, layers: Layers) -> Iterator[Guest]:
    """The same for all tests of a file: they must not be in each other's way."""
    with Guest(layers=[installed], binds=layers.binds()) as guest:
        yield guest


@pytest.fixture
def bare_machine(layers: Layers) -> Iterator[Guest]:
    """A fresh machine without Colony."""
    with Guest() as guest:
        yield guest


@pytest.fixture(scope="module")
def shared_bare_machine(layers: Layers) -> Iterator[Guest]:
    """The same for all tests of a file."""
    with Guest() as guest:
        yield guest


@pytest.fixture(scope="session")
def installed(layers: Layers) -> Path:
    """The layer of a Guest on which Colony is installed. The first test that asks for it waits until it is."""
    return layers.installed()


@pytest.fixture(scope="session")
def layers(request: pytest.FixtureRequest) -> Layers:
    """What guests can start from; whoever asks for it needs guests."""
    need_guests()
    config: Any = request.config
    return Layers(Path(config.workerinput["guests"]) if hasattr(config, "workerinput") else config.stash[OWNED].folder)


def need_guests() -> None:
    """End the test that asks if there can be no guest: by a skip, in CI by a failure."""
    if reason := why_not():
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def pytest_configure(config: pytest.Config) -> None:
    """The process that starts the workers owns what they share, since it outlives them."""
    if why_not() is None and not hasattr(config, "workerinput"):
        config.stash[OWNED] = Place()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    if OWNED in node.config.stash:
        node.workerinput["guests"] = str(node.config.stash[OWNED].folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    if OWNED in config.stash:
        config.stash[OWNED].give_back()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test is the first to need Colony installed also waits for the installation."""
    for item in items:
        if "installed" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(2 * INSTALLS_WITHIN))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A test that fails shows what its machines have logged."""
    report = yield
    if report.failed:
        for guest in {value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Guest)}:
            report.sections.append((f"journal of {guest.name}", guest.last_words()))
    return report
