"""Who am I talking to: argument, then OUTLAST_*, then TRIGGER_*, then the dev server's note found upwards from here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import msgspec

from outlast.errors import ConfigurationError


class Address(msgspec.Struct, frozen=True):
    url: str
    key: str


def find(api_url: str | None = None, secret_key: str | None = None) -> Address:
    """The server and key to use.

    Raises:
        ConfigurationError: nothing says where the server is, or with which key.
    """
    url = api_url or os.environ.get("OUTLAST_API_URL") or os.environ.get("TRIGGER_API_URL")
    key = (
        secret_key or os.environ.get("OUTLAST_SECRET_KEY") or os.environ.get("TRIGGER_SECRET_KEY") or os.environ.get("TRIGGER_ACCESS_TOKEN")
    )
    if url and key:
        return _checked(url, key)
    note = dev_note(Path.cwd())
    if note is not None and (not url or url.rstrip("/") == note["url"].rstrip("/")):
        return _checked(note["url"], key or note["key"])
    missing = "OUTLAST_SECRET_KEY" if url else "OUTLAST_API_URL and OUTLAST_SECRET_KEY"
    raise ConfigurationError(
        f"no Outlast server is known: start `outlast dev` in this project, or set {missing}, or call outlast.configure(…)"
    )


def _checked(url: str, key: str) -> Address:
    """Said now, by name: later it would be tried five times and end as "no answer"."""
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"the API URL {url!r} must begin with http:// or https://")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("the secret key holds a space, a line break or another character that no key has: copy it again")
    return Address(url.rstrip("/"), key)


def dev_note(start: Path) -> dict[str, Any] | None:
    """What `outlast dev` left in the nearest `.outlast` folder."""
    data = os.environ.get("OUTLAST_DATA")
    folders = [Path(data)] if data else [folder / ".outlast" for folder in (start, *start.parents)]
    for folder in folders:
        path = folder / "dev.json"
        if path.is_file():
            try:
                found = cast("dict[str, Any]", msgspec.json.decode(path.read_bytes()))
                return found if isinstance(found.get("url"), str) and isinstance(found.get("key"), str) else None
            except (OSError, msgspec.DecodeError, AttributeError):
                return None
    return None
