"""Sealing what must not be readable in the database: AES-256-GCM with a key that lives beside it, never in it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from outlast.store.database import DatabaseUnusable

KEY_BYTES = 32
NONCE_BYTES = 12
FILE = "secrets.key"


class Vault:
    """Seals texts for a purpose: what was sealed for one cannot be opened for another, so that rows cannot be exchanged."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self.key_id = hashlib.sha256(b"key id:" + key).hexdigest()[:8]

    def seal(self, purpose: str, text: str) -> str:
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), purpose.encode())
        return f"v1.{self.key_id}.{base64.b64encode(sealed).decode()}"

    def open(self, purpose: str, sealed: str) -> str:
        """
        Raises:
            DatabaseUnusable: it was sealed with another key, for another purpose, or was changed.
        """
        self.check(sealed)
        raw = base64.b64decode(sealed.rpartition(".")[2])
        try:
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], purpose.encode()).decode()
        except InvalidTag:
            raise DatabaseUnusable("a sealed value was changed in the database, or moved to another place: set it again") from None

    def check(self, sealed: str) -> None:
        """
        Raises:
            DatabaseUnusable: it was sealed with another key.
        """
        key_id = sealed.split(".")[1] if sealed.count(".") == 2 else "?"
        if key_id != self.key_id:
            raise DatabaseUnusable(
                f"values in this database were sealed with the key {key_id}, and this server has {self.key_id}:"
                f" copy the other server's {FILE}, or set OUTLAST_SECRETS_KEY"
            )


def load_key(data: Path, setting: str | None) -> bytes:
    """The key of a deployment: the setting (32 bytes in base64), else a file in the data folder, made at the first start.

    Raises:
        DatabaseUnusable: a key of another size, or a file that others can read.
    """
    if setting:
        return _checked(setting, "OUTLAST_SECRETS_KEY")
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
        return _checked(path.read_text().strip(), str(path))
    except OSError as error:
        raise DatabaseUnusable(f"cannot read or make {path}: {error.strerror}") from error


def _checked(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise DatabaseUnusable(f"{where} must be {KEY_BYTES} random bytes in base64, as `openssl rand -base64 32` makes them")
    return key
