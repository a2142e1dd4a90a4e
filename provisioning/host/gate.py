"""The gate gets what has changed of the credentials that are kept for it."""

from __future__ import annotations

from provisioning import credentials, places, units
from provisioning.apply import apply
from provisioning.host import files, settings
from provisioning.host.alone import alone
from provisioning.host.settings import ServerSettings
from provisioning.steps import Reload, Start, Step, Write


def renew() -> None:
    """Begin it anew with all that is kept now; who is just speaking with the model asks again. Nothing to do where there is no gate yet.

    Raises `Unavailable` when it does not come back.
    """
    path = places.UNITS / files.GATE
    if not path.exists():
        return
    with alone():
        text = files.render(places.CURRENT.resolve(), settings.read() or ServerSettings(), credentials.loaded())[files.GATE]
        units.check({files.GATE: text})
        apply([Step("gate", "the gate with what is kept for it", (Write(path, text), Reload(), Start((files.GATE,), restart=True)))])
