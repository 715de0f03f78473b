"""Lanes, their entries and slots. A lane's counters change only in the transaction that changes its entries and slots."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from outlast.model.lane import Candidate, Lane
from outlast.model.run import Run
from outlast.store import runs
from outlast.store.check import RULES
from outlast.store.database import Connection, Later, Row

LaneKey = tuple[int, str, str]  # queue id, concurrency key, route
_COLUMNS = "id, base_id, env_id, queue_id, key, route, head, used, queued, open"


def create(tx: Connection, env_id: int, keys: Collection[LaneKey], base_routes: dict[LaneKey, str], now: int) -> None:
    """Insert the lanes that are missing, bases first. A small transaction of its own, so that its locks are short."""
    wanted = {(q, k, base_routes[(q, k, r)]) for q, k, r in keys} | set(keys)
    rows = [(env_id, q, k, r, now) for q, k, r in sorted(wanted)]
    tx.many("INSERT INTO lanes (env_id, queue_id, key, route, touched_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)
    tx.many(
        "UPDATE lanes SET base_id = (SELECT b.id FROM lanes b WHERE b.queue_id = lanes.queue_id AND b.key = lanes.key AND b.route = ?)"
        " WHERE queue_id = ? AND key = ? AND route = ? AND base_id IS NULL",
        [(base_routes.get((q, k, r), r), q, k, r) for q, k, r in sorted(wanted)],
    )


def find(tx: Connection, key: LaneKey) -> tuple[int, int] | None:
    """(lane id, base id)"""
    rows = tx.all(
        "SELECT id, base_id FROM lanes WHERE queue_id = :queue_id AND key = :key AND route = :route AND base_id IS NOT NULL",
        queue_id=key[0], key=key[1], route=key[2],
    )  # fmt: skip
    return (rows[0][0], rows[0][1]) if rows else None


def base_ids(tx: Connection, lane_ids: Collection[int]) -> set[int]:
    rows = tx.all("SELECT base_id FROM lanes WHERE id {in:ids}", ids=sorted(lane_ids)) if lane_ids else []
    return {row[0] for row in rows}


def lock(tx: Connection, bases: Collection[int]) -> Later[list[Lane]]:
    """All lanes of these bases. Whoever changes a lane holds its base, so the order of ids is the order of locks."""
    if not bases:
        return list
    rows = tx.ask(f"SELECT {_COLUMNS} FROM lanes WHERE base_id {{in:ids}} ORDER BY id {{for_update}}", ids=sorted(bases))
    return lambda: [_lane(row) for row in rows()]


def add_entries(tx: Connection, rows: Sequence[tuple[int, int, str]]) -> None:
    """(lane_id, pos, run_id)"""
    tx.insert("entries", ("lane_id", "pos", "run_id"), rows)


def remove_entries(tx: Connection, rows: Sequence[tuple[int, int, str]]) -> None:
    tx.delete("entries", ("lane_id", "pos", "run_id"), rows, expect=len(rows))


def save(tx: Connection, lanes: Collection[Lane], now: int) -> None:
    """Write counters and heads; a head that is not known any more (None with entries left) is looked up."""
    rows = [(lane.used, lane.queued, now, lane.queued, lane.head, lane.id) for lane in sorted(lanes, key=lambda lane: lane.id)]
    if tx.is_postgres:
        used, queued, _, _, heads, ids = (list(column) for column in zip(*rows, strict=True))
        tx.send(_SAVE_MANY, used=used, queued=queued, heads=heads, ids=ids, now=now)
    else:
        tx.many(_SAVE_ONE, rows)


_HEAD = "COALESCE({given}, (SELECT min(e.pos) FROM entries e WHERE e.lane_id = lanes.id))"
_SAVE_ONE = f"UPDATE lanes SET used = ?, queued = ?, touched_at = ?, head = CASE WHEN ? > 0 THEN {_HEAD.format(given='?')} END WHERE id = ?"
_SAVE_MANY = (
    "UPDATE lanes SET used = x.used, queued = x.queued, touched_at = :now,"
    f" head = CASE WHEN x.queued > 0 THEN {_HEAD.format(given='x.head')} END"
    " FROM unnest(CAST(:ids AS BIGINT[]), CAST(:used AS BIGINT[]), CAST(:queued AS BIGINT[]), CAST(:heads AS BIGINT[]))"
    " x(id, used, queued, head) WHERE lanes.id = x.id"
)


def save_open(tx: Connection, bases: Collection[int]) -> None:
    """Recompute `open` for all lanes of these bases: entries, queue not paused, slots below the limit.

    The limit is read here and not taken from a cache: whoever changes it recomputes after its commit, under the same locks.
    """
    if not bases:
        return
    tx.send(
        "UPDATE lanes SET open = CASE WHEN lanes.queued > 0 AND (SELECT q.paused = 0"
        " AND b.used < {least}(COALESCE(q.override_, q.limit_, e.limit_), e.limit_)"
        " FROM queues q JOIN environments e ON e.id = q.env_id, lanes b WHERE q.id = lanes.queue_id AND b.id = lanes.base_id)"
        " THEN 1 ELSE 0 END WHERE base_id {in:bases}",
        bases=sorted(bases),
    )


def candidates(
    tx: Connection, env_id: int, routes: Sequence[str], limit: int, *, blocked: Collection[int] = (), now: int | None = None
) -> Callable[[int], list[Candidate]]:
    """Lanes with room, oldest head first; call it with the environment's limit.

    A lane whose base somebody holds is skipped, not waited for. `blocked` are queues to leave out; with `now`, so are keys whose
    rate allows no start yet.
    """
    rules = ""
    params: dict[str, Any] = {}
    if blocked:
        rules = " AND NOT (l.queue_id {in:blocked})"
        params["blocked"] = list(blocked)
    if now is not None:
        rules += " AND NOT EXISTS (SELECT 1 FROM rates t WHERE t.queue_id = l.queue_id AND t.key = l.key AND t.open_at > :now)"
        params["now"] = now
    rows = tx.ask(
        "SELECT l.id, b.id, COALESCE(q.override_, q.limit_), b.used, l.queue_id, l.key, l.head"
        "  FROM lanes l JOIN lanes b ON b.id = l.base_id JOIN queues q ON q.id = l.queue_id"
        " WHERE l.env_id = :env AND l.open = 1 AND l.route {in:routes}"
        + rules
        + " ORDER BY l.head LIMIT :limit"
        + (" FOR NO KEY UPDATE OF b SKIP LOCKED" if tx.is_postgres else ""),
        env=env_id, routes=list(routes), limit=limit, **params,
    )  # fmt: skip
    return lambda env_limit: _with_room(rows(), env_limit)


def _with_room(rows: Sequence[Row], env_limit: int) -> list[Candidate]:
    found: list[Candidate] = []
    for lane_id, base_id, own, used, queue_id, key, head in rows:
        free = (env_limit if own is None else min(own, env_limit)) - used
        if free > 0:
            found.append(Candidate(lane_id, base_id, free, queue_id, key, head))
    return found


def limits(tx: Connection, bases: Collection[int]) -> Later[dict[int, tuple[int | None, int | None, bool]]]:
    """(limit, its override, whether a hand-off is out of the question) of the queue of each base: paused, or with rules of a claim."""
    rows = tx.ask(
        "SELECT b.id, q.limit_, q.override_, q.paused + CASE WHEN q.combined_ IS NULL AND q.rate_limit IS NULL THEN 0 ELSE 1 END"
        " FROM lanes b JOIN queues q ON q.id = b.queue_id WHERE b.id {in:bases}",
        bases=sorted(bases),
    )
    return lambda: {row[0]: (row[1], row[2], bool(row[3])) for row in rows()}


def is_anything_open(tx: Connection, env_id: int, routes: Sequence[str]) -> bool:
    return bool(
        tx.all(
            "SELECT 1 FROM lanes l WHERE l.env_id = :env AND l.open = 1 AND l.route {in:routes} LIMIT 1", env=env_id, routes=list(routes)
        )
    )


_PICK_ONE = (
    f"SELECT e.lane_id, {runs.SELECT} FROM entries e JOIN runs r ON r.id = e.run_id"
    " WHERE e.lane_id = :lane ORDER BY e.pos, e.run_id LIMIT :take"
)
# the lane is locked by the statement before, so this one sees all that committed under that lock; a run somebody holds is skipped
_PICK_MANY = (
    f"SELECT e.lane_id, {runs.SELECT} FROM unnest(CAST(:lanes AS BIGINT[]), CAST(:takes AS BIGINT[])) x(lane, take)"
    " CROSS JOIN LATERAL (SELECT f.lane_id, f.pos, f.run_id FROM entries f"
    " WHERE f.lane_id = x.lane ORDER BY f.pos, f.run_id LIMIT x.take) e"
    " JOIN runs r ON r.id = e.run_id ORDER BY e.pos, e.run_id FOR NO KEY UPDATE OF r SKIP LOCKED"
)


def pick(tx: Connection, take: dict[int, int]) -> Later[list[Run]]:
    """The oldest entries of each lane, their runs held. Runs that somebody else holds are left out."""
    if tx.is_postgres:
        rows = tx.ask(_PICK_MANY, lanes=list(take), takes=list(take.values()))
        return lambda: [runs.from_row(row[1:]) for row in rows()]
    asked = [tx.ask(_PICK_ONE, lane=lane_id, take=n) for lane_id, n in take.items()]
    return lambda: [runs.from_row(row[1:]) for answer in asked for row in answer()]


def add_slots(tx: Connection, rows: Sequence[Row]) -> None:
    """(run_id, env_id, lane_id, session_id, executor, epoch, claimed_at, start_by)"""
    tx.insert("slots", ("run_id", "env_id", "lane_id", "session_id", "executor", "epoch", "claimed_at", "start_by"), rows)


def remove_slots(tx: Connection, run_ids: Sequence[tuple[str]]) -> None:
    tx.delete("slots", ["run_id"], run_ids, expect=len(run_ids))


def slots_held(tx: Connection, env_id: int) -> Later[int]:
    rows = tx.ask("SELECT count(*) FROM slots WHERE env_id = :env", env=env_id)
    return lambda: rows()[0][0]


def slots_of(tx: Connection, session: str, limit: int = 1_000_000) -> list[tuple[str, int, str]]:
    """(run id, epoch, executor) of what a session holds."""
    rows = tx.all(
        "SELECT run_id, epoch, executor FROM slots WHERE session_id = :session ORDER BY run_id LIMIT :limit", session=session, limit=limit
    )
    return [(row[0], row[1], row[2]) for row in rows]


def lanes_of_queue(tx: Connection, queue_id: int) -> set[int]:
    return {row[0] for row in tx.all("SELECT DISTINCT base_id FROM lanes WHERE queue_id = :queue_id", queue_id=queue_id)}


def counts(tx: Connection, queue_ids: Collection[int]) -> dict[int, tuple[int, int]]:
    """(running, queued) of each queue."""
    if not queue_ids:
        return {}
    rows = tx.all("SELECT queue_id, sum(used), sum(queued) FROM lanes WHERE queue_id {in:ids} GROUP BY queue_id", ids=sorted(queue_ids))
    return {row[0]: (int(row[1]), int(row[2])) for row in rows}


def oldest(tx: Connection, env_id: int) -> dict[int, int]:
    """queue → place, a time, of its oldest entry"""
    sql = "SELECT queue_id, min(head) FROM lanes WHERE env_id = :env AND queued > 0 AND head IS NOT NULL GROUP BY queue_id"
    return {row[0]: int(row[1]) for row in tx.all(sql, env=env_id)}


def by_key(tx: Connection, queue_id: int, limit: int) -> list[tuple[str, int, int, int | None]]:
    """(concurrency key, running, queued, place of the oldest entry) of a queue's keys, busiest first."""
    rows = tx.all(
        "SELECT key, sum(used), sum(queued), min(head) FROM lanes WHERE queue_id = :queue AND key <> '' GROUP BY key"
        " ORDER BY sum(queued) DESC, sum(used) DESC, key LIMIT :limit",
        queue=queue_id, limit=limit,
    )  # fmt: skip
    return [(row[0], int(row[1]), int(row[2]), row[3]) for row in rows]


