"""Runs over the Electric protocol: what a client has, as an offset and a handle, and what it is given next.

The server keeps nothing of a client between two polls. An offset of one run is `<n>_0`, the change it has seen; that of many
runs is a position of the outbox. A handle says what the shape is, and from when on runs belong to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outlast.server.context import of
from outlast.server.problem import Problem
from outlast.server.realtime import columns, state
from outlast.server.realtime.feed import Feed, Subscription, Taken
from outlast.server.realtime.sse import until_gone
from outlast.server.realtime.state import Pair, Rows
from outlast.store.outbox import Change, Position

HOLD_SECONDS = (17.0, 23.0)  # a live poll without news is answered after this; spread, or all clients would come at once
CHANGES = 1_000  # of one run, looked at between two polls
MANY = 500  # changed runs in one answer; the rest follow in the next
_OFFSET = re.compile(r"(\d{1,19})_(\d{1,19})")
_UP_TO_DATE: dict[str, Any] = {"headers": {"control": "up-to-date"}}
_encode = msgspec.json.encode


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a client subscribed to: one run, or many by tags or batch. `since`: runs made before are not of it."""

    env_id: int
    run_id: str | None = None
    tags: tuple[str, ...] = ()
    batch_id: str | None = None
    skipped: frozenset[str] = frozenset()
    since: int = 0

    @property
    def handle(self) -> str:
        what = _encode((self.env_id, self.run_id, sorted(self.tags), self.batch_id, sorted(self.skipped)))
        return f"{hashlib.blake2b(what, digest_size=8).hexdigest()}-{self.since}"

    def subscribe(self, feed: Feed) -> Subscription:
        if self.batch_id is not None:
            return feed.subscribe(self.env_id, batches=[self.batch_id])
        if self.tags:
            return feed.subscribe(self.env_id, tags=self.tags)
        return feed.subscribe(self.env_id, everything=True)


class Poll:
    """One request of a client."""

    def __init__(self, request: Request) -> None:
        query = request.query_params
        found = _OFFSET.fullmatch(query.get("offset", "-1"))
        self.offset = (int(found[1]), int(found[2])) if found else None  # None: it has nothing yet
        self.handle = query.get("handle", "")
        self.live = query.get("live") == "true"
        self.is_browser = "origin" in request.headers
        self.request = request
        context = of(request)
        self.feed: Feed = context.feed
        self.rows: Rows = context.rows

    def since(self, now: int, window_ms: int) -> int:
        """From when on runs belong to the shape: fixed by its first answer, which the handle remembers."""
        text = self.handle.rpartition("-")[2]
        return int(text) if self.offset is not None and text.isascii() and text.isdecimal() and len(text) < 16 else now - window_ms

    async def take(self, subscription: Subscription, ends: float) -> Taken | None:
        """What comes next; empty when the time is over, None when the client has gone."""
        gone = asyncio.ensure_future(until_gone(self.request.receive))
        gone.add_done_callback(lambda _: subscription.wake())
        try:
            taken = await subscription.take(max(0.0, ends - asyncio.get_running_loop().time()))
            return None if gone.done() else taken
        finally:
            gone.cancel()

    def ends(self) -> float:
        return asyncio.get_running_loop().time() + (random.uniform(*HOLD_SECONDS) if self.live else 0.0)


async def one_run(poll: Poll, shape: Shape) -> Response:
    """Each status of a run is an answer of its own, so that a client sees them all, also when it is slow."""
    run_id = shape.run_id
    assert run_id is not None
    async with poll.feed.subscribe(shape.env_id, runs=[run_id]) as subscription:
        known, seen = poll.feed.known(run_id), poll.offset[0] if poll.offset is not None else -1
        pair = known.pair if known.n in (seen, seen + 1) else None
        if pair is None or pair[0].env_id != shape.env_id or poll.offset is None:
            pair = await poll.rows.get(shape.env_id, run_id)
            if pair is None:
                raise Problem(404, "Run not found")
            poll.feed.note(pair)
        if poll.offset is None:
            return _answer(shape, f"{pair[0].snapshot}_0", [(pair, "insert")])
        if poll.handle != shape.handle or seen > pair[0].snapshot:
            return refetch(shape)
        ends, fresh = poll.ends(), list[Change]()
        while pair[0].snapshot <= seen:
            taken = await poll.take(subscription, ends)
            if taken is None:
                return _nobody()
            if not taken.changes and not taken.missed:
                return _answer(shape, f"{seen}_0", [])
            fresh += [change for change in taken.changes if change.n > seen]
            pair = poll.feed.known(run_id).pair or await poll.rows.get(shape.env_id, run_id) or pair
        following = await _next(poll.rows, pair, seen, fresh)
        return _answer(shape, f"{following[0].snapshot}_0", [(following, "update")])


