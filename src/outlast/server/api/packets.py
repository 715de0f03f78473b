"""Uploading and downloading large values, as the official client does from 128 KiB on."""

from __future__ import annotations

import hashlib

from starlette.requests import Request
from starlette.responses import Response

from outlast.model import payload as kinds
from outlast.model.limits import MAX_PAYLOAD_BYTES
from outlast.server import body as bodies
from outlast.server import packets
from outlast.server.api.runs import found, not_found
from outlast.server.context import answer, of
from outlast.server.options import PACKET_TYPES, check_packet
from outlast.server.payload_store import NAME
from outlast.server.problem import Problem
from outlast.store import catalog, search
from outlast.store import packets as uploads
from outlast.store.catalog import Environment
from outlast.store.packets import Packet

SAFE = {
    "cache-control": "private, no-store",
    "content-disposition": 'attachment; filename="packet"',  # never a page of ours, whatever the bytes are
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
}


async def prepare(request: Request) -> Response:
    """PUT /api/v2/packets/{name}: where to upload. The client's own name is not used."""
    context = of(request)
    caller = await context.caller(request)
    now = context.engine.clock.now()
    name = context.engine.new_id("packet", now)
    url = packets.address(context.origin(request), caller.env, "PUT", name, now)
    return answer({"presignedUrl": url, "storagePath": name})


async def locate(request: Request) -> Response:
    """GET /api/v1/packets/{name}: where to download an upload, or a large value of a run."""
    context = of(request)
    name = request.path_params["name"]
    if (of_run := packets.run_field(name)) is not None:
        request.path_params["run"], request.path_params["field"] = of_run
        return await locate_field(request)
    caller = await context.caller(request)
    known = await context.engine.read(lambda tx: uploads.read(tx, caller.env.id, name)) if NAME.fullmatch(name) else None
    if known is None:
        raise Problem(404, "Packet not found")
    return answer({"presignedUrl": packets.address(context.origin(request), caller.env, "GET", name, context.engine.clock.now())})


async def locate_field(request: Request) -> Response:
    """GET /api/v1/runs/{run}/packets/{field}, payload or output"""
    run, data, caller = await found(request, "read")
    field = request.path_params["field"]
    value = {"payload": data.payload, "output": data.output}.get(field)
    if value is None:
        raise Problem(404, "Packet not found")
    context = of(request)
    what = packets.path_of(run.id, field)
    return answer({"presignedUrl": packets.address(context.origin(request), caller.env, "GET", what, context.engine.clock.now())})


async def upload(request: Request) -> Response:
    """PUT /api/outlast/v1/packets/{what}, an address that `prepare` gave out"""
    context = of(request)
    env, name = await _signed(request), request.path_params["what"]
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in PACKET_TYPES or not NAME.fullmatch(name):
        raise Problem(415, f"content type {kind[:100]!r} is not accepted: use one of {', '.join(PACKET_TYPES)}")
    data = await bodies.read(request, MAX_PAYLOAD_BYTES)
    declared = request.headers.get("content-length")
    if declared is not None and declared != str(len(data)):
        raise Problem(400, "the body is not as long as Content-Length says")
    check_packet(data, kind)
    packet = Packet(
        id=name, env_id=env.id, size=len(data), content_type=kind, digest=hashlib.sha256(data).hexdigest(),
        created_at=context.engine.clock.now(),
    )  # fmt: skip
    known = await context.engine.read(lambda tx: uploads.read(tx, env.id, name))
    if known is not None and (known.digest, known.content_type) != (packet.digest, packet.content_type):
        raise Problem(409, "this address was used for another upload: ask for a new one")
    if known is None:
        await context.payloads.put(name, data, kind)
        await context.engine.write(lambda tx: uploads.add(tx, packet))
    return answer({"ok": True})


async def download(request: Request) -> Response:
    """GET /api/outlast/v1/packets/{what}, an address that `locate` gave out"""
    context = of(request)
    env, what = await _signed(request), request.path_params["what"]
    if (of_run := packets.run_field(what)) is not None:
        return await _value(request, env, *of_run)
    known = await context.engine.read(lambda tx: uploads.read(tx, env.id, what)) if NAME.fullmatch(what) else None
    data = await context.payloads.get(known.id) if known is not None else None
    if known is None or data is None:
        raise Problem(404, "Packet not found")
    return Response(data, headers={**SAFE, "content-type": known.content_type})


async def _value(request: Request, env: Environment, run_id: str, field: str) -> Response:
    pair = await of(request).engine.read(lambda tx: search.one(tx, env.id, run_id))
    if pair is None:
        raise not_found()
    data = pair[1]
    value, kind = (data.payload, data.payload_type) if field == "payload" else (data.output, data.output_type or kinds.JSON)
    if value is None:
        raise Problem(404, "Packet not found")
    return Response(value.encode(), headers={**SAFE, "content-type": kind})


async def _signed(request: Request) -> Environment:
    """The environment whose secret signed this address.

    Raises:
        Problem: 403, whatever is wrong with it.
    """
    context, query = of(request), request.query_params
    env_id = query.get("env", "")
    known = {env.id: env for env in await context.engine.read(catalog.environments)} if env_id.isascii() and env_id.isdecimal() else {}
    env = known.get(int(env_id[:9])) if known else None
    method = "GET" if request.method == "HEAD" else request.method
    signed = env is not None and packets.is_signed(
        env, method, request.path_params["what"], query.get("exp", ""), query.get("sig", ""), context.engine.clock.now()
    )
    if env is None or not signed:
        raise Problem(403, "this address is not one of ours, or its five minutes are over: ask for a new one", code="invalid_signature")
    return env
