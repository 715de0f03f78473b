"""The API's description: made from its types, and true. Requests made up from it are answered, never with a 500."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from starlette.routing import Route

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
