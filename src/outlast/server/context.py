"""What every route has at hand: the engine, and who asks."""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outlast.engine.engine import Engine
from outlast.model.refusal import Refusal
from outlast.server import public_tokens
from outlast.server.alerts.alerts import Alerts
from outlast.server.auth import Auth, Caller
from outlast.server.payload_store import PayloadStore
from outlast.server.problem import refused
from outlast.server.rates import Limiter, Rate
from outlast.server.realtime.feed import Feed
from outlast.server.realtime.state import Rows
from outlast.server.vault import Vault

CALLER = "outlast.caller"  # who asked, in the request's scope
LIMITS = "outlast.limits"  # headers for the answer, in the request's scope
_encode = msgspec.json.encode


class Context:
    """One per app."""

    def __init__(
        self,
        engine: Engine,
        *,
        payloads: PayloadStore,
        unknown_tasks: str = "park",
        max_token_seconds: int = public_tokens.MAX_SECONDS,
        public_url: str | None = None,
        key_rate: Rate | None = None,
        token_rate: Rate | None = None,
        batch_rate: Rate | None = None,
        vault: Vault,
        alerts: Alerts,
    ) -> None:
        self.engine = engine
        self.vault = vault
        self.alerts = alerts
        self.payloads = payloads
        self.auth = Auth(engine)
        self.unknown_tasks = unknown_tasks
        self._keys, self._tokens, self._batches = (None if rate is None else Limiter(rate) for rate in (key_rate, token_rate, batch_rate))
        self._public_url = public_url.rstrip("/") if public_url else None
        self.root = urlsplit(self._public_url).path if self._public_url else ""  # what paths begin with outside
        self.feed = Feed(engine)
        self.rows = Rows(engine)
        self.open: Counter[str] = Counter()  # what is held open, by credential and environment
        self.max_token_seconds = max_token_seconds

    async def caller(self, request: Request, *, public: bool = False) -> Caller:
        """Who asks. With `public` also public tokens: the handler then says what it needs of them (`Caller.need`).

        Raises:
            Problem: 401.
        """
        if (known := request.scope.get(CALLER)) is not None:
            return known
        caller = request.scope[CALLER] = await self.auth.caller(request, public=public)
        limiter, name = (self._keys, caller.key_id) if caller.token is None else (self._tokens, caller.token.id)
        if limiter is not None and LIMITS not in request.scope and not request.scope["path"].startswith("/realtime/"):
            request.scope[LIMITS] = limiter.take(name, self.engine.clock.now())
        return caller

    def take_batch(self, caller: Caller, runs: int) -> None:
        """So many runs at once.

        Raises:
            Problem: 429, the environment has had too many.
        """
        if self._batches is not None:
            self._batches.take(str(caller.env.id), self.engine.clock.now(), runs)

    def origin(self, request: Request) -> str:
        """What addresses of this server begin with: as it is configured, else as the client reached it."""
        return self._public_url or str(request.base_url).rstrip("/")


def of(request: Request) -> Context:
    return request.app.state.context


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(body), status, headers, "application/json")


def accepted(outcome: Any) -> Any:
    """What the engine answered; a refusal becomes the response.

    Raises:
        Problem: the engine refused.
    """
    if isinstance(outcome, Refusal):
        raise refused(outcome)
    return outcome
