"""How much one credential, or one environment, may hold open on a server."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from starlette.requests import Request

from outlast.server.context import of
from outlast.server.problem import Problem

PER_TOKEN = 1_000  # a public token is in browsers: one of them must not take the server from the others
PER_ENVIRONMENT = 20_000  # some 30 KB each


@contextmanager
def limited(request: Request, env_id: int, token: str | None = None) -> Generator[None]:
    """Count what is held open while the block runs.

    Raises:
        Problem: 429, there is too much already.
    """
    release = hold(request, env_id, token)
    try:
        yield
    finally:
        release()


def hold(request: Request, env_id: int, token: str | None = None) -> Callable[[], None]:
    """Count one more, until what is given back is called.

    Raises:
        Problem: 429, there is too much already.
    """
    opened = of(request).open
    limits = {f"env:{env_id}": PER_ENVIRONMENT, f"token:{token}": PER_TOKEN if token is not None else PER_ENVIRONMENT}
    for name, limit in limits.items():
        if opened[name] >= limit:
            what = "this token" if name.startswith("token:") else "this environment"
            raise Problem(
                429,
                f"{what} holds {limit} subscriptions open on this server: close some",
                code="too_many_subscriptions",
                retry=None,
                headers={"retry-after": "5"},
            )
    for name in limits:
        opened[name] += 1

    def release() -> None:
        for name in limits:
            opened[name] -= 1
            if not opened[name]:
                del opened[name]

    return release
