"""A visit: who looks, at which environment, and how a page or an act answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outlast.engine.operation import Operation
from outlast.model.refusal import Refusal
from outlast.server.dashboard import preferences, rendering
from outlast.server.dashboard.access import Access
from outlast.server.prefix import ROOT
from outlast.server.problem import Problem, refused
from outlast.store.catalog import Environment
from outlast.store.database import Connection

if TYPE_CHECKING:
    from outlast.server.dashboard.site import Site

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741
R = TypeVar("R")


@dataclass(frozen=True)
class Visit:
    request: Request
    site: Site
    access: Access
    env: Environment
    envs: list[Environment]
    body: dict[str, Any] = field(default_factory=dict[str, Any])  # of an act

    @property
    def query(self) -> Any:
        return self.request.query_params

    @property
    def now(self) -> int:
        return self.site.engine.clock.now()

    @property
    def by(self) -> str:
        """Who acts, for the record."""
        session = self.access.session
        return "dashboard" if session is None or session.key_id is None else f"dashboard ({session.key_id})"

    async def read(self, query: Callable[[Connection], T]) -> T:
        return await self.site.engine.read(query)

    async def call(self, operation: Operation[I, Any], item: I) -> Any:
        """An engine's operation.

        Raises:
            Problem: it was refused.
        """
        outcome = await self.site.engine.call(operation, item)
        if isinstance(outcome, Refusal):
            raise refused(outcome)
        return outcome

    def path(self, name: str) -> str:
        return ROOT.get() + name

    def page(self, template: str, *, topics: str = "", status: int = 200, **context: Any) -> Response:
        """A page, or its live block when the browser asks for that alone."""
        request = self.request
        context |= {"visit": self, "topics": topics, "now": self.now, "look_of": preferences.look(request), "q": self.query}
        draw = rendering.fragment if request.headers.get("x-fragment") else rendering.page
        return rendering.send(draw(template, context), status=status, accepts=request.headers.get("accept-encoding", ""))

    def done(self, toast: str, *, href: str | None = None, topics: tuple[str, ...] = (), **more: Any) -> Response:
        """An act was done: what to say, and where to go."""
        if topics:
            self.site.changes.tell(self.env.id, topics)
        body = {"toast": toast, "href": None if href is None else self.path(href), **more}
        return Response(
            msgspec.json.encode({k: v for k, v in body.items() if v is not None}), media_type="application/json", headers=NO_STORE
        )

    def json(self, body: Any, *, cached: bool = False) -> Response:
        """`cached`: the browser asks whether it has the same already."""
        if cached:
            text = msgspec.json.encode(body).decode()
            known, accepts = self.request.headers.get("if-none-match"), self.request.headers.get("accept-encoding", "")
            return rendering.send(text, known=known, accepts=accepts, media_type="application/json")
        return Response(msgspec.json.encode(body), media_type="application/json", headers=NO_STORE)

    def text(self, name: str, limit: int = 200, *, required: bool = False) -> str:
        """A text of an act's body.

        Raises:
            Problem: 400.
        """
        value = self.body.get(name)
        if value is None or value == "":
            if required:
                raise Problem(400, f"{name} is missing", param=name)
            return ""
        if not isinstance(value, str) or len(value) > limit or "\x00" in value:
            raise Problem(400, f"{name} must be text of at most {limit} characters", param=name)
        return value


NO_STORE = {"cache-control": "private, no-store", "x-content-type-options": "nosniff"}
