"""PostgreSQL: many rows as one statement with one parameter.

`executemany` costs the committer's thread some 20 µs a row, and with it the event loop that shares the interpreter; here one
JSON text carries all rows, and the database, which has a core of its own, takes them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from outlast.store.database import Row

TYPES = (
    "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
    " WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped"
)


def encode(columns: Sequence[str], rows: Sequence[Row]) -> str:
    return msgspec.json.encode([dict(zip(columns, row, strict=True)) for row in rows]).decode()


def insert(table: str, columns: Sequence[str], *, types: Mapping[str, str], or_ignore: bool) -> str:
    tail = " ON CONFLICT DO NOTHING" if or_ignore else ""
    names = ", ".join(columns)
    return f"INSERT INTO {table} ({names}) SELECT {names} FROM {_rows(columns, types)}{tail}"


def update(table: str, columns: Sequence[str], keys: Sequence[str], *, types: Mapping[str, str]) -> str:
    values = ", ".join(f"{c} = x.{c}" for c in columns)
    return f"UPDATE {table} t SET {values} FROM {_rows([*columns, *keys], types)} WHERE {_match(keys)}"


def delete(table: str, keys: Sequence[str], *, types: Mapping[str, str]) -> str:
    return f"DELETE FROM {table} t USING {_rows(keys, types)} WHERE {_match(keys)}"


def counted(statement: str) -> str:
    """The same, failing by a division by zero if it does not touch so many rows: to look at the count would cost a round trip."""
    return f"WITH done AS ({statement} RETURNING 1) SELECT 1 / CAST(count(*) = $2 AS int) FROM done"


def _rows(columns: Sequence[str], types: Mapping[str, str]) -> str:
    return f"json_to_recordset($1::json) AS x({', '.join(f'{c} {types[c]}' for c in columns)})"


def _match(keys: Sequence[str]) -> str:
    return " AND ".join(f"t.{key} = x.{key}" for key in keys)
