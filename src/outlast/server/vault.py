"""Sealing what must not be readable in the database: AES-256-GCM with a key that lives beside it, never in it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from outlast.store.database import DatabaseUnusable

KEY_BYTES = 32
NONCE_BYTES = 12
FILE = "secrets.key"


class Vault:
    """Seals texts for a purpose: what was sealed for one cannot be opened for another, so that rows cannot be exchanged.

    The first key seals, each opens what it sealed. `again` reads the keys anew: another process may have put a new one before them.
    """

    def __init__(self, *keys: bytes, again: Callable[[], Sequence[bytes]] | None = None) -> None:
        self._again = again
        self._ciphers = {_id_of(key): AESGCM(key) for key in keys}

    @property
    def key_id(self) -> str:
        """Of the key that seals."""
        return next(iter(self._ciphers))

    def seal(self, purpose: str, text: str) -> str:
        self._look()
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + self._ciphers[self.key_id].encrypt(nonce, text.encode(), purpose.encode())
        return f"v1.{self.key_id}.{base64.b64encode(sealed).decode()}"

    def open(self, purpose: str, sealed: str) -> str:
        """
        Raises:
            DatabaseUnusable: it was sealed with another key, for another purpose, or was changed.
        """
        key_id = self.check(sealed)  # which may read the keys anew
        raw = base64.b64decode(sealed.rpartition(".")[2])
        try:
            return self._ciphers[key_id].decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], purpose.encode()).decode()
        except InvalidTag:
            raise DatabaseUnusable("a sealed value was changed in the database, or moved to another place: set it again") from None

    def check(self, sealed: str) -> str:
        """The id of the key that sealed it.

        Raises:
            DatabaseUnusable: it was sealed with another key.
        """
        key_id = sealed.split(".")[1] if sealed.count(".") == 2 else "?"
        if key_id not in self._ciphers:
            self._look()
        if key_id not in self._ciphers:
            raise DatabaseUnusable(
                f"values in this database were sealed with the key {key_id}, and this server has {', '.join(self._ciphers)}:"
                f" copy the other server's {FILE}, or set OUTLAST_SECRETS_KEY"
            )
        return key_id

    def _look(self) -> None:
        if self._again is not None:
            self._ciphers = {_id_of(key): AESGCM(key) for key in self._again()}


def _id_of(key: bytes) -> str:
    return hashlib.sha256(b"key id:" + key).hexdigest()[:8]


def open_vault(data: Path, setting: str | None) -> Vault:
    """The vault of a deployment.

    Raises:
        DatabaseUnusable: as of `load_keys`.
    """
    return Vault(*load_keys(data, setting), again=None if setting else lambda: load_keys(data, None))


def load_keys(data: Path, setting: str | None) -> list[bytes]:
    """The keys of a deployment, the one that seals first: those of the setting (32 bytes in base64, separated by commas), else the
    lines of a file in the data folder, made at the first start.

    Raises:
        DatabaseUnusable: a key of another size, or a file that others can read.
    """
    if setting:
        return [_checked(text.strip(), "OUTLAST_SECRETS_KEY") for text in setting.split(",")]
    path = data / FILE
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
                file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n")
        except FileExistsError:
            pass
        if path.stat().st_mode & 0o077:
            raise DatabaseUnusable(f"{path} can be read by others than its owner: chmod 600 {path}")
        return [_checked(line, str(path)) for line in path.read_text().split() or [""]]
    except OSError as error:
        raise DatabaseUnusable(f"cannot read or make {path}: {error.strerror}") from error


def save_keys(data: Path, keys: Sequence[bytes]) -> None:
    """Write the file anew: after a crash it holds the keys from before, or these."""
    partial = data / f"{FILE}.part"
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.writelines(base64.b64encode(key).decode() + "\n" for key in keys)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(data / FILE)
    folder = os.open(data, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _checked(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise DatabaseUnusable(f"{where} must be {KEY_BYTES} random bytes in base64, as `openssl rand -base64 32` makes them")
    return key
