"""The clients: they trigger, cancel and complete over HTTP, remember what was acknowledged, and know what must come of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, Protocol

from outlast.client import requests
from outlast.client.connection import Connection as Client
from outlast.errors import ApiError
from outlast.store.database import Connection
from tests.simulation.debounced import Debounced, Typed
from tests.simulation.operations import Kinds, Operation
from tests.simulation.plan import Plan
from tests.simulation.programs import Ledger

TRIGGERING = 0.8  # of the time; then what is there goes on
MAX_LOOKS = 25  # at operations in a second
GRACE_MS = 1_000  # cancel and end may cross
FINAL = {"COMPLETED", "CANCELED", "FAILED", "CRASHED", "TIMED_OUT", "EXPIRED", "SYSTEM_FAILURE"}


class Spawns(Protocol):
    def spawn(self, work: Coroutine[Any, Any, None], /) -> object: ...


class World(Protocol):
    """Where the clients live: simulated, or real."""

    @property
    def seed(self) -> int: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def client(self) -> Client: ...
    @property
    def client_node(self) -> Spawns: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def has_steady_clock(self) -> bool: ...

    def wall_ms(self) -> int: ...
    def say(self, text: str) -> None: ...
    def wrong(self, text: str) -> None: ...


class Workload(Kinds):
    signed = frozenset(
        {"sim.plain", "sim.narrow", "sim.keyed", "sim.once", "sim.uneven", "sim.flaky"}
    )  # their results say of which attempt
    clock_ms = 0  # by how much servers may be wrong about the time

    def __init__(self, world: World) -> None:
        super().__init__(world.seed)
        self.world = world
        self.operations: list[Operation] = []
        self.is_over = False
        self._same_key: dict[str, set[str]] = {}
        self._debounced = Debounced()
        self.answered: list[float] = []  # when a trigger was acknowledged, in seconds

    def open_operations(self) -> list[str]:
        return [f"{o.name} {o.run_id}" for o in self.operations if not o.is_over][:10]

    async def run(self) -> None:
        plan = self.world.plan
        kinds = [*(plan.kinds if plan.each_kind else ()), *(self.chance.choice(plan.kinds) for _ in range(plan.operations))]
        self.operations = [self._draw(kind, i) for i, kind in enumerate(kinds)]
        await asyncio.gather(*[self._perform(o) for o in self.operations])
        self.is_over = True

    # ---- doing it

    async def _perform(self, o: Operation) -> None:
        plan = self.world.plan
        await asyncio.sleep(self.chance.uniform(0.0, plan.seconds * TRIGGERING))
        try:
            if o.kind == "token":
                await self._with_token(o)
            elif o.kind == "pair":
                await self._with_tokens(o)
            elif o.kind == "batch_call":
                await self._call_batch(o)
            elif o.kind == "debounce":
                await self._type(o)
            else:
                await self._trigger(o)
        except ApiError as error:
            if o.run_id is None:
                o.is_over = True
            self.world.say(f"{o.name} was not acknowledged: {error}")
        if o.run_id is None:
            o.is_over = True
            return
        if self.chance.random() < plan.cancels or o.kind == "unknown":
            await asyncio.sleep(self.chance.choice((0.0, 0.1, 2.0, 15.0)))
            await self._cancel(o)
        await self._watch(o)

    async def _trigger(self, o: Operation) -> None:
        body = {"payload": json.dumps(o.payload), "options": {"payloadType": "application/json", **o.options}}
        asked_at = self.world.wall_ms()
        o.is_sent = True
        handle = await self.world.client.send(requests.trigger(o.task, body))
        o.run_id = handle.id
        self.answered.append(self.world.wall_ms() / 1_000)
        self.world.say(f"{o.name} {o.kind} is {handle.id}")
        if o.kind == "delay":
            o.not_before_ms = asked_at + int(o.options["delay"][:-1]) * 1_000
        if o.kind == "debounce":  # its times are whole seconds
            o.not_before_ms = asked_at + 19_000
        if o.kind == "idempotent":
            self._same_key.setdefault(o.payload["key"], set()).add(handle.id)

    async def _type(self, o: Operation) -> None:
        """Again and again, each time before or after it would have begun."""
        await self._type_once(o, 0)
        for i in range(self.chance.randrange(3)):
            await asyncio.sleep(self.chance.choice((2.0, 9.0, 18.0)))
            await self._type_once(o, i + 1)

    async def _type_once(self, o: Operation, i: int) -> None:
        o.payload["typed"], name, asked_at = i, f"{o.name}/{i}", self.world.wall_ms()
        self._debounced.asks(name)
        await self._trigger(o)
        assert o.run_id is not None
        self._debounced.answered(o.options["debounce"], Typed(name, o.run_id, asked_at, self.world.wall_ms()))

    async def _with_token(self, o: Operation) -> None:
        timeout = self.chance.choice((None, "5s", "30s"))
        body: dict[str, Any] = {"tags": []} if timeout is None else {"tags": [], "timeout": timeout}
        made = await self.world.client.send(requests.create_token(body))
        o.payload["token"] = made.id
        completes = timeout is None or self.chance.random() < 0.6
        await self._trigger_with(o, [made.id] if completes else [])

    async def _with_tokens(self, o: Operation) -> None:
        made = [(await self.world.client.send(requests.create_token({"tags": []}))).id for _ in range(2)]
        o.payload["tokens"] = made
        await self._trigger_with(o, made)

    async def _trigger_with(self, o: Operation, tokens: list[str]) -> None:
        try:
            await self._trigger(o)
        finally:  # if nobody heard of it, there may be a run that waits all the same
            for token_id in tokens:
                self._spawn_completion(token_id)

    def _spawn_completion(self, token_id: str) -> None:
        for _ in range(self.chance.choice((1, 1, 2))):
            self.world.client_node.spawn(self._complete(token_id, self.chance.choice((0.0, 1.0, 5.0, 20.0))))

    async def _complete(self, token_id: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        while True:  # a person tries again
            try:
                await self.world.client.send(requests.complete_token(token_id, json.dumps({"by": "somebody"})))
                return
            except ApiError:
                await asyncio.sleep(5.0)

    async def _call_batch(self, o: Operation) -> None:
        items = [
            {
                "task": "sim.plain",
                "payload": json.dumps({"op": f"{o.name}/{i}", "seconds": 0.2}),
                "options": {"payloadType": "application/json"},
            }
            for i in range(o.payload["items"])
        ]
        o.is_sent = True
        handle = await self.world.client.send(requests.batch(items))
        o.run_id = handle.id

    async def _cancel(self, o: Operation) -> None:
        if o.run_id is None or o.kind == "batch_call":
            return
        while True:
            try:
                await self.world.client.send(requests.cancel_run(o.run_id))
                o.cancelled_at = self.world.wall_ms()
                self.world.say(f"{o.name} is cancelled")
                return
            except ApiError:
                await asyncio.sleep(3.0)

    async def _watch(self, o: Operation) -> None:
        """Until it is over; a final status must stay."""
        while True:
            try:
                if await self._is_done(o):
                    o.is_over = True
                    return
            except ApiError as error:
                if error.status == 404:
                    self.world.wrong(f"I1: {o.name} was acknowledged as {o.run_id}, and is not there")
                    return
            still = sum(other.is_sent and not other.is_over for other in self.operations)
            await asyncio.sleep(max(self.chance.uniform(1.0, 8.0), still / MAX_LOOKS))

    async def _is_done(self, o: Operation) -> bool:
        assert o.run_id is not None
        if o.kind == "batch_call":
            batch = await self.world.client.send(requests.retrieve_batch(o.run_id))
            return batch.status in ("COMPLETED", "PARTIAL_FAILED", "FAILED")
        found = await self.world.client.send(requests.retrieve_run(o.run_id))
        return found.status in FINAL

    # ---- what must have come of it

    def check(self, tx: Connection) -> None:
        by_payload = self._runs(tx)
        for o in self.operations:
            self._check_made(o, by_payload)
            if o.run_id is not None and o.kind != "batch_call":
                self._check_run(tx, o)
        for key, ids in self._same_key.items():
            # a run that failed, or was taken for poison, gives its key back
            kept = [
                row[0] for row in tx.all("SELECT id FROM runs WHERE id {in:ids} AND status IN ('COMPLETED', 'CANCELED')", ids=sorted(ids))
            ]
            if len(kept) > 1:
                self._wrong(f"I2: key {key} was answered with {kept}")
        if self.world.has_steady_clock:
            for text in self._debounced.wrong(tx, self.clock_ms):
                self._wrong(text)
        self._check_ticks(tx)
        self._check_ledger(tx)

    def _check_ticks(self, tx: Connection) -> None:
        """I15"""
        rows = tx.all("SELECT d.payload FROM runs r JOIN run_data d ON d.run_id = r.id WHERE r.task = 'sim.cron'")
        times = [json.loads(row[0])["json"]["timestamp"] for row in rows]
        if len(times) != len({str(at) for at in times}):
            self._wrong(f"I15: a minute made more than one run: {sorted(map(str, times))}")

    def _runs(self, tx: Connection) -> dict[str, list[str]]:
        """Runs by the name in their payload."""
        found: dict[str, list[str]] = {}
        for run_id, payload in tx.all("SELECT run_id, payload FROM run_data WHERE payload IS NOT NULL"):
            name = json.loads(payload).get("op")
            if name is not None:
                found.setdefault(name, []).append(run_id)
        return found

    def _check_made(self, o: Operation, by_payload: dict[str, list[str]]) -> None:
        """I1, and for batches and spawned children I9."""
        if o.kind in ("idempotent", "debounce"):
            return
        names = [f"{o.name}/{i}" for i in range(o.payload["items"])] if o.kind == "batch_call" else [o.name]
        for name in names:
            made = by_payload.get(name, [])
            if len(made) > 1 or (o.run_id is not None and not made):
                self._wrong(f"I1: {name} was {'' if o.run_id else 'not '}acknowledged and made {made}")
        if o.kind == "spawn":
            for i in range(o.payload["children"] + 1):
                if len(by_payload.get(f"{o.name}/{i}", [])) > 1:
                    self._wrong(f"I9: child {i} of {o.name} was made twice")

    def _check_run(self, tx: Connection, o: Operation) -> None:
        rows = tx.all(
            "SELECT r.status, r.attempt, r.losses, r.started_at, r.finished_at, d.output FROM runs r JOIN run_data d ON d.run_id = r.id"
            " WHERE r.id = :id",
            id=o.run_id,
        )
        if not rows:
            return self._wrong(f"I1: {o.name} was acknowledged as {o.run_id}, and is not there")
        status, attempt, losses, started_at, finished_at, output = rows[0]
        shown = f"{o.name} {o.kind} {o.run_id} is {status} after {attempt} attempts and {losses} losses"
        if status not in o.statuses and not self._is_excused(tx, o, status):
            self._wrong(f"I3: {shown}, expected {sorted(o.statuses)}")
        if status == "COMPLETED" and not o.output(json.loads(output) if output else None) and not self._has_poisoned(tx, o):
            self._wrong(f"I9: {shown} with {output}")
        if status == "COMPLETED" and o.task in self.signed and json.loads(output)[1] != attempt:
            self._wrong(f"I6: {shown}, with the result of another attempt: {output}")
        if o.attempts is not None and status == "FAILED" and attempt - losses != o.attempts:
            self._wrong(f"I7: {shown}, expected {o.attempts}")
        early = o.not_before_ms - started_at if o.not_before_ms is not None and started_at is not None else 0
        if self.world.has_steady_clock and early > self.clock_ms:
            self._wrong(f"I10: {shown}, started {early} ms before its time")
        if self.world.has_steady_clock and o.cancelled_at is not None and status != "CANCELED" and finished_at > o.cancelled_at + GRACE_MS:
            self._wrong(f"I16: {shown}, though its cancel was acknowledged {finished_at - o.cancelled_at} ms before its end")
        if status == "EXPIRED" and o.run_id in self.world.ledger.started:
            self._wrong(f"I13: {shown}, and had started")
        return None

    def _is_excused(self, tx: Connection, o: Operation, status: str) -> bool:
        """Cancelled by us, or taken for poison after three kills, or with such a run below it."""
        if status == "CANCELED":
            return o.cancelled_at is not None or self.world.plan.cancels > 0
        return self._has_poisoned(tx, o)

    def _has_poisoned(self, tx: Connection, o: Operation) -> bool:
        """Three workers were killed under it, or a run below it; or two, and then, at its last attempt, the process it had for itself.

        Whoever is taken for poison after two is not excused: that is another event.
        """
        sql = (
            "SELECT 1 FROM runs r WHERE (r.id = :id OR r.root_id = :id) AND (r.losses >= 3 OR (r.losses = 2 AND r.status = 'CRASHED'"
            " AND EXISTS (SELECT 1 FROM events e WHERE e.run_id = r.id AND e.n = r.snapshot AND e.kind LIKE '%failed')))"
        )
        return bool(tx.all(sql, id=o.run_id))

    def _check_ledger(self, tx: Connection) -> None:
        ledger = self.world.ledger
        for (run_id, name), keys in ledger.effects.items():
            if len(keys) > 1:
                self._wrong(f"I8: step {name} of {run_id} had the idempotency keys {sorted(keys)}")
        # a drained attempt is given back, and its number used again
        drained = dict(tx.all("SELECT run_id, count(*) FROM events WHERE kind LIKE '%drain%' GROUP BY run_id"))
        for (run_id, attempt), count in ledger.starts.items():
            if count > 1 + drained.get(run_id, 0):
                self._wrong(f"I6: attempt {attempt} of {run_id} started {count} times")

    def _wrong(self, text: str) -> None:
        self.world.wrong(text)