def idle(tx: Connection, before: int, limit: int) -> set[int]:
    """Bases none of whose lanes was touched since, or holds or awaits anything."""
    rows = tx.all(
        "SELECT base_id FROM lanes WHERE base_id IS NOT NULL GROUP BY base_id"
        " HAVING max(touched_at) < :before AND max(used) = 0 AND max(queued) = 0 LIMIT :limit",
        before=before, limit=limit,
    )  # fmt: skip
    return {row[0] for row in rows}


def idle_routes(tx: Connection, before: int, limit: int) -> dict[int, int]:
    """Lanes beside their base (of a version, of a worker) that nobody used since: their base, by id."""
    rows = tx.all(
        "SELECT id, base_id FROM lanes WHERE id <> base_id AND queued = 0 AND touched_at < :before"
        " AND NOT EXISTS (SELECT 1 FROM slots s WHERE s.lane_id = lanes.id) LIMIT :limit",
        before=before, limit=limit,
    )  # fmt: skip
    return {row[0]: row[1] for row in rows}


def delete_idle_routes(tx: Connection, found: Mapping[int, int], before: int) -> None:
    """Under the locks of their bases; one that came to life meanwhile stays."""
    lock(tx, set(found.values()))()
    tx.execute(
        "DELETE FROM lanes WHERE id {in:ids} AND queued = 0 AND touched_at < :before"
        " AND NOT EXISTS (SELECT 1 FROM slots s WHERE s.lane_id = lanes.id)",
        ids=sorted(found), before=before,
    )  # fmt: skip


