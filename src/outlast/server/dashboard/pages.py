"""Every page and act by its address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.responses import Response

from outlast.server.dashboard import (
    alerts,
    batches,
    bulk,
    env_vars,
    errors,
    home,
    keys,
    logs,
    machines,
    queues,
    run,
    runs,
    schedules,
    settings,
    tasks,
    test,
    tokens,
)
from outlast.server.dashboard.visit import Visit

Table = list[tuple[str, Callable[[Visit], Awaitable[Response]]]]

PAGES: Table = [
    ("/", home.show),
    ("/runs", runs.show),
    ("/runs/{run}", run.show),
    ("/runs/{run}/trace.json", run.trace_json),
    ("/runs/{run}/{part}.json", run.download),
    ("/tasks", tasks.show),
    ("/tasks/{task}", tasks.show_one),
    ("/errors", errors.show),
    ("/errors/{group}", errors.show_one),
    ("/logs", logs.show),
    ("/test", test.choose),
    ("/test/{task}", test.show),
    ("/queues", queues.show),
    ("/queues/{queue}", queues.show_one),
    ("/schedules", schedules.show),
    ("/schedules/new", schedules.edit),
    ("/schedules/{schedule}", schedules.show_one),
    ("/schedules/{schedule}/edit", schedules.edit),
    ("/batches", batches.show),
    ("/batches/{batch}", batches.show_one),
    ("/tokens", tokens.show),
    ("/bulk", bulk.show),
    ("/bulk/new", bulk.prepare),
    ("/env-vars", env_vars.show),
    ("/deployments", machines.deployments),
    ("/deployments/{version}", machines.deployment),
    ("/workers", machines.workers),
    ("/alerts", alerts.show),
    ("/api-keys", keys.show),
    ("/settings", settings.show),
    ("/ui/find", settings.find),
]
ACTS: Table = [
    ("/runs/bulk", runs.bulk),
    ("/runs/{run}/cancel", run.cancel),
    ("/runs/{run}/replay", run.replay),
    ("/runs/{run}/reschedule", run.reschedule),
    ("/runs/{run}/free-key", run.free_key),
    ("/errors/{group}", errors.decide),
    ("/workers/{worker}/drain", machines.drain),
    ("/alerts", alerts.create),
    ("/alerts/{alert}/enable", alerts.enable),
    ("/alerts/{alert}/delete", alerts.delete),
    ("/alerts/{alert}/test", alerts.try_out),
    ("/test/{task}", test.trigger),
    ("/queues/environment", queues.pause_environment),
    ("/queues/{queue}/pause", queues.pause),
    ("/queues/{queue}/limit", queues.override),
    ("/schedules", schedules.save),
    ("/schedules/{schedule}", schedules.save),
    ("/schedules/{schedule}/activate", schedules.activate),
    ("/schedules/{schedule}/delete", schedules.delete),
    ("/batches/{batch}/cancel", batches.cancel),
    ("/bulk", bulk.start),
    ("/bulk/{bulk}/abort", bulk.abort),
    ("/bulk/{bulk}/undo", bulk.undo),
    ("/env-vars", env_vars.save),
    ("/env-vars/{name}/delete", env_vars.delete),
    ("/tokens/{token}/complete", tokens.complete),
    ("/api-keys", keys.create),
    ("/api-keys/{key}/revoke", keys.revoke),
]
