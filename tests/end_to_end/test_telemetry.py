"""OpenTelemetry: one trace from the caller through a run to its child, exported and shown with the run; and `/metrics`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.databases import Address
from tests.end_to_end.processes import Cluster, until

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def traced(tmp_path: Path) -> Any:
    found = Cluster(tmp_path, Address(f"sqlite:///{tmp_path / 'data' / 'outlast.db'}"), project=Path(__file__).parent / "traced")
    yield found
    found.stop()


def names(span: dict[str, Any]) -> dict[str, Any]:
    return {child["data"]["message"]: names(child) for child in span["children"]}


def test_a_trace_goes_from_the_caller_through_a_run_to_its_child(traced: Cluster) -> None:
    """row 81 of security.md: a traceparent that is none begins a trace of its own"""
    _, port = traced.server()
    traced.worker(port, "--executors", "1")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {traced.key}"}, timeout=60) as http:

        def trigger(traceparent: str) -> str:
            answer = http.post("/api/v1/tasks/parent/trigger", json={}, headers={"traceparent": traceparent})
            result = http.get(f"/api/outlast/v1/runs/{answer.json()['id']}/result?wait=30").json()
            assert result["ok"], result
            return answer.json()["id"]

        run = trigger(f"00-{TRACE}-{CALLER}-01")
        strange = trigger("00-nonsense-01")
        tree = names(http.get(f"/api/v1/runs/{run}/trace").json()["trace"]["rootSpan"])
        assert "GET /pages" in tree["Attempt 1"]["render"]
        lines = http.get(f"/api/outlast/v1/runs/{run}/logs").json()
        assert [line["message"] for line in lines["data"]] == ["inside"]

        metrics = http.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'outlast_queue_queued{environment="prod",queue="task/parent"} 0' in metrics.text.splitlines()
        assert "outlast_workers{" in metrics.text and "outlast_runs_executing{" in metrics.text
        assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 401

    def spans() -> list[dict[str, Any]]:
        return [json.loads(line) for line in traced.ledger.read_text().splitlines()]

    until(lambda: sum(span["name"] == "parent" for span in spans()) == 2, seconds=30, what="both attempts are exported")
    mine = {span["name"]: span for span in spans() if span["context"]["trace_id"] == f"0x{TRACE}"}
    assert {"parent", "render", "GET /pages", "child", "boom"} == set(mine)
    assert mine["parent"]["parent_id"] == f"0x{CALLER}" and mine["parent"]["attributes"]["outlast.run.id"] == run
    assert mine["child"]["parent_id"] == mine["parent"]["context"]["span_id"]
    other = next(span for span in spans() if span["attributes"].get("outlast.run.id") == strange)
    assert other["parent_id"] is None
