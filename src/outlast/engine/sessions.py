"""Workers: sessions, their leases, and the versions their code becomes."""

from __future__ import annotations

import time

from msgspec.structs import replace

from outlast.engine import schedules
from outlast.engine.operation import operation
from outlast.engine.rows import Rows
from outlast.engine.view import View
from outlast.model.alert import told
from outlast.model.limits import LEASE_MS
from outlast.model.manifest import Manifest, QueueDefinition, digest
from outlast.model.refusal import Refusal
from outlast.model.requests import Beats, CloseSession, OpenSession, SessionOpened, SessionTaken, TakeSession
from outlast.store import alerts, catalog, lanes, sessions
from outlast.store.sessions import Session


def _needs_nothing(_: OpenSession, __: Rows) -> None:
    return


@operation(needs=_needs_nothing)
def open_session(view: View, o: OpenSession) -> SessionOpened:
    """A new session. An unknown manifest makes a version, current unless the worker says otherwise; an equal one joins."""
    env = catalog.environment(view.tx, o.env_id, lock=True)
    hash_ = digest(o.manifest)
    version = catalog.version_with_digest(view.tx, o.env_id, hash_)
    if version is None:
        version = _register(view, o.env_id, hash_, o.manifest)
        if not env.is_dev:  # there, every save of a file makes a version
            _tell(view, o.env_id, version)
    current = env.current_version
    if o.promote and current != version:
        catalog.promote(view.tx, o.env_id, version)
        _define_queues(view, o.env_id, o.manifest)
        schedules.sync(view, o.env_id, o.manifest)
        view.writes.work.append((view.new_id("work"), "unpark", str(o.env_id), view.now))
        current = version
        view.catalog_changed = True
        view.catalog.forget()
    session = Session(
        id=view.new_id("session"),
        env_id=o.env_id,
        worker=o.worker[:128],
        boot_id=o.boot_id[:128],
        version=version,
        server_id=o.server_id,
        lease_until=view.wall + LEASE_MS,
        state="open",
    )
    sessions.insert(view.tx, session, view.now)
    return SessionOpened(session=session.id, version=version, is_current=current == version)


def _register(view: View, env_id: int, hash_: str, manifest: Manifest) -> str:
    """Versions are named by day and number: 20261124.3"""
    day = time.strftime("%Y%m%d", time.gmtime(view.now / 1_000))
    numbers = [int(v.rpartition(".")[2]) for v in catalog.versions_like(view.tx, env_id, day)]
    version = f"{day}.{max(numbers, default=0) + 1}"
    catalog.add_version(view.tx, env_id=env_id, version=version, digest=hash_, python=manifest.python, tasks=manifest.tasks, now=view.now)
    return version


def _tell(view: View, env_id: int, version: str) -> None:
    """Alerts of a version are planned with it, and sent by whoever sends alerts."""
    channels = alerts.listed(view.tx, env_id)
    alerts.plan(view.tx, [told(c, "deployment.success", version, view.now) for c in channels if c.wants("deployment.success", None)])


def _define_queues(view: View, env_id: int, manifest: Manifest) -> None:
    """Every task has a queue of its own unless it names one. Limits come from code; an override stays until it is reset."""
    wanted = {q.name: q for q in manifest.queues}
    for task in manifest.tasks:
        queue = task.queue or QueueDefinition(name=task.queue_name)
        if queue.name not in wanted or queue.has_rules:
            wanted[queue.name] = queue
    known = {queue.name: queue for queue in catalog.queues(view.tx, env_id, list(wanted))}
    for name, queue in sorted(wanted.items()):
        old = known.get(name)
        rules = (queue.concurrency_limit, queue.combined_limit, queue.rate, queue.max_size)
        if old is not None and (old.limit, old.combined, old.rate, old.max_size) == rules:
            continue
        catalog.upsert_queue(view.tx, public_id=view.new_id("queue"), env_id=env_id, definition=queue, now=view.now)
        if old is not None:
            view.writes.work.append((view.new_id("work"), "reopen", f"{env_id}:{old.id}", view.now))


def _needs_session(item: TakeSession | Beats | CloseSession, wants: Rows) -> None:
    wants.sessions.add(item.session)


@operation(needs=_needs_session)
def take_session(view: View, t: TakeSession) -> SessionTaken | Refusal:
    """A worker is back, perhaps at another server. A lease that ran out counts as long as nobody has acted on it: it keeps its runs."""
    session = view.sessions.get(t.session)
    if session is None or session.env_id != t.env_id or session.state != "open":
        return Refusal("session_lost", f"session {t.session} is over: begin a new one with hello")
    view.sessions[t.session] = replace(session, server_id=t.server_id, lease_until=view.wall + LEASE_MS)
    view.writes.sessions.add(t.session)
    env = view.catalog.environment(view.tx, t.env_id)
    return SessionTaken(version=session.version, is_current=env.current_version == session.version)


@operation(needs=_needs_session)
def beat(view: View, b: Beats) -> list[tuple[str, int, str]] | Refusal:
    """Renew the lease. The answer names the runs whose cancel the worker may have missed: (run, epoch, executor)."""
    session = view.sessions.get(b.session)
    if session is None or session.state != "open":
        return Refusal("session_lost", f"session {b.session} is over: begin a new one with hello")
    view.sessions[b.session] = replace(session, lease_until=view.wall + LEASE_MS)
    view.writes.sessions.add(b.session)
    return lanes.cancelled_slots(view.tx, b.session)


@operation(needs=_needs_session)
def close_session(view: View, c: CloseSession) -> bool | Refusal:
    """No more writes of this worker count. Upkeep then gives its slots back, some hundred at a time."""
    session = view.sessions.get(c.session)
    if session is None or session.state != "open":
        return False
    if c.lapsed and session.lease_until >= view.wall:
        return False  # it was renewed meanwhile
    view.sessions[c.session] = replace(session, state="closed")
    view.writes.sessions.add(c.session)
    return True