def delete_idle(tx: Connection, bases: Collection[int]) -> None:
    """Under their locks; one that came to life meanwhile stays. Whoever knows their ids finds that out when it locks them."""
    busy = {lane.base_id for lane in lock(tx, bases)() if lane.used or lane.queued}
    if gone := set(bases) - busy:
        tx.execute("DELETE FROM lanes WHERE base_id {in:bases}", bases=sorted(gone))


def wrong_counters(tx: Connection) -> list[tuple[int, int, int, int, int]]:
    """(lane id, used, slots, queued, entries) where a counter differs from what it counts. The rows are the truth."""
    rows = tx.all(RULES["a lane's counters are its rows"])
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]


def _lane(row: Row) -> Lane:
    id_, base_id, env_id, queue_id, key, route, head, used, queued, open_ = row
    return Lane(
        id=id_, base_id=base_id, env_id=env_id, queue_id=queue_id, key=key, route=route, head=head, used=used, queued=queued,
        open=bool(open_),
    )  # fmt: skip


def queued_by_lane(tx: Connection, queue_id: int) -> list[tuple[int, int]]:
    """(lane id, queued)"""
    return [(row[0], row[1]) for row in tx.all("SELECT id, queued FROM lanes WHERE queue_id = :queue_id", queue_id=queue_id)]


