"""The keys under which secrets lie in the database: AES-256-GCM, the newest to seal with, the older ones for what they have sealed."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
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


def place(database_url: str) -> Path:
    """Where a colony has its ring: beside an SQLite database, or in its home."""
    path = sqlite_path(database_url)
    return (path.parent if path else config.home()) / FILE


def load(file: Path) -> KeyRing:
    """The ring in that file; a new one where there is none. Raises `Unavailable` for what is no ring, or can't be had."""
    try:
        text = files.read(file.parent, file.name, MAX_BYTES)
        if not text:
            return _save(file, {})
        found = {name: base64.b64decode(key, validate=True) for name, key in (line.split() for line in text.splitlines())}
    except (ValueError, binascii.Error) as error:
        raise errors.Unavailable(f"{file} holds no keys; put back the one that was there") from error
    except OSError as error:
        raise errors.Unavailable(f"can't use {file}: {error.strerror or error}") from error
    if any(len(key) != KEY_BYTES for key in found.values()):
        raise errors.Unavailable(f"{file} holds no keys; put back the one that was there")
    return KeyRing(found)


def add_key(file: Path) -> KeyRing:
    """The same with one more key, durably. Raises `Unavailable`."""
    try:
        return _save(file, load(file).keys)
    except OSError as error:
        raise errors.Unavailable(f"can't write {file}: {error.strerror or error}") from error


def keep_only(file: Path, names: set[str]) -> KeyRing:
    """The same without the keys of other names but the newest. Raises `Unavailable`."""
    ring = load(file)
    kept = {name: key for name, key in ring.keys.items() if name in names or name == ring.newest}
    _write(file, kept)
    return KeyRing(kept)


def _save(file: Path, known: dict[str, bytes]) -> KeyRing:
    keys = {**known, f"k{secrets.token_hex(4)}": os.urandom(KEY_BYTES)}
    _write(file, keys)
    return KeyRing(keys)


def _write(file: Path, keys: dict[str, bytes]) -> None:
    owner = (file if file.exists() else file.parent).stat()  # root may do this for the server's user
    files.write(file.parent, file.name, "".join(f"{name} {base64.b64encode(key).decode()}\n" for name, key in keys.items()))
    if os.geteuid() == 0:
        os.chown(file, owner.st_uid, owner.st_gid)
