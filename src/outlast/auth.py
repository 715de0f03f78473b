"""`auth`: public tokens, for browsers and whoever else should not have a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict

from outlast.client import requests
from outlast.client.calls import call
from outlast.errors import InvalidValue
from outlast.pending import Pending

Ids = str | Sequence[str] | Literal[True]


class Rights(TypedDict, total=False):
    """True: all of them; else these."""

    runs: Ids
    tasks: Ids
    tags: Ids
    batch: Ids
    waitpoints: Ids
    input_streams: Ids
    sessions: Ids


class Scopes(TypedDict, total=False):
    """What a token may do: `{"read": {"runs": True}, "write": {"waitpoints": token.id}}`."""

    read: Rights
    write: Rights
    trigger: Rights
    batch_trigger: Rights


_WIRE = {"input_streams": "inputStreams", "batch_trigger": "batchTrigger"}


def create_public_token(
    *, scopes: Scopes, expiration_time: str | int | datetime | None = None, skip_columns: Sequence[str] | None = None
) -> Pending[str]:
    """A token with these rights. It lives 15 minutes, or a span such as "1h" or "2 days", or until a time or unix second;
    the server's maximum is a day unless it is told otherwise. `skip_columns` are left out of what it may subscribe to.

    Raises:
        InvalidValue: no right at all.
        ApiError: 422 for a right nobody knows.

    Example:
        >>> await create_public_token(scopes={"read": {"tags": "user:1"}}, expiration_time="1h")  # doctest: +SKIP
    """
    body: dict[str, Any] = {"scopes": flatten(scopes), **_expiry(expiration_time)}
    if skip_columns:
        body["realtime"] = {"skipColumns": list(skip_columns)}
    return call("auth.create_public_token(…)", requests.public_token(body))


def create_trigger_public_token(
    task: str | Sequence[str], *, multiple_use: bool = False, expiration_time: str | int | datetime | None = None
) -> Pending[str]:
    """A token that triggers a task, or one of several, from a browser: once, unless `multiple_use`."""
    tasks = [task] if isinstance(task, str) else list(task)
    body = {"scopes": flatten({"trigger": {"tasks": tasks}}), "oneTimeUse": not multiple_use, **_expiry(expiration_time)}
    return call("auth.create_trigger_public_token(…)", requests.public_token(body))


def create_batch_trigger_public_token(
    task: str | Sequence[str], *, multiple_use: bool = False, expiration_time: str | int | datetime | None = None
) -> Pending[str]:
    """The same for a batch of runs."""
    tasks = [task] if isinstance(task, str) else list(task)
    body = {"scopes": flatten({"batch_trigger": {"tasks": tasks}}), "oneTimeUse": not multiple_use, **_expiry(expiration_time)}
    return call("auth.create_batch_trigger_public_token(…)", requests.public_token(body))


def flatten(scopes: Scopes | Mapping[str, Mapping[str, Ids]]) -> list[str]:
    """Rights as the wire has them.

    Raises:
        InvalidValue: none.

    Example:
        >>> flatten({"read": {"runs": ["a", "b"], "tasks": True}})
        ['read:runs:a', 'read:runs:b', 'read:tasks']
    """
    flat: list[str] = []
    for action, rights in scopes.items():
        found: Any = rights
        for kind, ids in found.items():
            right = f"{_WIRE.get(action, action)}:{_WIRE.get(kind, kind)}"
            flat += [right] if ids is True else [f"{right}:{id_}" for id_ in ([ids] if isinstance(ids, str) else ids)]
    if not flat:
        raise InvalidValue("a token without any right is of no use: scopes={'read': {'runs': [run_id]}}")
    return flat


def _expiry(at: str | int | datetime | None) -> dict[str, Any]:
    if at is None:
        return {}
    return {"expirationTime": int(at.timestamp()) if isinstance(at, datetime) else at}
