"""What a public token may do: `action[:type[:id]]`, as Trigger.dev writes it. Ids may hold colons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

ACTIONS = frozenset({"read", "write", "trigger", "batchTrigger", "*", "admin"})
TYPES = frozenset({"all", "tasks", "tags", "runs", "batch", "waitpoints", "inputStreams", "sessions"})
MAX_SCOPES = 1_000
MAX_SCOPE_CHARS = 512

Resource = tuple[str, str | None]  # type and id; without an id it is all of that type


def unknown(scopes: Iterable[str]) -> str | None:
    """The first scope that says nothing we know."""
    return next((scope for scope in scopes if not _is_known(scope)), None)


def _is_known(scope: str) -> bool:
    action, _, rest = scope.partition(":")
    kind, colon, id_ = rest.partition(":")
    return len(scope) <= MAX_SCOPE_CHARS and action in ACTIONS and (not rest or kind in TYPES) and not (colon and not id_)


def allow(scopes: Sequence[str], action: str, resources: Iterable[Resource]) -> bool:
    """Whether one of the scopes grants the action on one of the resources."""
    offered = list(resources)
    return any(_grants(scope, action, offered) for scope in scopes)


def _grants(scope: str, action: str, resources: list[Resource]) -> bool:
    if scope == "admin":
        return True
    granted, _, rest = scope.partition(":")
    if granted not in (action, "*"):
        return False
    kind, _, id_ = rest.partition(":")
    if not kind:
        return True
    return any(kind in (type_, "all") and (not id_ or id_ == wanted) for type_, wanted in resources)
