"""Finding a project's tasks: what is imported, what is left out, what is said of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from outlast.model.retry import Retry
from outlast.worker.discover import discover
from tests.worker.house import write_project


@pytest.fixture(autouse=True)
def _own_modules() -> Iterator[None]:
    """Every test imports its project anew, as a new process would."""
    path, known = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in ("tasks", "app", "jobs"):
            del sys.modules[name]


def _task(id: str, extra: str = "") -> str:
    return f"from outlast import task\n{extra}\n@task(id={id!r})\nasync def fn(payload: int) -> int:\n    return payload\n"


def test_every_module_of_the_folders_is_imported_and_tests_are_not(tmp_path: Path) -> None:
    write_project(tmp_path, a=_task("a"), b=_task("b"), test_c="raise RuntimeError", d_test="raise RuntimeError", conftest="1/0")
    (tmp_path / "tasks" / "deep").mkdir()
    (tmp_path / "tasks" / "deep" / "__init__.py").touch()
    (tmp_path / "tasks" / "deep" / "e.py").write_text(_task("e"))
    found = discover(tmp_path)
    assert {t.id: t.file for t in found.manifest.tasks} == {"a": "tasks/a.py", "b": "tasks/b.py", "e": "tasks/deep/e.py"}
    assert found.failures == []


@pytest.mark.parametrize("text", ["def broken(:", "import does_not_exist", "1 / 0", "raise SystemExit(1)"])
def test_a_module_that_fails_is_shown_and_the_others_work(tmp_path: Path, text: str) -> None:
    write_project(tmp_path, good=_task("good"), bad=text)
    found = discover(tmp_path)
    assert [t.id for t in found.manifest.tasks] == ["good"]
    [failure] = found.failures
    assert failure.module == "tasks.bad" and failure.file.endswith("tasks/bad.py") and "Traceback" in failure.traceback


def test_two_tasks_with_one_id_name_both_files(tmp_path: Path) -> None:
    write_project(tmp_path, one=_task("same"), two=_task("same"))
    texts = " ".join(f.traceback for f in discover(tmp_path).failures)
    assert "one.py" in texts and "two.py" in texts and "'same'" in texts


def test_the_config_sets_what_tasks_leave_open(tmp_path: Path) -> None:
    config = """
        from outlast.config import Config, Retry
        config = Config(dirs=["jobs"], retries=Retry(max_attempts=7), ttl="10m", max_duration=60)
    """
    write_project(tmp_path, config=config)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "a.py").write_text(_task("a"))
    found = discover(tmp_path)
    [task] = found.manifest.tasks
    assert (task.retry, task.ttl_ms, found.config.max_duration) == (Retry(max_attempts=7), 600_000, 60)


def test_a_config_without_config_or_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    write_project(tmp_path, config="x = 1")
    assert "defines no `config" in discover(tmp_path).failures[0].traceback
    write_project(tmp_path, config="from outlast.config import Config\nconfig = Config(dirs=['nowhere'])")
    [failure] = discover(tmp_path).failures
    assert "'nowhere'" in failure.traceback and "does not exist" in failure.traceback


def test_modules_named_one_by_one_count_for_the_hash_of_the_code(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(_task("a"))
    first = discover(tmp_path, ["app"])
    assert [t.id for t in first.manifest.tasks] == ["a"]
    del sys.modules["app"]
    (tmp_path / "app.py").write_text(_task("a", "# changed"))
    assert discover(tmp_path, ["app"]).manifest.content_hash != first.manifest.content_hash


def test_queues_are_found_with_their_limits(tmp_path: Path) -> None:
    write_project(tmp_path, shared="from outlast import queue\nemails = queue('emails', concurrency_limit=3)\n")
    assert [(q.name, q.concurrency_limit) for q in discover(tmp_path).manifest.queues] == [("emails", 3)]
