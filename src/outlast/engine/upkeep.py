"""Upkeep: the engine's due work. Every server does it, none leads: each step looks again under its locks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from outlast.engine import attempts, batches, bulk, control, due, durable, gates, queues, rates, schedules, sessions, tokens, triggers
from outlast.engine.engine import Engine
from outlast.engine.view import WAIT_TIMER
from outlast.model.bulk import StepBulk
from outlast.model.flow import Admit, Backfill, Fire, RateOpens, ReopenQueue
from outlast.model.limits import HEARTBEAT_MS, LEASE_MS, STREAMS_KEPT_MS, TICKS_KEPT_MS, UPKEEP_MS
from outlast.model.requests import AbortBatch, CancelChildren, CloseSession, DropWork, Due, Lose, Unpark, WaitOver
from outlast.model.token import TimeOutToken
from outlast.store import bulk as bulk_store
from outlast.store import catalog, idempotency, lanes, runs, timers
from outlast.store import gates as gates_store
from outlast.store import rates as rates_store
from outlast.store import schedules as schedules_store
from outlast.store import sessions as sessions_store
from outlast.store import streams as streams_store
from outlast.store.database import Connection, DatabaseError

log = logging.getLogger("outlast.upkeep")

STEP = 200  # rows a step looks at
IDLE_LANE_MS = 3_600_000  # a concurrency key that nobody used for an hour leaves nothing behind
AWAY_MS = 2 * UPKEEP_MS + 5_000  # when all looks at leases come so late, there was no database, or no processor
JUMP_MS = 5_000  # clocks are slewed by less; leases have five seconds of safety
CHECK_MS = 60_000  # the counters are compared with what they count this often: it reads all entries and slots
BULK_STEPS = 4  # of a bulk action in a round
FIRES = 50  # schedules in one flush: on SQLite the loop stands still for it, some 30 ms
SCHEDULE_STEPS = 20  # of so many schedules in a round; the other duties wait for it
WORK_PAUSE_MS = 5_000  # before a work item that failed is tried again
TIMER_MS = 1_000  # how late a timer may be noticed when nothing announces it


class Upkeep:
    """Runs until cancelled."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._last = 0  # when leases were looked at
        self._last_seconds = 0.0

    async def run(self) -> None:
        next_slow = next_check = 0.0
        loop = asyncio.get_running_loop()
        while True:
            is_there = await self.do(self.timers, self.schedules, self.work)
            if is_there and loop.time() >= next_slow and await self.do(self.sessions, self.parked, self.expired):
                next_slow = loop.time() + UPKEEP_MS / 1_000 * (0.8 + 0.2 * self.engine.chance.uniform())
                if loop.time() >= next_check and await self.do(self.check):
                    next_check = loop.time() + CHECK_MS / 1_000 * (0.8 + 0.2 * self.engine.chance.uniform())
            await self._rest()

    async def do(self, *duties: Callable[[], Awaitable[object]]) -> bool:
        """Whether the database was there for all of them. What one raises ends no other: of a defect of ours, only its own duty dies."""
        for duty in duties:
            try:
                await duty()
            except DatabaseError as error:
                log.warning("upkeep waits for the database", extra={"duty": duty.__name__, "error": str(error)})
                if error.unavailable:
                    return False
            except Exception:
                log.exception("a duty of upkeep failed", extra={"duty": duty.__name__})
        return True

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(await self._pause()):
                await self.engine.hurry.wait()
        self.engine.hurry.clear()

    async def _pause(self) -> float:
        """Until the next timer, but never so long that another server's timer is missed by more than a second."""
        try:
            times = (await self.engine.read(timers.next_due), await self.engine.read(schedules_store.next_due))
        except DatabaseError:
            return TIMER_MS / 1_000
        left = min((at for at in times if at is not None), default=TIMER_MS + self.engine.clock.now()) - self.engine.clock.now()
        return max(0.005, min(TIMER_MS, left) / 1_000)

    async def timers(self) -> int:
        """Delays, ttls, retries and cancels that nobody confirmed."""
        now, done, before = self.engine.clock.now(), 0, None
        while (rows := await self.engine.read(lambda tx: timers.due(tx, now, STEP))) and rows != before:
            done += len(rows)
            await self._all(
                [self._due(kind, ref, due_at) for due_at, kind, ref in rows],
            )
            if len(rows) < STEP:
                break
            before = rows
        return done

    async def schedules(self) -> int:
        """Nominal times that have come. Other servers look too: whoever is first makes the run."""
        made = 0
        for _ in range(SCHEDULE_STEPS):
            now = self.engine.clock.now()
            rows = await self.engine.read(lambda tx: schedules_store.due(tx, now, FIRES))  # noqa: B023 - awaited at once
            fires = [Fire(env_id=env_id, schedule_id=id_, task=task) for id_, env_id, task, _ in rows]
            made += sum(n for n in await self._all([self.engine.submit(schedules.fire, f, bulk=True) for f in fires]) if isinstance(n, int))
            if len(rows) < FIRES:
                break
        return made

    def _due(self, kind: str, ref: str, due_at: int) -> asyncio.Future[Any]:
        if kind == WAIT_TIMER:
            return self.engine.submit(durable.wait_over, WaitOver(run_id=ref.partition(":")[0], entry_id=ref, due_at=due_at))
        if kind == rates.TIMER:
            return self.engine.submit(rates.rate_opens, RateOpens(ref=ref, due_at=due_at))
        if kind == tokens.TIMER:
            return self.engine.submit(tokens.time_out_token, TimeOutToken(token_id=ref, due_at=due_at))
        if kind == triggers.SEAL_TIMER:
            return self.engine.submit(batches.abort, AbortBatch(batch_id=ref, due_at=due_at))
        return self.engine.submit(due.due, Due(run_id=ref, due_at=due_at), bulk=True)

    async def work(self) -> int:
        """Durable work items: cascades, and runs that waited for a version. One that fails is tried again later, and holds up no other."""
        now, done = self.engine.clock.now(), 0
        for work_id, kind, ref in await self.engine.read(lambda tx: timers.due_work(tx, now, STEP)):
            done += 1
            try:
                await self._work(work_id, kind, ref)
            except Exception as error:
                if isinstance(error, DatabaseError) and error.unavailable:
                    raise
                level = logging.WARNING if isinstance(error, DatabaseError) else logging.ERROR
                log.log(level, "a work item failed, and is tried again later", extra={"kind": kind, "ref": ref}, exc_info=error)
                await self.engine.write(partial(timers.put_off_work, id=work_id, until=now + WORK_PAUSE_MS))
        return done

    async def _work(self, work_id: str, kind: str, ref: str) -> None:
        match kind:
            case "cancel_children":
                await self._cancel_children(work_id, ref)
            case durable.CANCEL_BATCH | durable.CANCEL_FAILED_BATCH:
                await self._cancel_batch(work_id, ref, for_attempt=kind == durable.CANCEL_FAILED_BATCH)
            case "unpark":
                await self._unpark(work_id, int(ref))
            case "reopen":
                env_id, queue_id = ref.split(":")
                await self.engine.call(queues.reopen_queue, ReopenQueue(env_id=int(env_id), queue_id=int(queue_id), work_id=work_id))
            case "gate":
                env_id, _, name = ref.partition(":")
                await self.engine.call(gates.admit, Admit(work_id=work_id, env_id=int(env_id), name=name))
            case "bulk":
                env_id, _, bulk_id = ref.partition(":")
                await self._bulk(work_id, int(env_id), bulk_id)
            case "backfill":
                env_id, schedule_id, after, until = ref.split(":")
                item = Backfill(env_id=int(env_id), schedule_id=schedule_id, after=int(after), until=int(until), work_id=work_id)
                await self.engine.call(schedules.backfill, item, bulk=True)
            case _:
                log.error("unknown work item", extra={"kind": kind, "id": work_id})
                await self.engine.call(due.drop_work, DropWork(work_id=work_id))

    async def _bulk(self, work_id: str, env_id: int, bulk_id: str) -> None:
        """Some steps of a bulk action; the rest at the next look, so that it holds up nothing else."""
        for _ in range(BULK_STEPS):
            action = await self.engine.read(lambda tx: bulk_store.one(tx, env_id, bulk_id))
            targets = [] if action is None else await self.engine.read(partial(bulk_store.targets, action=action, limit=bulk.STEP))
            cursor = action.cursor if action is not None else None
            item = StepBulk(env_id=env_id, bulk_id=bulk_id, work_id=work_id, cursor=cursor, targets=targets)
            if not await self.engine.call(bulk.step_bulk, item, bulk=True):
                self.engine.publish(env_id, "bulk")  # its last step changes no run: nobody would hear of its end
                return
        self.engine.hurry.set()

    async def _cancel_children(self, work_id: str, parent_id: str) -> None:
        while True:
            children = await self.engine.read(lambda tx: runs.children(tx, parent_id, control.CASCADE))
            await self.engine.call(
                control.cancel_children, CancelChildren(work_id=work_id, parent_id=parent_id, children=children), bulk=True
            )
            if not children:
                return

    async def _cancel_batch(self, work_id: str, batch_id: str, *, for_attempt: bool) -> None:
        reason, after = "its parent needs it no more", ""
        while True:
            found = await self.engine.read(partial(runs.of_batch, batch_id=batch_id, after=after, limit=control.CASCADE))
            item = CancelChildren(work_id=work_id, parent_id=batch_id, children=found, reason=reason, for_attempt=for_attempt)
            await self.engine.call(control.cancel_children, item, bulk=True)
            if not found:
                return
            after = found[-1]

    async def _unpark(self, work_id: str, env_id: int) -> None:
        await self.unpark(env_id)
        await self.engine.call(due.drop_work, DropWork(work_id=work_id))

    async def unpark(self, env_id: int) -> None:
        """Runs whose task the current version has, oldest first; those it lacks stay parked."""
        seen: set[str] = set()
        while True:
            rows = [r for r in await self.engine.read(lambda tx: _parked(tx, env_id, STEP + len(seen))) if r[1] not in seen]
            if not rows:
                return
            seen.update(row[1] for row in rows)
            asked = [
                Unpark(env_id=env_id, run_id=run_id, task=task, queue=None if queue == f"task/{task}" else queue, concurrency_key=key)
                for task, run_id, queue, key in rows
            ]
            await self._all([self.engine.submit(due.unpark, item, bulk=True) for item in asked])

    async def parked(self) -> None:
        """A run may be parked by a server that had not heard of a version yet, after that version had looked for it."""
        for env in await self.engine.read(catalog.environments):
            if env.current_version is not None:
                await self.unpark(env.id)

    async def sessions(self) -> int:
        """Leases that are over, and the slots of workers that are gone."""
        now, seconds, lost = self.engine.clock.wall(), asyncio.get_running_loop().time(), 0
        jump = now - self._last - (seconds - self._last_seconds) * 1_000 if self._last else 0
        beyond = now + LEASE_MS + JUMP_MS
        if jump > JUMP_MS or await self.engine.read(lambda tx: sessions_store.is_any_beyond(tx, beyond)):
            log.warning("the clock was set: every lease begins anew", extra={"jump_ms": round(jump)})
            await self.engine.write(lambda tx: sessions_store.renew_all(tx, now + LEASE_MS))
            await self.forget_time()
        else:
            await self.give_back_time(AWAY_MS)
        for session, env_id in await self.engine.read(lambda tx: sessions_store.lapsed(tx, now, STEP)):
            if await self.engine.call(sessions.close_session, CloseSession(session=session, lapsed=True)) is True:
                log.warning("worker lost: its lease is over", extra={"session": session})
                self.engine.publish(env_id, "workers")
        self._last, self._last_seconds = now, seconds
        for session in await self.engine.read(lambda tx: sessions_store.closed_with_slots(tx, STEP)):
            lost += await self.lose_slots(session)
        return lost

    async def give_back_time(self, most_ms: int = HEARTBEAT_MS) -> None:
        """Workers could not renew their leases while no server looked at them. A server that was away alone gives nothing back: others were
        there, and each that stood still, was cut off or started anew would keep the dead alive."""
        now = self.engine.clock.wall()

        def give(tx: Connection) -> int:
            if (gone := sessions_store.looked_at_leases(tx, now)) > most_ms:
                sessions_store.give_back_time(tx, now, LEASE_MS, gone)
            return gone

        if (gone := await self.engine.write(give)) > most_ms:
            log.warning("no server had the database for a while: leases run for as much longer", extra={"away_ms": gone})

    async def forget_time(self) -> None:
        """Nothing is given back of it: the workers died with their server, or all leases begin anew."""
        now = self.engine.clock.wall()
        await self.engine.write(lambda tx: sessions_store.looked_at_leases(tx, now))

    async def lose_slots(self, session: str) -> int:
        lost, before = 0, None
        while (slots := await self.engine.read(lambda tx: lanes.slots_of(tx, session, STEP))) and slots != before:
            await self._all(
                [self.engine.submit(attempts.lose, Lose(run_id=r, epoch=e, stalled=True), bulk=True) for r, e, _ in slots],
            )
            lost, before = lost + len(slots), slots
        return lost

    async def expired(self) -> None:
        """Forget keys, ticks, lanes and streams that nobody can ask for any more, a bounded number of rows at a time."""
        now = self.engine.clock.now()
        await self.engine.write(lambda tx: idempotency.prune(tx, now, 1_000))
        await self.engine.write(lambda tx: sessions_store.prune(tx, now - 86_400_000))
        await self.engine.write(lambda tx: schedules_store.prune_ticks(tx, now - TICKS_KEPT_MS, 1_000))
        await self.engine.write(lambda tx: gates_store.prune(tx, now - IDLE_LANE_MS, 500))
        await self.engine.write(lambda tx: rates_store.prune(tx, now, 1_000))
        await self.engine.write(lambda tx: gates_store.prune_debounce(tx, now - IDLE_LANE_MS, 500))
        await self.engine.write(lambda tx: streams_store.prune(tx, now - STREAMS_KEPT_MS, 100))
        if idle := await self.engine.read(lambda tx: lanes.idle(tx, now - IDLE_LANE_MS, 500)):
            await self.engine.write(lambda tx: lanes.delete_idle(tx, idle))
        if routes := await self.engine.read(lambda tx: lanes.idle_routes(tx, now - IDLE_LANE_MS, 500)):
            await self.engine.write(lambda tx: lanes.delete_idle_routes(tx, routes, now - IDLE_LANE_MS))

    async def check(self) -> None:
        """Counters against what they count. A difference is a defect of ours: repair it, and say so loudly."""
        for lane, used, slots, queued, entries in await self.engine.read(lanes.wrong_counters):
            if await self.engine.write(_repair(lane)):
                log.error(
                    "lane counters were wrong",
                    extra={"lane": lane, "used": used, "slots": slots, "queued": queued, "entries": entries},
                )

    async def _all(self, futures: Sequence[Awaitable[object]]) -> Sequence[object]:
        results = await asyncio.gather(*futures, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, DatabaseError):
                raise result
        return results


def _parked(tx: Connection, env_id: int, limit: int) -> list[tuple[str, str, str | None, str | None]]:
    current = catalog.environment(tx, env_id).current_version
    known = catalog.task_definitions(tx, env_id, current) if current else {}
    return runs.parked(tx, env_id, list(known), limit)


def _repair(lane_id: int) -> Callable[[Connection], bool]:
    return lambda tx: lanes.repair(tx, lane_id)
