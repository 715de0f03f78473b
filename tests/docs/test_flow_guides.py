"""The code of the pages on schedules and flow control runs as it stands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outlast import Outlast, alerts, batch, bulk, env_vars, queues, runs, schedules, tasks

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (GUIDES / page).read_text(), re.DOTALL)


@pytest.fixture(autouse=True)
def _no_tasks() -> Iterator[None]:
    tasks.clear()
    queues.registry.clear()
    yield
    tasks.clear()
    queues.registry.clear()


async def run_page(page: str, tmp_path: Path) -> dict[str, Any]:
    """The first block defines tasks; the others run while they are there."""
    nouns = (alerts, batch, bulk, env_vars, queues, runs, schedules)
    names: dict[str, Any] = {"__name__": page, **{noun.__name__.rpartition(".")[2]: noun for noun in nouns}}
    first, *others = blocks(page)
    exec(compile(first, page, "exec"), names)
    async with Outlast(data=tmp_path):
        for block in others:
            code = compile(block, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if (waiting := eval(code, names)) is not None:
                await waiting
    return names


async def test_the_page_on_schedules(tmp_path: Path) -> None:
    names = await run_page("schedules.md", tmp_path)
    assert len(names["times"]) == 3
    assert all(at.strftime("%a %H:%M") == "Mon 00:00" for at in names["times"]), "nine in Tokyo is midnight in UTC"


async def test_the_page_on_flow_control(tmp_path: Path) -> None:
    names = await run_page("flow-control.md", tmp_path)
    assert names["done"].counts.success == 1


async def test_the_page_on_workers_measures_what_a_run_uses(tmp_path: Path) -> None:
    [block] = [block for block in blocks("workers.md") if "usage.measure" in block]
    names: dict[str, Any] = {"__name__": "workers.md"}
    exec(compile(block, "workers.md", "exec"), names)
    async with Outlast(data=tmp_path):
        assert await names["summarise"].trigger_and_wait([3, 1, 2]).unwrap() >= 0
