"""The API's description: made from its types, and true. Requests made up from it are answered, never with a 500."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from starlette.routing import Route

from outlast.server.app import _ALL  # pyright: ignore[reportPrivateUsage] - the table of every route
from tests.databases import Address
from tests.end_to_end.processes import Cluster
from tests.server.conftest import Server, on_sqlite

HELD_OPEN = r"/realtime/|/events$|/streams/|/result$"  # answered when something happens; tests/realtime has them


@on_sqlite
async def test_the_description_lists_every_route_and_its_types(server: Server) -> None:
    found = (await server.ask("GET", "/api/openapi.json", env=None)).json()
    trigger = found["paths"]["/api/v1/tasks/{task}/trigger"]["post"]
    assert trigger["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/TriggerRequest"}
    assert {"idempotencyKeyTTL", "maxAttempts", "lockToVersion"} <= set(found["components"]["schemas"]["TriggerOptions"]["properties"])
    described = {(method.upper(), path) for path, operations in found["paths"].items() for method in operations}
    routes = [route for route in server.runtime.app.routes if isinstance(route, Route)]
    served = {(method, route.path.replace(":path}", "}")) for route in routes for method in route.methods or ()}
    machines = {(m, path) for m, path in served if path.startswith(("/api/", "/realtime/")) and m not in ("OPTIONS", "HEAD")}
    assert machines - described == {("GET", "/api/openapi.json"), ("GET", "/api/docs")}


# of Trigger.dev's API, ranks A to C; {} is a part to choose. Not among them: what comes with deploys and the query language
RANKS = """
POST /api/v1/tasks/{}/trigger · GET /api/v3/runs/{} · GET /api/v1/runs · GET /api/v1/projects/{}/runs · POST /api/v2/runs/{}/cancel
GET /realtime/v1/runs/{} · GET /realtime/v1/runs · GET /realtime/v1/batches/{} · GET /realtime/v1/streams/{}/{}
POST /api/v1/auth/jwt/claims · POST /api/v1/auth/public-tokens · POST /api/v1/auth/jwt
POST /api/v3/batches · POST /api/v3/batches/{}/items · GET /api/v2/batches/{} · GET /api/v1/batches/{} · GET /api/v1/batches/{}/results
POST /api/v1/runs/{}/replay · POST /api/v1/runs/{}/reschedule · GET /api/v1/runs/{}/result · POST /api/v1/runs/{}/tags
PUT /api/v1/runs/{}/metadata · GET /api/v1/runs/{}/metadata
GET /api/v1/runs/{}/trace · GET /api/v1/runs/{}/events · GET /api/v1/runs/{}/spans/{}
POST /api/v1/waitpoints/tokens · GET /api/v1/waitpoints/tokens · GET /api/v1/waitpoints/tokens/{}
POST /api/v1/waitpoints/tokens/{}/complete · POST /api/v1/waitpoints/tokens/{}/callback/{}
POST /api/v1/schedules · GET /api/v1/schedules · GET /api/v1/schedules/{} · PUT /api/v1/schedules/{} · DELETE /api/v1/schedules/{}
POST /api/v1/schedules/{}/activate · POST /api/v1/schedules/{}/deactivate · GET /api/v1/timezones
GET /api/v1/queues · GET /api/v1/queues/{} · POST /api/v1/queues/{}/pause · GET /api/v1/queues/{}/metrics
POST /api/v1/queues/{}/concurrency/override · POST /api/v1/queues/{}/concurrency/reset
POST /api/v1/projects/{}/{}/pause · POST /api/v1/projects/{}/{}/resume
GET /api/v1/projects/{}/envvars/{} · POST /api/v1/projects/{}/envvars/{} · POST /api/v1/projects/{}/envvars/{}/import
GET /api/v1/projects/{}/envvars/{}/{} · PUT /api/v1/projects/{}/envvars/{}/{} · DELETE /api/v1/projects/{}/envvars/{}/{}
POST /api/v1/idempotencyKeys/{}/reset · PUT /api/v2/packets/{} · GET /api/v1/packets/{} · GET /api/v1/runs/{}/packets/{}
PUT /realtime/v1/streams/{}/{}/{} · POST /realtime/v1/streams/{}/{}/{} · HEAD /realtime/v1/streams/{}/{}/{}
POST /realtime/v1/streams/{}/{}/{}/append · POST /realtime/v1/streams/{}/input/{} · GET /realtime/v1/streams/{}/input/{}
POST /api/v1/runs/{}/input-streams/wait
POST /api/v1/bulk-actions · GET /api/v1/bulk-actions · GET /api/v1/bulk-actions/{} · POST /api/v1/bulk-actions/{}/abort
GET /api/v1/deployments · GET /api/v1/deployments/{}
POST /api/v2/tasks/batch · POST /api/v1/tasks/batch · POST /api/v1/tasks/{}/batch
"""


def test_every_route_of_trigger_devs_that_clients_may_use_is_there() -> None:
    served = {f"{method} {re.sub(r'{[^}]+}', '{}', path)}" for method, path, _ in _ALL}
    wanted = {route.strip() for line in RANKS.strip().splitlines() for route in line.split("·")}
    assert wanted - served == set()
    assert {route for route in served if "/outlast/" not in route} - wanted == {
        "GET /api/v1/whoami", "GET /metrics", "GET /healthz", "GET /readyz",
    }  # fmt: skip


@on_sqlite
async def test_the_page_shows_it_and_runs_nothing(server: Server) -> None:
    page = await server.ask("GET", "/api/docs", env=None)
    assert "/api/v1/tasks/{task}/trigger" in page.text and "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    folder: Path = tmp_path_factory.mktemp("openapi")
    found = Cluster(folder, Address(f"sqlite:///{folder / 'data' / 'outlast.db'}"))
    _, port = found.server()
    yield f"http://127.0.0.1:{port}", found.key
    found.stop()


QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.large_base_example]
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]


def test_requests_that_are_made_up_are_answered(cluster: tuple[str, str]) -> None:
    _make_up(*cluster, examples=3)


@pytest.mark.full
def test_many_requests_that_are_made_up_are_answered(cluster: tuple[str, str]) -> None:
    _make_up(*cluster, examples=60)


def _make_up(url: str, key: str, examples: int) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/api/openapi.json").exclude(path_regex=HELD_OPEN)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 40
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=examples, deadline=None, phases=[Phase.generate], suppress_health_check=QUIET, derandomize=True)
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS, headers={"authorization": f"Bearer {key}"})

        ask()