def cancelled_slots(tx: Connection, session: str) -> list[tuple[str, int, str]]:
    """(run id, epoch, executor) of runs this session must stop."""
    rows = tx.all(
        "SELECT s.run_id, s.epoch, s.executor FROM slots s JOIN runs r ON r.id = s.run_id"
        " WHERE s.session_id = :session AND r.execution = 'PENDING_CANCEL'",
        session=session,
    )
    return [(row[0], row[1], row[2]) for row in rows]


def repair(tx: Connection, lane_id: int) -> bool:
    """Count again under the lane's lock; whether anything was wrong."""
    bases = base_ids(tx, [lane_id])
    before = {lane.id: (lane.used, lane.queued) for lane in lock(tx, bases)()}
    tx.execute(
        "UPDATE lanes SET used = (SELECT count(*) FROM slots s JOIN lanes x ON x.id = s.lane_id WHERE x.base_id = lanes.id),"
        " queued = (SELECT count(*) FROM entries e WHERE e.lane_id = lanes.id),"
        " head = (SELECT min(e.pos) FROM entries e WHERE e.lane_id = lanes.id) WHERE base_id {in:bases}",
        bases=sorted(bases),
    )
    save_open(tx, bases)
    return {lane.id: (lane.used, lane.queued) for lane in lock(tx, bases)()} != before


def slots_of_executor(tx: Connection, session: str, executor: str) -> list[tuple[str, int, str]]:
    """(run id, epoch, route) of what one executor holds."""
    rows = tx.all(
        "SELECT s.run_id, s.epoch, r.route FROM slots s JOIN runs r ON r.id = s.run_id"
        " WHERE s.session_id = :session AND s.executor = :executor",
        session=session,
        executor=executor,
    )
    return [(row[0], row[1], row[2]) for row in rows]
