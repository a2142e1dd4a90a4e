"""This machine's colony."""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioning import places

if TYPE_CHECKING:
    from colony.client import Client


def client() -> Client:
    """A client that the server knows as the Linux user who runs this. Importing the client takes long: only who asks something does."""
    from colony.client import Client

    return Client(f"unix:{places.SOCKET}")
