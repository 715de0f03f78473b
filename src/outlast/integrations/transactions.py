"""A step in a transaction of the user's own, on the server's PostgreSQL: its result, the fence and the user's writes commit together.

Sessions and connections of SQLAlchemy, blocking or not, and connections of psycopg. Neither is imported here.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from outlast.durable import Fence, Slot
from outlast.errors import TransactionRefused

# the run is still this execution's, and takes the next place in its order of delivery; its row is held until the commit
_FENCE = (
    'UPDATE "{schema}".runs SET next_seq = next_seq + 1 WHERE id = {run} AND epoch = {epoch} AND journal = {journal}'
    " AND execution IN ('EXECUTING', 'EXECUTING_WITH_WAITPOINTS', 'SUSPENDED') RETURNING next_seq - 1"
)
_RECORD = (
    'INSERT INTO "{schema}".journal (id, run_id, journal, epoch, version, key, kind, label, fingerprint, status, seq, value, value_type,'
    " location, place, began_at, ended_at) SELECT {id}, {run}, {journal}, {epoch}, {version}, {key}, 'step', {label}, {fingerprint}, 'ok',"
    " {seq}, {value}, {value_type}, {location}, {place}, t.now, t.now"
    " FROM (SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS now) t"
)
_NAMES = (
    "run", "epoch", "journal", "id", "version", "key", "label", "fingerprint", "seq", "value", "value_type", "location", "place",
)  # fmt: skip


class Transaction:
    """One try: the function, the fence, the row, the commit. What fails is rolled back."""

    def __init__(self, call: str, session: Any, fence: Fence, slot: Slot, encode: Callable[[Any], tuple[str | None, str]]) -> None:
        self._session = session
        self._fence = fence
        self._slot = slot
        self._encode = encode
        self._call = call
        self._library, self._is_async = _kind(call, session)
        if fence.schema is None:
            raise TransactionRefused(f"{call}: the server does not run on PostgreSQL, so nothing can commit together with it: use step(…)")

    async def run(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if not self._is_async:
            return await asyncio.to_thread(self._run_sync, fn, args)
        try:
            found = fn(self._session, *args)
            made = await found if inspect.isawaitable(found) else found
            seq = await self._execute_async(_FENCE, {})
            await self._execute_async(_RECORD, {"seq": self._seq(seq), **self._value(made)})
            await self._session.commit()
        except BaseException as error:
            await self._session.rollback()
            raise self._said(error) from error
        return made

    def _run_sync(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            made = fn(self._session, *args)
            seq = self._execute(_FENCE, {})
            self._execute(_RECORD, {"seq": self._seq(seq), **self._value(made)})
            self._session.commit()
        except BaseException as error:
            self._session.rollback()
            raise self._said(error) from error
        return made

    def _value(self, made: Any) -> dict[str, Any]:
        data, data_type = self._encode(made)
        return {"value": data, "value_type": data_type}

    def _seq(self, row: Any) -> int:
        if row is None:
            raise TransactionRefused(
                f"{self._call}: run {self._fence.run_id} is not this execution's any more, or the connection is to another database than"
                " the server's; everything was rolled back"
            )
        return int(row[0])

    def _said(self, error: BaseException) -> BaseException:
        code = getattr(getattr(error, "orig", error), "sqlstate", None)
        if code in ("42P01", "3F000"):  # no such table, no such schema
            return TransactionRefused(
                f"{self._call}: the connection is to another database than the server's: nothing can commit together with the run"
            )
        return error

    def _statement(self, sql: str, more: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        fence, slot = self._fence, self._slot
        known: dict[str, Any] = {
            "run": fence.run_id, "epoch": fence.epoch, "journal": fence.journal, "version": fence.version,
            "id": f"{fence.run_id}:{fence.journal}:{slot.key}", "key": slot.key, "label": slot.label, "fingerprint": slot.fingerprint,
            "location": slot.location, "place": slot.place, **more,
        }  # fmt: skip
        text = sql.replace("{schema}", fence.schema or "")
        params: dict[str, Any] = {}
        for name in _NAMES:
            if "{" + name + "}" in text:
                mark = f":{name}" if self._library == "sqlalchemy" else f"%({name})s"
                text = text.replace("{" + name + "}", f"CAST({mark} AS {'BIGINT' if isinstance(known[name], int) else 'TEXT'})")
                params[name] = known[name]
        if self._library == "sqlalchemy":
            from sqlalchemy import text as as_text  # pyright: ignore

            return as_text(text), params
        return text, params

    def _execute(self, sql: str, more: dict[str, Any]) -> Any:
        result = self._session.execute(*self._statement(sql, more))
        return result.fetchone() if sql is _FENCE else None

    async def _execute_async(self, sql: str, more: dict[str, Any]) -> Any:
        result = await self._session.execute(*self._statement(sql, more))
        if sql is not _FENCE:
            return None
        row = result.fetchone()
        return await row if inspect.isawaitable(row) else row


def _kind(call: str, session: Any) -> tuple[str, bool]:
    """(library, whether it is awaited)

    Raises:
        TransactionRefused: it is something else, or not in a transaction on PostgreSQL.
    """
    names = {(c.__module__.partition(".")[0], c.__name__) for c in type(session).__mro__}
    if names & {("sqlalchemy", "Session"), ("sqlalchemy", "Connection"), ("sqlalchemy", "AsyncSession"), ("sqlalchemy", "AsyncConnection")}:
        is_async = bool(names & {("sqlalchemy", "AsyncSession"), ("sqlalchemy", "AsyncConnection")})
        bind = session.get_bind() if hasattr(session, "get_bind") else session
        if bind.dialect.name != "postgresql":
            raise TransactionRefused(f"{call}: the session is on {bind.dialect.name}, not on the server's PostgreSQL: use step(…)")
        return "sqlalchemy", is_async
    if names & {("psycopg", "Connection"), ("psycopg", "AsyncConnection")}:
        if session.autocommit:
            raise TransactionRefused(f"{call}: the connection commits each statement by itself: connect with autocommit=False")
        return "psycopg", ("psycopg", "AsyncConnection") in names
    raise TransactionRefused(
        f"{call}: {type(session).__module__}.{type(session).__qualname__} is neither a session or connection of SQLAlchemy nor a"
        " connection of psycopg"
    )