async def _next(rows: Rows, pair: Pair, seen: int, fresh: list[Change]) -> Pair:
    """The run at the next change that a client must see: of those in a row that leave the status as it is, at the last."""
    run = pair[0]
    if run.snapshot == seen + 1:
        return pair
    changes = fresh if fresh and fresh[0].n == seen + 1 else await rows.changes(run.id, seen, CHANGES)
    if not changes:  # so old that they were deleted
        return pair
    following = changes[0]
    for change in changes[1:]:
        if (change.status, change.attempt) != (following.status, following.attempt):
            break
        following = change
    return state.at(pair, following)


Snapshot = Callable[[], Awaitable[Sequence[Pair]]]


async def many_runs(poll: Poll, shape: Shape, snapshot: Snapshot) -> Response:
    """`snapshot` reads the runs that belong to the shape now."""
    async with shape.subscribe(poll.feed) as subscription:
        if poll.offset is None:
            return _answer(shape, _text(subscription.position), [(pair, "insert") for pair in await snapshot()])
        changes = await poll.feed.since(subscription, Position(*poll.offset)) if poll.handle == shape.handle else None
        ends = poll.ends()
        while changes is not None:
            found, position = await _changed(poll, shape, changes)
            if found:
                return _answer(shape, _text(position), found)
            taken = await poll.take(subscription, ends)
            if taken is None:
                return _nobody()
            if not taken.changes and not taken.missed:
                return _answer(shape, _text(poll.feed.position), [])
            changes = None if taken.missed else taken.changes
        return refetch(shape)


async def _changed(poll: Poll, shape: Shape, changes: Sequence[Change]) -> tuple[list[tuple[Pair, str]], Position]:
    """Runs of the shape at their last change, and how far that goes.

    For a browser only the first: the official React hooks lose rows when one answer brings several.
    """
    latest = {change.run_id: change for change in changes[:MANY]}
    new = {change.run_id for change in changes if change.n == 1}
    found: list[tuple[Pair, str]] = []
    for pair in await poll.rows.many(shape.env_id, latest):
        run = pair[0]
        if run.created_at < shape.since:
            continue
        found.append((pair, "insert" if run.id in new else "update"))
        if poll.is_browser:
            return found, next(c.position for c in changes if c.run_id == run.id)
    return found, changes[:MANY][-1].position if changes else Position(0, 0)


def _text(position: Position) -> str:
    return f"{position.tx}_{position.seq}"


def _answer(shape: Shape, offset: str, rows: Iterable[tuple[Pair, str]]) -> Response:
    names = columns.wanted(shape.skipped)
    messages = [
        {"key": f'"public"."TaskRun"/"{pair[0].id}"', "value": columns.row(pair, names), "headers": {"operation": operation}}
        for pair, operation in rows
    ]
    headers = {
        "electric-offset": offset,
        "electric-handle": shape.handle,
        "electric-schema": columns.schema(names),
        "electric-cursor": str(int(time.time())),
        "electric-up-to-date": "",
        "cache-control": "no-store",
    }
    return Response(_encode([*messages, _UP_TO_DATE]), 200, headers, "application/json")


def refetch(shape: Shape) -> Response:
    """Begin anew: what the client has cannot be gone on from."""
    headers = {"electric-handle": shape.handle, "cache-control": "no-store", "x-should-retry": "false"}
    return Response(b'[{"headers":{"control":"must-refetch"}}]', 409, headers, "application/json")


def _nobody() -> Response:
    return Response(status_code=499)  # the client has gone: nobody reads this
