"""Who asks: API keys by their hash, public tokens by their signature."""

from __future__ import annotations

import time

import msgspec
from starlette.requests import Request

from outlast.engine.engine import Engine
from outlast.server import public_tokens, roles, scopes
from outlast.server.problem import Problem, unauthorized
from outlast.server.public_tokens import PublicToken
from outlast.server.scopes import Resource
from outlast.store import catalog, keys
from outlast.store.catalog import Environment
from outlast.store.keys import Role

CACHE_SECONDS = 30.0  # a revoked key, and every token it minted, is refused after this at the latest
MAX_CACHED = 10_000
BEARER = "Bearer "
SHORT = {"staging": "stg"}  # Trigger.dev's names of environments, where ours differ


class Caller(msgspec.Struct, frozen=True):
    """An authenticated request: its environment, the key it came with, and the public token if it came with one."""

    env: Environment
    key_id: str
    key_name: str
    role: Role = "operator"
    token: PublicToken | None = None

    def is_of(self, slug: str) -> bool:
        """Whether a path names the key's own environment; others are not found."""
        return slug in ("current", self.env.slug, SHORT.get(self.env.slug))

    def need(self, action: str, *resources: Resource) -> None:
        """Keys may do everything; a token what its scopes say, on one of the resources.

        Raises:
            Problem: 403.
        """
        if self.token is not None and not scopes.allow(self.token.scopes, action, resources):
            raise forbidden()


def forbidden() -> Problem:
    return Problem(403, "Unauthorized", code="unauthorized", param="access_token")


class Auth:
    """Looks keys and tokens up, and keeps what it found for half a minute."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, tuple[float, Caller, int | None]] = {}  # until when, who, and when the credential expires (ms)
        self._minters: dict[str, tuple[float, keys.ApiKey | None, Environment | None]] = {}

    async def caller(self, request: Request, *, public: bool = False) -> Caller:
        """The caller of a request; `public` lets public tokens in too.

        Raises:
            Problem: 401, the same whatever is wrong with a key.
        """
        found = request.headers.getlist("authorization")
        credential = found[0][len(BEARER) :] if len(found) == 1 and found[0].startswith(BEARER) else ""
        known = self._known.get(credential)
        if known is None or known[0] < time.monotonic():
            known = await self._look_up(credential)
        if known is None or (known[2] is not None and known[2] <= self._engine.clock.now()):
            self._known.pop(credential, None)
            if known is not None and known[1].token is not None:
                raise public_tokens.refused(public_tokens.EXPIRED)
            raise unauthorized()
        if known[1].token is not None and not public:
            raise public_tokens.refused("Public Access Tokens are not accepted here: use an API key")
        # what a token may do is in its scopes, but those of a key that reads only change nothing either
        if (known[1].token is None or known[1].role == "viewer") and not roles.may(known[1].role, request.method, request.scope["path"]):
            raise forbidden()
        return known[1]

    def forget(self) -> None:
        """A key was revoked: look all of them up again."""
        self._known.clear()
        self._minters.clear()

    async def _look_up(self, credential: str) -> tuple[float, Caller, int | None] | None:
        self._known.pop(credential, None)
        if public_tokens.looks_like_one(credential):
            found = await self._token(credential)
        elif keys.PATTERN.fullmatch(credential):
            found = await self._key(credential)
        else:
            return None
        if found is None:
            return None
        if len(self._known) >= MAX_CACHED:
            self._known.clear()
        entry = (time.monotonic() + CACHE_SECONDS, *found)
        self._known[credential] = entry
        return entry

    async def _key(self, key: str) -> tuple[Caller, int | None] | None:
        row = await self._engine.read(lambda tx: keys.find(tx, key))
        if row is None or row.revoked_at is not None:
            return None
        env = await self._engine.read(lambda tx: catalog.environment(tx, row.env_id))
        return Caller(env, row.id, row.name, row.role), row.expires_at

    async def _token(self, token: str) -> tuple[Caller, int | None]:
        """A token is worth what its key is: revoked with it, expired with it."""
        if len(token) > public_tokens.MAX_TOKEN_CHARS:
            raise public_tokens.refused()
        env_id, key_id = public_tokens.subject(token)
        key, env = await self._minter(key_id)
        now = self._engine.clock.now()
        if key is None or env is None or env.id != env_id or key.revoked_at is not None or (key.expires_at or now + 1) <= now:
            raise public_tokens.refused()
        verified = public_tokens.verify(token, env, now)
        ends = (verified.expires_at + public_tokens.LEEWAY_SECONDS) * 1_000
        return Caller(env, key.id, key.name, key.role, verified), min(ends, key.expires_at or ends)

    async def _minter(self, key_id: str) -> tuple[keys.ApiKey | None, Environment | None]:
        known = self._minters.get(key_id)
        if known is None or known[0] < time.monotonic():
            known = await self._look_up_minter(key_id)
        return known[1], known[2]

    async def _look_up_minter(self, key_id: str) -> tuple[float, keys.ApiKey | None, Environment | None]:
        key = await self._engine.read(lambda tx: keys.read(tx, key_id)) if "\x00" not in key_id and len(key_id) < 64 else None
        env = await self._engine.read(lambda tx: catalog.environment(tx, key.env_id)) if key is not None else None
        if len(self._minters) >= MAX_CACHED:
            self._minters.clear()
        entry = (time.monotonic() + CACHE_SECONDS, key, env)
        self._minters[key_id] = entry
        return entry
