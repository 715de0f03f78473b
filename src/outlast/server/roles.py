"""What a key may do: everything, or what its role names. A route that is in no list of a role is closed to it."""

from __future__ import annotations

import re

from outlast.store.keys import Role

Rule = tuple[str, str]  # method (* is any), pattern of the path

_WHO: list[Rule] = [("GET", r"/api/(?:outlast/)?v1/whoami")]
_TRIGGER: list[Rule] = [
    *_WHO,
    ("POST", r"/api/v1/tasks/[^/]+/(?:trigger|batch)"),
    ("POST", r"/api/v[12]/tasks/batch"),
    ("POST", r"/api/v3/batches(?:/[^/]+/items)?"),
    ("PUT", r"/api/v2/packets/.+"),
    ("POST", r"/api/v1/auth/jwt/claims"),
]
_RUNS: list[Rule] = [
    *_TRIGGER,
    ("*", r"/api/v[123]/runs(?:/.+)?"),
    ("*", r"/api/outlast/v1/(?:runs|batches)/.+"),
    ("*", r"/realtime/v1/.+"),
    ("*", r"/api/v1/waitpoints/tokens(?:/.+)?"),
    ("GET", r"/api/v1/projects/[^/]+/runs"),
    ("GET", r"/api/v[12]/batches/.+"),
    ("GET", r"/api/v1/packets/.+"),
    ("POST", r"/api/v1/idempotencyKeys/.+"),
    ("POST", r"/api/v1/auth/.+"),
]
_RULES: dict[Role, list[Rule]] = {
    "trigger": _TRIGGER,
    "runs": _RUNS,
    "worker": _WHO,  # and the channel
    "variables": [*_WHO, ("*", r"/api/v1/projects/[^/]+/envvars/.+")],
}
_COMPILED = {role: [(method, re.compile(pattern)) for method, pattern in rules] for role, rules in _RULES.items()}
MEANINGS: dict[Role, str] = {
    "operator": "everything",
    "viewer": "reads only",
    "trigger": "triggers runs and batches, and sees none of them",
    "runs": "triggers, watches, cancels and replays runs, completes tokens; no queues, schedules, variables or keys",
    "worker": "connects workers",
    "variables": "reads and changes environment variables",
}


def may(role: Role, method: str, path: str) -> bool:
    if role == "operator":
        return True
    if role == "viewer":
        return method in ("GET", "HEAD")
    return any(allowed in ("*", method) and pattern.fullmatch(path) for allowed, pattern in _COMPILED[role])
