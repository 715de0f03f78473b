"""A server that is reached below a path of another one: `https://example.com/outlast/`, whether the proxy takes the path off or not."""

from __future__ import annotations

from contextvars import ContextVar

from starlette.types import Scope

ROOT: ContextVar[str] = ContextVar("outlast_root", default="")  # what every address of a page begins with


def below(root: str, scope: Scope) -> Scope:
    """The request as our routes know it."""
    ROOT.set(root)
    path: str = scope["path"]
    if path == root or path.startswith(root + "/"):
        path = path[len(root) :] or "/"
    return {**scope, "path": path, "app_root_path": root}
