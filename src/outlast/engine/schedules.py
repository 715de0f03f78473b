"""Schedules: one run for each nominal time, whichever server is first. The schedule's lock decides, and the key of its ticks."""

from __future__ import annotations

from msgspec.structs import replace

from outlast.engine import triggers
from outlast.engine.operation import Lane, operation
from outlast.engine.rows import NeedsLock, Rows
from outlast.engine.view import View
from outlast.model import cron as crons
from outlast.model import payload as packets
from outlast.model import schedule as model
from outlast.model.flow import ActivateSchedule, Backfill, DeleteSchedule, Fire, SaveSchedule
from outlast.model.limits import MAX_BACKFILL, MAX_SCHEDULES
from outlast.model.manifest import Manifest, ScheduleDefinition
from outlast.model.refusal import Refusal
from outlast.model.requests import GateMode, Trigger
from outlast.model.run import RunOptions
from outlast.model.schedule import Schedule
from outlast.store import schedules as store

FIRED = 20  # runs of one schedule in one transaction; the rest stays due
BACKFILLED = 50


def _needs_fire(f: Fire, wants: Rows) -> None:
    wants.schedules.add(f.schedule_id)


def _lane(view: View, f: Fire) -> list[Lane]:
    return triggers.lane(view, Trigger(env_id=f.env_id, task=f.task))


def _gate(_: View, f: Fire, wants: Rows) -> None:
    wants.gates.add((f.env_id, _gate_name(f.schedule_id)))


def _gate_name(schedule_id: str) -> str:
    return f"schedule:{schedule_id}"


@operation(needs=_needs_fire, lanes=_lane, also=_gate)
def fire(view: View, f: Fire) -> int:
    """The runs of all nominal times that are due, by the schedule's policies; how many were made."""
    s = view.flow.schedule(f.schedule_id, f.env_id)
    if s is None or s.due_at is None or s.due_at > view.now:
        return 0
    secret = view.catalog.environment(view.tx, f.env_id).signing_secret
    times, following = model.to_fire(s, view.now, secret, FIRED)
    done = store.ticked(view.tx, s.id, times) if times else set[int]()
    made = 0
    for nominal in times:
        if nominal not in done:
            s, one = _fire_one(view, s, nominal, _gated(s))
            made += one
    view.flow.save(replace(model.planned(s, following, secret), updated_at=s.updated_at))
    return made


def _fire_one(view: View, s: Schedule, nominal: int, gate: tuple[str, GateMode] | None) -> tuple[Schedule, int]:
    reason = _not_now(view, s)
    run_id = None
    if reason is None:
        data, data_type = packets.encode(model.payload(s, nominal, s.last_at))
        options = RunOptions(schedule_id=s.id, trigger_source="schedule", trigger_function="schedule")
        asked = Trigger(env_id=s.env_id, task=s.task, payload=data, payload_type=data_type, options=options, gate=gate)
        made = triggers.trigger.decide(view, asked)
        if isinstance(made, Refusal):
            reason = made.message
        elif made.is_skipped:
            reason = f"run {made.run_id} is not over yet"
        else:
            run_id = made.run_id
    view.flow.ticks.append((s.id, nominal, view.now, run_id, reason))
    if run_id is None:
        return s, 0
    return replace(s, last_at=max(nominal, s.last_at or 0), last_run_id=run_id), 1


def _not_now(view: View, s: Schedule) -> str | None:
    """Why the task cannot be triggered at all."""
    env = view.catalog.environment(view.tx, s.env_id)
    if env.is_dev and not store.has_worker(view.tx, s.env_id):
        return "no worker was connected"
    if view.place(s.env_id, s.task, None, None).definition is None:
        return f"the current version has no task {s.task!r}"
    return None


def _gated(s: Schedule) -> tuple[str, GateMode] | None:
    return None if s.overlap == "allow" else (_gate_name(s.id), s.overlap)


def _needs_save(a: SaveSchedule, wants: Rows) -> None:
    if a.schedule_id is not None:
        wants.schedules.add(a.schedule_id)


@operation(needs=_needs_save)
def save_schedule(view: View, a: SaveSchedule) -> Schedule | Refusal:
    """The schedule as it is now. An equal deduplication key in the same environment updates."""
    known_id = a.schedule_id
    if known_id is None and a.deduplication_key is not None:
        known = store.with_key(view.tx, a.env_id, a.deduplication_key)
        known_id = known.id if known is not None else None
    if known_id is not None:
        old = view.flow.schedule(known_id, a.env_id)
        if old is not None:
            return _changed(view, old, a)
    if a.schedule_id is not None:
        return Refusal("not_found", "Schedule not found")
    if store.count(view.tx, a.env_id) >= MAX_SCHEDULES:
        return Refusal("limit_exceeded", f"this environment has {MAX_SCHEDULES} schedules, its maximum: delete some")
    made = Schedule(
        id=view.new_id("sched"), env_id=a.env_id, task=a.task, type="IMPERATIVE", cron=a.cron, timezone=a.timezone,
        deduplication_key=a.deduplication_key, external_id=a.external_id, window=a.window, overlap=a.overlap, catch_up=a.catch_up,
        created_at=view.now, updated_at=view.now,
    )  # fmt: skip
    made = model.started(made, view.now, _secret(view, a.env_id))
    store.insert(view.tx, made)
    view.flow.schedules[made.id] = made
    view.flow.loaded.schedules.add(made.id)
    return made


