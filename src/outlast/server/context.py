"""What every route has at hand: the engine, and who asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar
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
from outlast.server.problem import Problem, refused
from outlast.server.rates import Limiter, Rate
from outlast.server.realtime.feed import Feed
from outlast.server.realtime.state import Rows
from outlast.server.vault import Vault
from outlast.store.database import Connection

CALLER = "outlast.caller"  # who asked, in the request's scope
LIMITS = "outlast.limits"  # headers for the answer, in the request's scope
MAX_ID_CHARS = 100
T = TypeVar("T")
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
        self._keys, self._tokens = (None if rate is None else Limiter(rate) for rate in (key_rate, token_rate))
        self._batches = None if batch_rate is None else Limiter(batch_rate, "runs in batches; OUTLAST_BATCH_RATE is the server's setting")
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


async def own_row(request: Request, param: str, look: Callable[[Connection, int, str], T | None], what: str) -> tuple[T, Caller]:
    """What the path names, in the caller's own environment.

    Raises:
        Problem: 401; 404 also for what belongs to others.
    """
    context = of(request)
    caller = await context.caller(request)
    id_ = request.path_params[param]
    usable = len(id_) < MAX_ID_CHARS and "\x00" not in id_
    row = await context.engine.read(lambda tx: look(tx, caller.env.id, id_)) if usable else None
    if row is None:
        raise Problem(404, f"{what} not found")
    return row, caller


def accepted(outcome: Any) -> Any:
    """What the engine answered; a refusal becomes the response.

    Raises:
        Problem: the engine refused.
    """
    if isinstance(outcome, Refusal):
        raise refused(outcome)
    return outcome
