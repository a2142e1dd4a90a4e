"""The keys under which secrets lie in the database: AES-256-GCM, the newest to seal with, the older ones for what they have sealed.

What may hold a secret and is only to be known again is marked with them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from colony import config, errors, files
from server.database import sqlite_path

KEY_BYTES, NONCE_BYTES = 32, 12
FILE = "secret-keys"  # in the colony's home: a line for each key, its name and the key in base64; the newest last
MAX_BYTES = 65_536


@dataclass(frozen=True)
class KeyRing:
    keys: dict[str, bytes]  # by name, the newest last

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.keys)})"

    @property
    def newest(self) -> str:
        return next(reversed(self.keys))

    def seal(self, value: str, identity: bytes) -> str:
        """The value under the newest key, as text, for nothing but what `identity` says."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + AESGCM(self.keys[self.newest]).encrypt(nonce, value.encode(), identity)
        return f"{self.newest}:{base64.b64encode(sealed).decode()}"

    def open(self, text: str, identity: bytes) -> str:
        """What was sealed for that identity. Raises `Unavailable` without its key, and for what was changed or belongs elsewhere."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        name, _, sealed = text.partition(":")
        if name not in self.keys:
            raise errors.Unavailable(f"the key {name[:40]} that a secret is sealed with is missing; put the colony's {FILE} back")
        try:
            raw = base64.b64decode(sealed, validate=True)
            return AESGCM(self.keys[name]).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], identity).decode()
        except (InvalidTag, ValueError) as error:
            raise errors.Unavailable("a secret can't be opened: it, or its key, is not what it was; set it again") from error

    def marks(self, text: str) -> list[str]:
        """What tells the text again, under each key, the newest first. Who has none of the keys can't try what the text might be."""
        return [hmac.new(key, b"mark\0" + text.encode(), "sha256").hexdigest() for key in reversed(self.keys.values())]


def place(database_url: str) -> Path:
    """Where a colony has its ring: beside an SQLite database, or in its home."""
    path = sqlite_path(database_url)
    return (path.parent if path else config.home()) / FILE


def load(file: Path) -> KeyRing:
    """The ring in that file; one without keys where there is none. Raises `Unavailable` for what is no ring, or can't be read."""
    try:
        text = files.read(file.parent, file.name, MAX_BYTES)
        found = {name: base64.b64decode(key, validate=True) for name, key in (line.split() for line in text.splitlines())}
    except (ValueError, binascii.Error) as error:
        raise errors.Unavailable(f"{file} holds no keys; put back the one that was there") from error
    except OSError as error:
        raise errors.Unavailable(f"can't use {file}: {error.strerror or error}") from error
    if any(len(key) != KEY_BYTES for key in found.values()):
        raise errors.Unavailable(f"{file} holds no keys; put back the one that was there")
    return KeyRing(found)


def begun(file: Path) -> KeyRing:
    """The same, with a first key where there was none; of servers that begin it at once, one makes the key of all. Raises `Unavailable`."""
    ring = load(file)
    if ring.keys:
        return ring
    staged = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    _write(staged, _with_another({}))
    with suppress(FileExistsError):  # another server was faster
        files.link(file.parent, staged.name, file.name)
    staged.unlink()
    return load(file)


def add_key(file: Path) -> KeyRing:
    """The same with one more key, durably. Raises `Unavailable`."""
    ring = KeyRing(_with_another(load(file).keys))
    _write(file, ring.keys)
    return ring


def keep_only(file: Path, names: set[str]) -> KeyRing:
    """The same without the keys of other names but the newest. Raises `Unavailable`."""
    ring = load(file)
    kept = {name: key for name, key in ring.keys.items() if name in names or name == ring.newest}
    _write(file, kept)
    return KeyRing(kept)


def _with_another(keys: dict[str, bytes]) -> dict[str, bytes]:
    return {**keys, f"k{secrets.token_hex(4)}": os.urandom(KEY_BYTES)}


def _write(file: Path, keys: dict[str, bytes]) -> None:
    """Raises `Unavailable`, and then the file is as it was."""
    text = "".join(f"{name} {base64.b64encode(key).decode()}\n" for name, key in keys.items())
    try:
        owner = (file if file.exists() else file.parent).stat()  # root may do this for the server's user
        files.write(file.parent, file.name, text)
        if os.geteuid() == 0:
            os.chown(file, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise errors.Unavailable(f"can't write {file}: {error.strerror or error}") from error
