"""Our SQL as PostgreSQL's drivers take it."""

from __future__ import annotations

import re
from functools import cache

from outlast.store.database import fill

_FRAGMENTS = {
    "identity": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "transaction_id": "xid8 NOT NULL DEFAULT pg_current_xact_id()",
    "fillfactor_50": "WITH (fillfactor = 50)",
    "fillfactor_70": "WITH (fillfactor = 70)",
    "without_rowid": "",
    "for_update": "FOR NO KEY UPDATE",
    "skip_locked": "FOR NO KEY UPDATE SKIP LOCKED",
    "least": "least",
    "greatest": "greatest",
}
_PARAM = re.compile(r"(?<!:):(\w+)")
_LIST = re.compile(r"\{in:(\w+)\}")


def _filled(sql: str) -> str:
    return fill(_LIST.sub(r"= ANY(:\1)", sql), _FRAGMENTS)


@cache
def named(sql: str) -> bytes:
    """For psycopg: `%(name)s`."""
    return _PARAM.sub(r"%(\1)s", _filled(sql.replace("%", "%%"))).encode()


@cache
def numbered(sql: str) -> tuple[bytes, tuple[str, ...]]:
    """For libpq: `$1`, and the names in the order of their numbers."""
    names: dict[str, int] = {}
    text = _PARAM.sub(lambda found: f"${names.setdefault(found[1], len(names) + 1)}", _filled(sql))
    return text.encode(), tuple(names)


@cache
def positions(sql: str) -> bytes:
    """For libpq, of a statement whose parameters are `?`."""
    first, *rest = fill(sql, _FRAGMENTS).split("?")
    return (first + "".join(f"${n}{part}" for n, part in enumerate(rest, 1))).encode()
