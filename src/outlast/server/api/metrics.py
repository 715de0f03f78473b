"""`/metrics`: how things stand, as Prometheus reads it. The key it is asked with says of which environment."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from outlast.server.context import of
from outlast.store import catalog, lanes, overview
from outlast.store.catalog import Environment, Queue
from outlast.store.charts import at_work
from outlast.store.database import Connection
from outlast.version import __version__

MAX_QUEUES = 1_000
TYPE = "text/plain; version=0.0.4; charset=utf-8"
STARTED = time.time()
Sample = tuple[Mapping[str, str], float]


async def show(request: Request) -> Response:
    """GET /metrics"""
    context = of(request)
    caller = await context.caller(request)
    now = context.engine.clock.now()
    families = await context.engine.read(lambda tx: _environment(tx, caller.env, now))
    families += _process()
    return Response("".join(_family(*family) for family in families), media_type=TYPE)


Family = tuple[str, str, str, list[Sample]]  # name, type, help, samples


def _environment(tx: Connection, env: Environment, now: int) -> list[Family]:
    env = catalog.environment(tx, env.id)
    of_env = {"environment": env.slug}
    running, queued = at_work(tx, env.id)
    _, queues = catalog.queue_page(tx, env.id, offset=0, limit=MAX_QUEUES)
    counts, oldest = lanes.counts(tx, [q.id for q in queues]), lanes.oldest(tx, env.id)
    workers = [w for w in overview.workers(tx, env.id, since=now) if w.state == "open"]
    versions = sorted({w.version for w in workers})
    failed = overview.failures_since(tx, env.id, since=now - 60_000)

    def each(value: Mapping[int, float]) -> list[Sample]:
        return [({**of_env, "queue": q.name}, value[q.id]) for q in queues if q.id in value]

    return [
        ("outlast_runs_executing", "gauge", "Runs that hold a slot.", [(of_env, running)]),
        ("outlast_runs_queued", "gauge", "Runs that wait for a slot.", [(of_env, queued)]),
        ("outlast_runs_failed_last_minute", "gauge", "Runs made in the last minute that have failed.", [(of_env, failed)]),
        ("outlast_environment_limit", "gauge", "Runs that may hold a slot at once, burst included.", [(of_env, env.room)]),
        ("outlast_environment_paused", "gauge", "1: nothing new starts.", [(of_env, int(env.paused))]),
        ("outlast_queue_executing", "gauge", "Runs of a queue that hold a slot.", each({k: v[0] for k, v in counts.items()})),
        ("outlast_queue_queued", "gauge", "Runs of a queue that wait.", each({k: v[1] for k, v in counts.items()})),
        ("outlast_queue_limit", "gauge", "Runs of a queue that may hold a slot at once.", each(_limits(queues))),
        ("outlast_queue_paused", "gauge", "1: nothing new starts.", each({q.id: int(q.paused) for q in queues})),
        ("outlast_queue_oldest_seconds", "gauge", "How long the oldest run of a queue has waited.",
         each({id_: max(0, now - at) / 1_000 for id_, at in oldest.items()})),
        ("outlast_workers", "gauge", "Connected workers.",
         [({**of_env, "version": v}, sum(w.version == v for w in workers)) for v in versions]),
    ]  # fmt: skip


def _limits(queues: Iterable[Queue]) -> dict[int, float]:
    limits = {q.id: q.override if q.override is not None else q.limit for q in queues}
    return {id_: limit for id_, limit in limits.items() if limit is not None}


def _process() -> list[Family]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return [
        ("outlast_info", "gauge", "The version of this server.", [({"version": __version__}, 1)]),
        ("process_cpu_seconds_total", "counter", "CPU time of this server.", [({}, used.ru_utime + used.ru_stime)]),
        ("outlast_process_peak_memory_bytes", "gauge", "The most memory this server has had.", [({}, peak)]),
        ("process_start_time_seconds", "gauge", "When this server started.", [({}, STARTED)]),
    ]


def _family(name: str, kind: str, text: str, samples: list[Sample]) -> str:
    if not samples:
        return ""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        said = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        lines.append(f"{name}{{{said}}} {value:.10g}" if said else f"{name} {value:.10g}")
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
