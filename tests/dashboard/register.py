"""Every page of the dashboard, by name: what is tried on all pages takes them from here, and a route without a page fails."""

from __future__ import annotations

from starlette.routing import compile_path

from outlast.server.dashboard.pages import PAGES

LISTS = (
    *("runs", "tasks", "errors", "logs", "test", "queues", "schedules", "batches", "tokens", "bulk"),
    *("deployments", "workers", "alerts", "env-vars", "api-keys", "settings"),
)  # fmt: skip
TABS = ("details", "context", "metadata", "logs", "streams", "journal", "markdown")
NO_PAGES = ("/ui/",)  # what a page fetches for itself


def pages(ids: dict[str, str]) -> dict[str, str]:
    """Name → address, on a server as `screenshots.furnish` leaves it."""
    run, schedule = f"/runs/{ids['run']}", f"/schedules/{ids['schedule']}"
    found = {
        "home": "/", **{name: f"/{name}" for name in LISTS}, "run": run, **{f"run-{tab}": f"{run}?tab={tab}" for tab in TABS},
        "run-span": f"{run}?span={ids['span']}", "run-waiting": f"/runs/{ids['waiting']}", "run-live": f"/runs/{ids['live']}",
        "run-delayed": f"/runs/{ids['delayed']}", "error": f"/errors/{ids['error']}",
        "task": "/tasks/emails.send", "test-form": "/test/emails.send", "test-json": "/test/emails.send?mode=json",
        "queue": f"/queues/{ids['queue']}", "batch": f"/batches/{ids['batch']}", "token": f"/tokens?id={ids['token']}",
        "schedule": schedule, "schedule-edit": f"{schedule}/edit", "deployment": f"/deployments/{ids['version']}",
        "schedule-new": "/schedules/new?task=reports.nightly&cron=0+9+*+*+1-5&timezone=Europe/Berlin",
        "bulk-new": "/bulk/new?status=FAILED", "lost": "/nowhere", "no-match": "/runs?q=nothing-like-this",
    }  # fmt: skip
    assert not (missing := left_out(list(found.values()))), f"routes with no page in the register: {missing}"
    return found


def bare() -> dict[str, str]:
    """The pages of a server nothing has happened on."""
    return {"home": "/", **{name: f"/{name}" for name in LISTS}, "schedule-new": "/schedules/new", "bulk-new": "/bulk/new"}


def left_out(paths: list[str]) -> set[str]:
    """Routes none of these addresses leads to."""
    patterns = {
        route: compile_path(route)[0] for route, _ in PAGES if not route.startswith(NO_PAGES) and not route.endswith((".json", ".md"))
    }
    seen = {next((route for route, shape in patterns.items() if shape.match(path.partition("?")[0])), None) for path in paths}
    return patterns.keys() - seen
