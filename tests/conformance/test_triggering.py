"""`tasks` and `batch`, as the official client calls them."""

from __future__ import annotations

from tests.conformance.official import Official


def test_a_triggered_task_runs_and_its_output_comes_back(official: Official) -> None:
    run = official("return await runs.poll(await tasks.trigger('echo', {a: [1, 'x', null]}), {pollIntervalMs: 100})")
    assert run["status"] == "COMPLETED" and run["output"] == {"a": [1, "x", None]} and run["isSuccess"]
