"""What the palette finds beside the pages and buttons it sees itself: favourites, things to do elsewhere, tasks, queues, and ids."""

from __future__ import annotations

from starlette.responses import Response

from outlast.server.dashboard import runs
from outlast.server.dashboard.visit import Visit
from outlast.store import catalog, favourites, search
from outlast.store.database import Connection

FOUND = 8
MIN_ID_CHARS = 4
ELSEWHERE = (  # what can be begun from any page; the third: only operators
    ("Runs that failed today", "/runs?status=FAILED&status=CRASHED&status=TIMED_OUT&status=SYSTEM_FAILURE&period=1d", False),
    ("Runs that execute now", "/runs?status=EXECUTING", False),
    ("Runs that wait", "/runs?status=WAITING", False),
    ("Tokens that wait for somebody", "/tokens?status=WAITING", False),
    ("New schedule", "/schedules/new", True),
    ("Bulk action: replay what failed today", "/bulk/new?status=FAILED&period=1d", True),
)
BY_ID = (("batch_", "/batches/"), ("sched_", "/schedules/"), ("waitpoint_", "/tokens?id="), ("error_", "/errors/"))
Found = list[dict[str, str]]


async def find(visit: Visit) -> Response:
    """GET /ui/find?q="""
    text = visit.query.get("q", "").strip()[:100]
    return visit.json(await visit.read(lambda tx: _find(tx, visit, text.lower())) if text and "\x00" not in text else [])


def _find(tx: Connection, visit: Visit, text: str) -> Found:
    return [
        *_favourites(tx, visit, text),
        *_to_do(visit, text),
        *_tasks(tx, visit, text),
        *_queues(tx, visit, text),
        *_by_id(tx, visit, text),
    ]


def _favourites(tx: Connection, visit: Visit, text: str) -> Found:
    kept = favourites.listed(tx, visit.env.id).items()
    return [{"text": name, "hint": "favourite", "href": f"/runs{query}"} for name, query in kept if text in name.lower()][:FOUND]


def _to_do(visit: Visit, text: str) -> Found:
    allowed = [(name, path) for name, path, acts in ELSEWHERE if visit.access.may_act or not acts]
    return [{"text": name, "hint": "", "href": path} for name, path in allowed if text in name.lower()]


def _tasks(tx: Connection, visit: Visit, text: str) -> Found:
    """Each as a page, and as something to test: `test emails` finds the latter alone."""
    wanted = text.removeprefix("test ")
    names = [name for name in runs.task_names(tx, visit) if wanted in name.lower()][:FOUND]
    found = [] if wanted != text else [{"text": name, "hint": "task", "href": f"/tasks/{name}"} for name in names]
    if visit.access.may_act:
        found += [{"text": f"Test {name}", "hint": "", "href": f"/test/{name}"} for name in names]
    return found


def _queues(tx: Connection, visit: Visit, text: str) -> Found:
    queues = catalog.queue_page(tx, visit.env.id, offset=0, limit=1_000)[1]
    named = [q for q in queues if text in q.name.lower() and not q.name.startswith("task/")]
    return [{"text": q.name, "hint": "queue", "href": f"/queues/{q.public_id}"} for q in named[:FOUND]]


def _by_id(tx: Connection, visit: Visit, text: str) -> Found:
    """A whole id of anything, or a part of a run's."""
    if len(text) < MIN_ID_CHARS or not text.replace("_", "").isalnum():
        return []
    found = [{"text": text, "hint": "open", "href": path + text} for prefix, path in BY_ID if text.startswith(prefix)]
    rows = search.rows(tx, search.Filter(env_id=visit.env.id, like_id=text), FOUND)
    return found + [{"text": f"{run.task} …{run.id[-8:]}", "hint": run.status.value.lower(), "href": f"/runs/{run.id}"} for run, _ in rows]
