"""Tokens: what runs wait for and people complete."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from outlast.engine import tokens
from outlast.model.token import CompleteToken
from outlast.server import body as bodies
from outlast.server.api.tokens import secret
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import journal, waitpoints
from outlast.store.database import Connection
from outlast.store.waitpoints import Token, TokenFilter

PAGE = 50
STATES = ("WAITING", "COMPLETED", "TIMED_OUT")
MAX_VALUE = 3_000_000


async def show(visit: Visit) -> Response:
    """GET /tokens"""
    query = visit.query
    status = query.get("status") if query.get("status") in STATES else None
    after, chosen = _id(query.get("after")), _id(query.get("id"))
    tag = query.get("tag") if query.get("tag") and "\x00" not in query.get("tag") else None

    def read(tx: Connection) -> dict[str, Any]:
        wanted = TokenFilter(env_id=visit.env.id, status=status, tags=[tag] if tag else [], after=after)
        found = waitpoints.page(tx, wanted, PAGE + 1)
        token = waitpoints.read(tx, visit.env.id, chosen) if chosen else None
        return {"rows": found, "token": token, "waiting": [run for run, _ in journal.waiters(tx, chosen)()] if token and chosen else []}

    found = await visit.read(read)
    rows = found.pop("rows")
    older = f"?after={rows[PAGE - 1].id}" if len(rows) > PAGE else None
    token = found["token"]
    url = (
        f"{str(visit.request.base_url).rstrip('/')}/api/v1/waitpoints/tokens/{token.id}/callback/{secret(visit.env, token.id)}"
        if token
        else ""
    )
    return visit.page(
        "tokens/list.html",
        topics="tokens",
        rows=rows[:PAGE],
        older=older,
        newer=after,
        chosen_status=status,
        tag=tag,
        states=STATES,
        url=url,
        tags_of=_tags,
        **found,
    )


def _tags(token: Token) -> list[str]:
    return json.loads(token.tags)


def _id(text: str | None) -> str | None:
    return text if text and text.startswith("waitpoint_") and text[10:].isalnum() and len(text) < 65 else None


async def complete(visit: Visit) -> Response:
    """POST /tokens/{token}/complete with `value`, JSON"""
    token_id = visit.request.path_params["token"]
    token = await visit.read(lambda tx: waitpoints.read(tx, visit.env.id, token_id)) if _id(token_id) else None
    if token is None:
        raise Problem(404, "no such token")
    if token.status != "WAITING":
        return visit.done("This token is already completed" if token.status == "COMPLETED" else "This token timed out")
    text = visit.text("value", MAX_VALUE).strip()
    if text:
        try:
            json.loads(text)
        except ValueError as error:
            raise Problem(400, f"not JSON: {error}", param="value") from error
        bodies.guard(text.encode())
    await visit.call(
        tokens.complete_token, CompleteToken(token_id=token.id, env_id=visit.env.id, value=text if text not in ("", "null") else None)
    )
    return visit.done("Completed", topics=("tokens",))
