"""API keys: made here and shown once, revoked here."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response

from outlast.model.duration import parse_duration
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import keys

ROLES = ("operator", "viewer")
PREFIX = {"DEVELOPMENT": "dev", "STAGING": "stg", "PRODUCTION": "prod", "PREVIEW": "preview"}


async def show(visit: Visit) -> Response:
    """GET /api-keys"""
    found = await visit.read(lambda tx: keys.listed(tx, visit.env.id))
    return visit.page("keys/list.html", topics="keys", rows=found[::-1], prefix=PREFIX[visit.env.type], roles=ROLES)


async def create(visit: Visit) -> Response:
    """POST /api-keys: the answer is the only place where the key ever stands"""
    name, role, life = visit.text("name", 100, required=True), visit.text("role", 20) or "operator", visit.text("expires", 20)
    if role not in ROLES:
        raise Problem(400, f"role is one of {', '.join(ROLES)}", param="role")
    try:
        expires_at = visit.now + parse_duration(life) if life else None
    except ValueError as error:
        raise Problem(400, f"expires: {error}", param="expires") from error
    key, now = keys.generate(visit.env.type), visit.now
    key_id = visit.site.engine.new_id("key", now)
    await visit.site.engine.write(
        lambda tx: keys.add(tx, id=key_id, env_id=visit.env.id, name=name, key=key, now=now, expires_at=expires_at, role=role)
    )
    until = "" if expires_at is None else f", until {datetime.fromtimestamp(expires_at / 1_000, UTC):%Y-%m-%d}"
    return visit.done(f"Made {name}{until}", topics=("keys",), secret=key)


async def revoke(visit: Visit) -> Response:
    """POST /api-keys/{key}/revoke"""
    key_id = visit.request.path_params["key"]
    mine = await visit.read(lambda tx: [key.id for key in keys.listed(tx, visit.env.id)])
    if key_id not in mine:
        raise Problem(404, "no such key")
    await visit.site.engine.write(lambda tx: keys.revoke(tx, key_id, visit.now))
    visit.site.forget_keys()
    return visit.done("Revoked: it is refused from now on", topics=("keys",))
