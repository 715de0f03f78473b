"""Environment variables: what runs find in their environment. Values of secrets are never shown again."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from outlast.model.limits import MAX_ENV_VAR_BYTES, MAX_ENV_VARS
from outlast.model.messages import SECRET_NAMES, Variables
from outlast.server import body as bodies
from outlast.server.auth import Caller
from outlast.server.channel import VARIABLES
from outlast.server.context import Context, answer, of
from outlast.server.problem import Problem, invalid
from outlast.server.vault import Vault
from outlast.store import env_vars as store
from outlast.store.database import Connection
from outlast.store.env_vars import EnvVar

REDACTED = "<redacted>"
_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,255}", re.ASCII)
# they decide what code an executor loads, or where it connects to
DANGEROUS = frozenset(
    {
        "PATH", "HOME", "SHELL", "IFS", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "PYTHONPATH",
        "PYTHONHOME", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "OUTLAST_API_URL", "OUTLAST_SECRET_KEY", "TRIGGER_API_URL",
        "TRIGGER_SECRET_KEY", SECRET_NAMES,
    }
)  # fmt: skip


async def _caller(request: Request) -> Caller:
    """The path names the key's own environment, or `current`; another one is not found."""
    caller = await of(request).caller(request)
    if not caller.is_of(request.path_params["slug"]):
        raise Problem(404, "Environment not found")
    return caller


def purpose_of(env_id: int, name: str) -> str:
    return f"env_var:{env_id}:{name}"


def shown(context: Context, env_id: int, v: EnvVar) -> dict[str, Any]:
    value = REDACTED if v.is_secret else context.vault.open(purpose_of(env_id, v.name), v.sealed)
    return {"name": v.name, "value": value, "isSecret": v.is_secret}


async def listing(request: Request) -> Response:
    """GET /api/v1/projects/{ref}/envvars/{slug}"""
    caller = await _caller(request)
    found = await of(request).engine.read(lambda tx: store.listed(tx, caller.env.id))
    return answer([shown(of(request), caller.env.id, v) for v in found])


async def create(request: Request) -> Response:
    """POST /api/v1/projects/{ref}/envvars/{slug} {name, value, isSecret?}"""
    caller = await _caller(request)
    body = await bodies.read_object(request)
    await put(of(request), caller.env.id, {body.get("name"): body.get("value")}, is_secret=_flag(body, "isSecret"), override=True)
    return answer({"success": True})


async def import_many(request: Request) -> Response:
    """POST /api/v1/projects/{ref}/envvars/{slug}/import {variables, override?, isSecret?}: all of them, or none."""
    caller = await _caller(request)
    body = await bodies.read_object(request, limit=8 * 1024 * 1024)
    variables = body.get("variables")
    if not isinstance(variables, dict):
        raise invalid("variables must be an object of names and values", "variables")
    override = body.get("override")
    await put(of(request), caller.env.id, variables, is_secret=_flag(body, "isSecret"), override=override is not False)  # pyright: ignore[reportUnknownArgumentType]
    return answer({"success": True})


async def retrieve(request: Request) -> Response:
    """GET /api/v1/projects/{ref}/envvars/{slug}/{name}"""
    caller = await _caller(request)
    found = await _found(request, caller)
    return answer(shown(of(request), caller.env.id, found))


async def update(request: Request) -> Response:
    """PUT /api/v1/projects/{ref}/envvars/{slug}/{name} {value}"""
    caller = await _caller(request)
    found = await _found(request, caller)
    body = await bodies.read_object(request)
    await put(of(request), caller.env.id, {found.name: body.get("value")}, is_secret=found.is_secret, override=True)
    return answer({"success": True})


async def delete(request: Request) -> Response:
    """DELETE /api/v1/projects/{ref}/envvars/{slug}/{name}"""
    caller = await _caller(request)
    found = await _found(request, caller)
    await of(request).engine.write(lambda tx: store.delete(tx, caller.env.id, found.name))
    of(request).engine.publish(caller.env.id, VARIABLES)
    return answer({"success": True})


async def _found(request: Request, caller: Caller) -> EnvVar:
    name = request.path_params["name"]
    found = await of(request).engine.read(lambda tx: store.one(tx, caller.env.id, name)) if _NAME.fullmatch(name) else None
    if found is None:
        raise Problem(404, "Environment variable not found")
    return found


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid(f"{name} must be true or false", name)
    return bool(value)


async def put(context: Context, env_id: int, variables: dict[Any, Any], *, is_secret: bool, override: bool) -> None:
    """All of them, or none.

    Raises:
        Problem: 422, naming the variable.
    """
    now = context.engine.clock.now()
    for name, value in variables.items():
        _check(name, value)
    sealed = [EnvVar(name, context.vault.seal(purpose_of(env_id, name), value), is_secret, now) for name, value in variables.items()]

    def write(tx: Connection) -> bool:
        store.put(tx, env_id, sealed, override=override)
        if store.count(tx, env_id) > MAX_ENV_VARS:
            raise Problem(422, f"an environment has at most {MAX_ENV_VARS} variables", code="limit_exceeded")
        return True

    await context.engine.write(write)
    context.engine.publish(env_id, VARIABLES)


def _check(name: Any, value: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _refused(f"{str(name)[:60]!r} is no name of a variable: use A-Z 0-9 _, not a digit first", "name")
    if name in DANGEROUS:
        raise _refused(f"{name} cannot be set: it decides how workers load code or connect", "name")
    if not isinstance(value, str) or "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise _refused(f"the value of {name} must be a text without NUL", "value")
    if len(value.encode()) > MAX_ENV_VAR_BYTES:
        raise _refused(f"the value of {name} is larger than {MAX_ENV_VAR_BYTES} bytes", "value")


def _refused(message: str, param: str) -> Problem:
    return Problem(422, message, code="validation_error", param=param)


def opened(vault: Vault, env_id: int, found: list[EnvVar]) -> Variables:
    """What a worker is given."""
    values = {v.name: vault.open(purpose_of(env_id, v.name), v.sealed) for v in found}
    return Variables(values, [v.name for v in found if v.is_secret])
