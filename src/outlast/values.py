"""Values of users' code on their way out, refused with an error of our own tree."""

from __future__ import annotations

from typing import Any

from outlast.errors import InvalidValue
from outlast.model import payload as packets


def encode(value: Any) -> tuple[str | None, str]:
    """The packet of a value.

    Raises:
        InvalidValue: it cannot travel; the message names where in it, and what it is.
    """
    try:
        return packets.encode(value)
    except packets.NotSerializable as error:
        raise InvalidValue(str(error)) from error
