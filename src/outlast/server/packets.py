"""Large values: uploaded before the call that names them, and downloaded by addresses that need no key and end soon.

An upload lies in the payload store until it is used. A run that is triggered with it gets a copy in its own row, so that a
run is whole in one database: a backup, a replay and another server need nothing else. Addresses are signed; the signature
names method, object and end.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from urllib.parse import quote, urlencode

from outlast.server.context import Context
from outlast.server.options import check_packet
from outlast.server.payload_store import Folder, StoreFailed
from outlast.server.problem import Problem
from outlast.store import packets as uploads
from outlast.store.catalog import Environment
from outlast.store.database import DatabaseError

log = logging.getLogger("outlast.server")

STORED = "application/store"
OFFLOAD_BYTES = 128 * 1024  # from this size on clients upload, and answers give an address instead of the value
ADDRESS_SECONDS = 300
FIELDS = ("payload", "output")


def address(origin: str, env: Environment, method: str, what: str, now_ms: int) -> str:
    """Where an object may be put or got, for five minutes."""
    ends = now_ms // 1_000 + ADDRESS_SECONDS
    query = urlencode({"env": env.id, "exp": ends, "sig": _signature(env, method, what, ends)})
    return f"{origin}/api/outlast/v1/packets/{quote(what)}?{query}"


def is_signed(env: Environment, method: str, what: str, ends: str, signature: str, now_ms: int) -> bool:
    """Whether we gave out this address, and its time is not over."""
    if not ends.isascii() or not ends.isdecimal() or len(ends) > 12 or int(ends) * 1_000 < now_ms:
        return False
    return hmac.compare_digest(_signature(env, method, what, int(ends)).encode(), signature.encode())


def _signature(env: Environment, method: str, what: str, ends: int) -> str:
    return hmac.digest(env.signing_secret.encode(), f"packet:{env.id}:{method}:{what}:{ends}".encode(), "sha256").hex()


def path_of(run_id: str, field: str) -> str:
    """What a large value of a run is called where a client sees `application/store`."""
    return f"runs/{run_id}/{field}"


def run_field(path: str) -> tuple[str, str] | None:
    """(run id, field) of such a name."""
    head, _, field = path.rpartition("/")
    return (head.removeprefix("runs/"), field) if head.startswith("runs/") and field in FIELDS else None


def is_large(data: str | None) -> bool:
    return data is not None and len(data) >= OFFLOAD_BYTES


def shown(run_id: str, field: str, data: str | None, data_type: str | None) -> tuple[str | None, str | None]:
    """A value as subscriptions carry it: a large one by its name, or each change would send it again."""
    return (path_of(run_id, field), STORED) if is_large(data) else (data, data_type)


async def fetched(context: Context, env_id: int, name: object) -> tuple[str, str]:
    """An uploaded packet: its text, checked like one that was sent, and its type.

    Raises:
        Problem: 400, 422, or 503 when the store does not answer.
    """
    if not isinstance(name, str) or not name:
        raise Problem(400, "with payloadType application/store the payload is the address of an upload", param="payload")
    found = await context.engine.read(lambda tx: uploads.read(tx, env_id, name)) if "\x00" not in name else None
    data = await context.payloads.get(found.id) if found is not None else None
    if found is None or data is None:
        raise Problem(422, f"there is no upload {name[:100]!r} (any more): uploads are kept for a day until they are used", param="payload")
    check_packet(data, found.content_type)
    return data.decode(), found.content_type


SWEEP_SECONDS = 600.0
KEPT_MS = 86_400_000  # an upload that nobody used; a run has a copy
SWEPT = 500  # in one step


async def sweep(context: Context) -> None:
    """Forget uploads of yesterday, for as long as the server lives."""
    while True:
        try:
            await sweep_once(context)
        except (DatabaseError, StoreFailed) as error:
            log.warning("old uploads could not be removed", extra={"error": str(error)})
        await asyncio.sleep(SWEEP_SECONDS)


async def sweep_once(context: Context) -> int:
    """How many were removed: the bytes first, or a crash between the two would leave them for ever."""
    if isinstance(context.payloads, Folder):
        context.payloads.sweep()  # one listing of a folder that is nearly empty: no thread is worth it
    before, gone = context.engine.clock.now() - KEPT_MS, 0
    while old := await context.engine.read(lambda tx: uploads.older(tx, before, SWEPT)):
        for name in old:
            await context.payloads.delete(name)
        await context.engine.write(lambda tx, ids=old: uploads.remove(tx, ids))
        gone += len(old)
    return gone
