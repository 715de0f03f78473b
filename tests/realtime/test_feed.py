"""The change feed: complete, in order, over every server, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from outlast.model.run import Status
from outlast.server.realtime import feed as feeds
from outlast.server.realtime.feed import Subscription
from outlast.server.realtime.state import Pair, pairs
from outlast.store import outbox
from outlast.store.database import Connection
from outlast.store.outbox import Change
from tests.databases import Address
from tests.engine.house import open_house
from tests.realtime.house import ENV, PATIENCE, Live, open_live


async def taken(subscription: Subscription, count: int) -> list[Change]:
    found: list[Change] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            found += (await subscription.take()).changes
    return found


async def test_a_subscriber_sees_every_change_of_its_run_in_order(live: Live) -> None:
    await live.work("t")
    run_id, other = await live.trigger(), await live.trigger()
    async with live.feed.subscribe(ENV, runs=[run_id]) as changes:
        for claimed in await live.claim(2):
            await live.end(claimed)
        found = await taken(changes, 2)
    assert [(c.run_id, c.status, c.n) for c in found] == [(run_id, Status.EXECUTING, 2), (run_id, Status.COMPLETED, 3)]
    assert other not in {c.run_id for c in found}


async def test_nothing_is_read_while_nobody_subscribes(live: Live) -> None:
    await live.work("t")
    await live.trigger()
    assert live.feed._position is None


async def test_tags_batches_and_environments_are_told_apart(live: Live) -> None:
    from outlast.model.run import RunOptions

    await live.work("t")
    async with (
        live.feed.subscribe(ENV, tags=["a", "b"]) as both,
        live.feed.subscribe(ENV, everything=True) as every,
        live.feed.subscribe(1, everything=True) as foreign,
        live.feed.subscribe(ENV, batches=["batch_1"]) as batch,
    ):
        one = await live.trigger(options=RunOptions(tags=["a"]))
        two = await live.trigger(options=RunOptions(tags=["b", "a", "c"]))
        assert [c.run_id for c in await taken(every, 2)] == [one, two]
        assert [c.run_id for c in await taken(both, 1)] == [two]
        assert (await foreign.take(0)).changes == []
        assert (await batch.take(0)).changes == []


async def test_a_slow_subscriber_is_told_to_look_again_and_costs_no_more_memory(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    async with live.feed.subscribe(ENV, runs=[run_id]) as slow:
        change = (await live.engine.read(lambda tx: outbox.of_run(tx, run_id, 0, 1)))[0]
        for _ in range(feeds.QUEUED + 5):
            slow.put(change)
        found = await slow.take(0)
    assert found.missed
    assert len(found.changes) == 5


async def test_what_came_between_two_polls_is_remembered(live: Live) -> None:
    await live.work("t")
    async with live.feed.subscribe(ENV, everything=True) as first:
        position = first.position
        run_id = await live.trigger()
        await taken(first, 1)
    again = live.feed.subscribe(ENV, everything=True)
    found = await live.feed.since(again, position)
    assert found is not None
    assert [c.run_id for c in found] == [run_id]
    assert await live.feed.since(again, outbox.Position(0, -1)) is None


async def test_topics_wake_whoever_asked_for_them(live: Live) -> None:
    async with live.feed.subscribe(ENV, topics=["queues"]) as mine, live.feed.subscribe(1, topics=["queues"]) as foreign:
        live.feed.publish(ENV, "queues")
        assert (await mine.take(PATIENCE)).topics == {"queues"}
        assert (await foreign.take(0)).topics == set()


async def test_any_run_is_heard_of_as_a_topic_however_many_change(live: Live) -> None:
    await live.work("t")
    async with live.feed.subscribe(ENV, topics=[feeds.ANY_RUN]) as mine, live.feed.subscribe(1, topics=[feeds.ANY_RUN]) as foreign:
        await live.trigger()
        assert await mine.take(PATIENCE) == ([], {feeds.ANY_RUN}, False)
        assert (await foreign.take(0)).topics == set()


class Interrupted:
    """A connection on which something happens elsewhere before its second statement."""

    def __init__(self, tx: Connection, between: Callable[[], object]) -> None:
        self._tx, self._between, self._asked = tx, between, 0

    def __getattr__(self, name: str) -> Any:
        if name in ("all", "ask"):
            self._asked += 1
            if self._asked == 2:
                self._between()
        return getattr(self._tx, name)


async def test_a_run_that_ends_while_it_is_read_is_not_shown_over_without_its_output(postgres: Address) -> None:
    async with open_house(postgres) as house:
        await house.work("t")
        run_id, loop = await house.trigger(), asyncio.get_running_loop()
        [claimed] = await house.claim()

        def ends() -> None:
            asyncio.run_coroutine_threadsafe(house.end(claimed, output='"done"'), loop).result(PATIENCE)

        def read(tx: Connection, between: Callable[[], object]) -> Pair:
            return pairs(Interrupted(tx, between), [run_id])[run_id]  # type: ignore[arg-type] - all of it that is used

        for between in (ends, int):
            run, data = await house.engine.read(lambda tx, b=between: read(tx, b))
            assert (run.is_final, data.output) == ((False, None) if between is ends else (True, '"done"'))


async def test_every_server_hears_of_what_another_one_committed(postgres: Address, tmp_path: Path) -> None:
    async with (
        open_live(postgres, tmp_path / "a") as one,
        open_live(postgres, tmp_path / "b") as two,
        two.feed.subscribe(ENV, everything=True, topics=["queues"]) as changes,
        asyncio.timeout(PATIENCE),
    ):
        run_id = await one.trigger()
        assert [c.run_id for c in await taken(changes, 1)] == [run_id]
        one.feed.publish(ENV, "queues")
        while "queues" not in (await changes.take()).topics:
            pass


async def test_a_transaction_that_commits_late_is_not_passed_over(postgres: Address, tmp_path: Path) -> None:
    """Race 1 of engine-design: its events have a lower place than some that were read before."""
    async with open_live(postgres, tmp_path) as live:
        await live.work("t")
        with psycopg.connect(postgres.url, options=f"-c search_path={postgres.schema}") as late:
            async with live.feed.subscribe(ENV, everything=True) as changes:
                late.execute(
                    "INSERT INTO events (env_id, run_id, n, kind, at, data)"
                    """ VALUES (3, 'run_late', 1, 'triggered', 0, '{"status": "QUEUED", "execution": "QUEUED"}')"""
                )
                run_id = await live.trigger()
                assert (await changes.take(0.2)).changes == []  # it must wait for the older one
                late.commit()
                assert [c.run_id for c in await taken(changes, 2)] == ["run_late", run_id]