def _changed(view: View, old: Schedule, a: SaveSchedule) -> Schedule | Refusal:
    if old.type == "DECLARATIVE":
        return _declared(old)
    new = replace(
        old, task=a.task, cron=a.cron, timezone=a.timezone, external_id=a.external_id, window=a.window, overlap=a.overlap,
        catch_up=a.catch_up,
    )  # fmt: skip
    return view.flow.save(_moved(view, old, new))


def _moved(view: View, old: Schedule, new: Schedule) -> Schedule:
    """What changes no time leaves the next one where it is."""
    if new == old:
        return old
    new = replace(new, revision=old.revision + 1, updated_at=view.now)
    same = (new.cron, new.timezone, new.window) == (old.cron, old.timezone, old.window) and old.next_at is not None
    return new if same or not new.active else model.started(new, view.now, _secret(view, new.env_id))


def _declared(s: Schedule) -> Refusal:
    return Refusal("declarative", f"schedule {s.id} is declared by task {s.task}: change it in code")


def _secret(view: View, env_id: int) -> str:
    return view.catalog.environment(view.tx, env_id).signing_secret


def _needs_schedule(item: ActivateSchedule | DeleteSchedule | Backfill, wants: Rows) -> None:
    wants.schedules.add(item.schedule_id)


def _changeable(view: View, item: ActivateSchedule | DeleteSchedule) -> Schedule | Refusal:
    s = view.flow.schedule(item.schedule_id, item.env_id)
    if s is None:
        return Refusal("not_found", "Schedule not found")
    return _declared(s) if s.type == "DECLARATIVE" else s


@operation(needs=_needs_schedule)
def activate_schedule(view: View, a: ActivateSchedule) -> Schedule | Refusal:
    """Active again, it goes on with the next time from now; what it slept through is not made up for."""
    s = _changeable(view, a)
    if isinstance(s, Refusal) or (a.active and s.active):
        return s
    s = replace(s, updated_at=view.now, revision=s.revision + 1)
    if a.active:
        return view.flow.save(model.started(replace(s, active=True, pause_reason=None), view.now, _secret(view, s.env_id)))
    return view.flow.save(model.stopped(s, a.reason))


@operation(needs=_needs_schedule)
def delete_schedule(view: View, d: DeleteSchedule) -> bool | Refusal:
    s = _changeable(view, d)
    if isinstance(s, Refusal):
        return s
    view.flow.gone.add(s.id)
    view.flow.schedules.pop(s.id)
    return True


def sync(view: View, env_id: int, manifest: Manifest) -> None:
    """A version became the current one: its schedules are those of its code. One that did not change keeps its next time."""
    type_ = view.catalog.environment(view.tx, env_id).type
    wanted = {t.id: t.schedule for t in manifest.tasks if t.schedule is not None and t.schedule.runs_in(type_)}
    known = store.declared(view.tx, env_id)
    if missing := {s.id for s in known.values()} - view.flow.loaded.schedules:
        raise NeedsLock(Rows(schedules=missing))
    for task, declared in sorted(wanted.items()):
        old = view.flow.schedules.get(known[task].id) if task in known else None
        if old is not None:
            view.flow.save(_moved(view, old, _as_declared(old, declared)))
            continue
        made = Schedule(
            id=view.new_id("sched"), env_id=env_id, task=task, type="DECLARATIVE", cron=declared.cron, timezone=declared.timezone,
            created_at=view.now, updated_at=view.now,
        )  # fmt: skip
        store.insert(view.tx, model.started(_as_declared(made, declared), view.now, _secret(view, env_id)))
    for task, old in known.items():
        if task not in wanted:
            view.flow.gone.add(old.id)


def _as_declared(s: Schedule, d: ScheduleDefinition) -> Schedule:
    return replace(s, cron=d.cron, timezone=d.timezone, window=d.window, overlap=d.overlap, catch_up=d.catch_up)


@operation(needs=_needs_schedule)
def backfill(view: View, b: Backfill) -> int | Refusal:
    """The runs of past times: begun by a request, done in steps by upkeep, so that a crash in between loses and doubles nothing."""
    s = view.flow.schedule(b.schedule_id, b.env_id)
    if b.work_id is not None:
        view.writes.gone_work.append((b.work_id,))
    if s is None:
        return Refusal("not_found", "Schedule not found") if b.work_id is None else 0
    if b.work_id is None:
        times = crons.between(s.cron, s.timezone, b.after, b.until, MAX_BACKFILL + 1)
        if len(times) > MAX_BACKFILL:
            return Refusal("limit_exceeded", f"this range has more than {MAX_BACKFILL} times: backfill it in parts")
        _go_on(view, b, b.after)
        return len(times)
    times = crons.between(s.cron, s.timezone, b.after, b.until, BACKFILLED)
    done = store.ticked(view.tx, s.id, times) if times else set[int]()
    made = 0
    for nominal in times:
        if nominal not in done:
            _, one = _fire_one(view, replace(s, last_at=None), nominal, None)
            made += one
    if len(times) == BACKFILLED:
        _go_on(view, b, times[-1])
    return made


def _go_on(view: View, b: Backfill, after: int) -> None:
    view.writes.work.append((view.new_id("work"), "backfill", f"{b.env_id}:{b.schedule_id}:{after}:{b.until}", view.now))
