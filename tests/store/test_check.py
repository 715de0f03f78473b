"""The checker is checked: each rule finds the row that breaks it, and nothing in a sound database."""

from __future__ import annotations

from typing import Any

import pytest

from outlast.engine import durable, tokens
from outlast.model.journal import Entry, OpKind
from outlast.model.requests import Record, Suspend, Trigger
from outlast.model.token import CreateToken
from outlast.store import check
from outlast.store.check import RULES, Violation
from tests.databases import Address
from tests.engine.house import House, open_house

# rule → the damage it must find. Done beside the engine: the engine cannot do it, that is the point
DAMAGE = {
    "a lane's counters are its rows": "UPDATE lanes SET used = used + 1 WHERE used > 0",
    "a lane's head is its oldest entry": "UPDATE lanes SET head = head + 1 WHERE queued > 0",
    "a lane with work and room is open, and no other is": "UPDATE lanes SET open = 0 WHERE open = 1",
    "a run that executes has its slot": "DELETE FROM slots",
    "a slot is of a run that executes": "UPDATE slots SET epoch = epoch + 1",
    "a slot is of a session": "DELETE FROM sessions",
    "a queued run has an entry, or a timer that queues it": "DELETE FROM entries",
    "an entry is of a queued run": "UPDATE runs SET execution = 'DELAYED' WHERE execution = 'QUEUED'",
    "a run that is due has its timer": "DELETE FROM timers WHERE kind = 'run'",
    "a delayed run is due": "UPDATE runs SET due_at = NULL WHERE execution = 'DELAYED'",
    "a parked run is found by versions": "DELETE FROM parked",
    "only parked runs are parked": "UPDATE runs SET execution = 'DELAYED' WHERE execution = 'PENDING_VERSION'",
    "a waiting run waits for something": "UPDATE journal SET status = 'abandoned'",
    "a wait that ends has its timer": "DELETE FROM timers WHERE kind = 'wait'",
    "a wait's timer goes with the wait": "UPDATE journal SET status = 'ok' WHERE kind = 'wait'",
    "a child that is waited for is not over": "UPDATE runs SET finished_at = 1 WHERE parent_id IS NOT NULL",
    "a batch that is waited for is not over": "UPDATE batches SET completed_at = 1",
    "a token that is waited for knows its waiter": "DELETE FROM edges",
    "a token with a timeout has its timer": "DELETE FROM timers WHERE kind = 'token'",
    "completions are numbered without a gap": "UPDATE runs SET next_seq = next_seq + 1 WHERE execution = 'SUSPENDED'",
    "a run's last change has its event": "UPDATE runs SET snapshot = snapshot + 1",
    "a final status and the end go together": "UPDATE runs SET status = 'WAITING' WHERE execution = 'FINISHED'",
    "a run that is over holds nothing": "UPDATE runs SET held_by = 's' WHERE execution = 'FINISHED'",
    "a run has its data": "DELETE FROM run_data",
    "a failed run is among the failures": "DELETE FROM failures",
    "attempts stay within their maximum": "UPDATE runs SET attempt = 9, max_attempts = 3 WHERE execution = 'EXECUTING'",
    "children of a cancelled run are over, or will be": "UPDATE runs SET status = 'CANCELED' WHERE execution = 'SUSPENDED'",
    "a batch counts its items": "UPDATE batches SET remaining = remaining - 1",
    "a batch is complete when all its items are": "UPDATE batches SET completed_at = 1",
}


async def furnish(house: House) -> None:
    """A run in every place where one can stand."""
    await house.work("t")
    await house.trigger("unknown")
    await house.trigger(delay_until=house.clock.now() + 60_000)
    await house.trigger(max_attempts=1)
    [failing] = await house.claim()
    await house.end(failing, "failed")
    await house.trigger(max_attempts=3)
    [parent] = await house.claim()
    token = await house.engine.call(tokens.create_token, CreateToken(env_id=1, timeout_at=house.clock.now() + 90_000))
    child = Trigger(env_id=1, task="t")
    waits: dict[OpKind, dict[str, Any]] = {
        "trigger_and_wait": {"child": child},
        "batch_and_wait": {"items": [child, child]},
        "wait": {},
        "token": {"token_id": token.token_id},
    }
    for kind, more in waits.items():
        entry = Entry(kind, kind, "", "", "ok", due_at=house.clock.now() + 70_000)
        made = await house.engine.call(durable.record, Record(run_id=parent.run.id, epoch=parent.run.epoch, journal=1, entry=entry, **more))
        assert isinstance(made, Entry), made
    blocked = Suspend(run_id=parent.run.id, epoch=parent.run.epoch, journal=1, seen=0, executor="x1")
    await house.engine.call(durable.suspend, blocked)
    await house.claim()


async def test_a_sound_database_breaks_no_rule(address: Address) -> None:
    async with open_house(address) as house:
        await furnish(house)
        assert await house.engine.read(check.whole) == []


async def test_each_rule_finds_its_damage(address: Address) -> None:
    assert DAMAGE.keys() == RULES.keys()
    async with open_house(address) as house:
        await furnish(house)
        for rule, damage in DAMAGE.items():
            with pytest.raises(Undone):
                do_damage(house, rule, damage)
        assert await house.engine.read(check.whole) == []


class Undone(Exception):
    """Takes a damage back."""


def do_damage(house: House, rule: str, damage: str) -> None:
    with house.engine.database.transaction() as tx:
        assert tx.execute(damage) > 0, f"{rule}: nothing to damage"
        assert rule in {v.rule for v in check.violations(tx)}
        raise Undone


@pytest.mark.parametrize(
    ("rule", "event"),
    [
        ("a final status never changes", '{"status":"FAILED","execution":"FINISHED","epoch":1,"attempt":1}'),
        ("epochs never go back", '{"status":"COMPLETED","execution":"FINISHED","epoch":0,"attempt":1}'),
        ("a run ends once", '{"status":"COMPLETED","execution":"FINISHED","epoch":1,"attempt":1}'),
        ("a run moves along the table", '{"status":"COMPLETED","execution":"EXECUTING","epoch":1,"attempt":1}'),
    ],
)
async def test_history_that_cannot_be_is_found(address: Address, rule: str, event: str) -> None:
    async with open_house(address) as house:
        await house.work("t")
        run_id = await house.trigger()
        [claimed] = await house.claim()
        await house.end(claimed)
        history = check.History()
        assert await house.engine.read(history.read) == []
        kind = "completed" if rule == "a run ends once" else "changed"
        with house.engine.database.transaction() as tx:
            tx.insert("events", ("env_id", "run_id", "n", "kind", "at", "data"), [(1, run_id, 4, kind, 1, event)])
        found: list[Violation] = await house.engine.read(history.read)
        assert [(v.rule, v.id) for v in found] == [(rule, run_id)]


async def test_a_gap_in_the_snapshots_is_found(address: Address) -> None:
    async with open_house(address) as house:
        await house.work("t")
        await house.trigger()
        await house.end((await house.claim())[0])
        with house.engine.database.transaction() as tx:
            tx.execute("DELETE FROM events WHERE n = 2")
        assert {v.rule for v in await house.engine.read(check.whole)} == {"snapshots are numbered without a gap"}
