"""Schedules, bulk actions, variables, alerts and pausing from the command line, against a real server and worker."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from outlast.cli import app
from outlast.client import connection
from tests.databases import Address
from tests.end_to_end.processes import Cluster

TASKS = """
import os
from outlast import Cron, ScheduledPayload, schedules, task

@task(id="greet")
async def greet(payload: str) -> str:
    print("token", os.environ.get("MAIL_TOKEN"))
    if payload == "bad":
        raise ValueError(f"no entry with {os.environ['MAIL_TOKEN']}")
    return f"{payload} {os.environ.get('PLAIN')}"

@schedules.task(id="nightly", cron=Cron("0 3 * * *", timezone="Europe/Paris"))
async def nightly(payload: ScheduledPayload) -> str:
    return payload.timestamp.isoformat()
"""
SECRET = "hunter2-hunter2"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("flow")
    project = folder / "project"
    (project / "tasks").mkdir(parents=True)
    (project / "tasks" / "__init__.py").touch()
    (project / "tasks" / "some.py").write_text(TASKS)
    (project / "outlast_config.py").write_text("from outlast.config import Config\n\nconfig = Config()\n")
    found = Cluster(folder, Address(f"sqlite:///{folder / 'data' / 'outlast.db'}"), project=project)
    try:
        _, port = found.server()
        found.worker(port, "--executors", "1")
        mine = found.client(port)
        connection.use(mine)
        until(lambda: json.loads(outlast("schedules", "list", "--json")))
        yield found
        connection.stop_using(mine)
        mine.close_sync()
    finally:
        found.stop()


@pytest.fixture(autouse=True)
def _there(cluster: Cluster) -> None:
    """Every test here speaks with it."""


def outlast(*arguments: str, status: int = 0) -> str:
    """What it says on stdout, or on stderr when it fails."""
    ran = CliRunner().invoke(app, list(arguments))
    assert ran.exit_code == status, ran.output
    return ran.stdout if status == 0 else ran.stderr


def asked(*arguments: str) -> Any:
    return json.loads(outlast(*arguments, "--json"))


def until(ready: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_a_schedule_lives_and_dies() -> None:
    made = asked("schedules", "create", "nightly", "0 9 * * MON", "--key", "k", "--timezone", "Asia/Tokyo", "--external-id", "user_7")
    id_ = made["id"]
    assert asked("schedules", "create", "nightly", "0 8 * * MON", "--key", "k", "--timezone", "Asia/Tokyo")["id"] == id_
    changed = asked("schedules", "update", id_, "--window", "30m", "--overlap", "skip", "--catch-up", "latest")
    assert (changed["cron"], changed["timezone"]) == ("0 8 * * MON", "Asia/Tokyo"), "what is not given stays as it is"
    assert (changed["window"], changed["overlap"], changed["catch_up"]) == ("30m", "skip", "latest")
    assert [datetime.fromisoformat(row["time"]).strftime("%a %H") for row in asked("schedules", "upcoming", id_, "--count", "2")] == [
        "Sun 23", "Sun 23",
    ]  # fmt: skip
    assert "vendor" in outlast("schedules", "deactivate", id_, "--reason", "vendor is down")
    assert asked("schedules", "show", id_)["next_run"] is None
    outlast("schedules", "activate", id_)
    assert {row["id"] for row in asked("schedules", "list")} > {id_}
    assert outlast("schedules", "delete", id_).strip() == id_
    assert "404" in outlast("schedules", "show", id_, status=1)


def test_a_backfill_makes_the_runs_of_past_times() -> None:
    id_ = asked("schedules", "create", "nightly", "0 0 * * *", "--key", "past")["id"]
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start, end = (today - timedelta(days=3)).isoformat(), today.isoformat()
    assert "4 times" in outlast("schedules", "backfill", id_, start, end)
    rows = until(lambda: (found := asked("schedules", "ticks", id_)) and len(found) == 4 and found)
    assert all(row["run_id"] for row in rows)
    until(lambda: asked("runs", "show", rows[0]["run_id"])["status"] == "COMPLETED")
    assert "ISO dates" in outlast("schedules", "backfill", id_, "yesterday", end, status=1)


def test_what_cannot_be_scheduled_is_one_clear_line() -> None:
    assert "five fields" in outlast("schedules", "create", "nightly", "* * *", "--key", "x", status=1)
    assert "not a scheduled task" in outlast("schedules", "create", "greet", "* * * * *", "--key", "x", status=1)
    assert "timezone" in outlast("schedules", "preview", "0 9 * * *", "--timezone", "Mars/Phobos", status=1)
    assert len(asked("schedules", "preview", "0 9 * * MON", "--count", "3")) == 3
    assert {"timezone": "Europe/Paris"} in asked("schedules", "timezones")


def test_bulk_actions_are_begun_watched_and_undone() -> None:
    for n in range(3):
        outlast("trigger", "greet", "--payload", f'"{n}"', "--tag", "bulk", "--wait")
    done = asked("bulk", "replay", "--tag", "bulk", "--status", "COMPLETED", "--task", "greet", "--name", "again", "--wait")
    assert (done["status"], done["total"], done["success"], done["failure"]) == ("COMPLETED", 3, 3, 0)
    assert asked("bulk", "show", done["id"])["name"] == "again"
    later = [asked("trigger", "greet", "--payload", '"x"', "--delay", "1h", "--tag", "later")["id"] for _ in range(2)]
    cancelled = asked("bulk", "cancel", *later, "--wait")
    assert (cancelled["success"], asked("runs", "show", later[0])["status"]) == (2, "CANCELED")
    undone = outlast("bulk", "undo", cancelled["id"], "--wait")
    assert "REPLAY" in undone and "COMPLETED" in undone
    assert [row["id"] for row in asked("bulk", "list", "--limit", "9")][-1] == done["id"]
    assert outlast("bulk", "abort", done["id"]).strip() == done["id"], "of one that is over nothing is left to do"
    assert "filter" in outlast("bulk", "cancel", status=1)
    assert "404" in outlast("bulk", "show", "bulk_x", status=1)


def test_variables_reach_runs_and_secrets_stay_out_of_what_they_say(cluster: Cluster, tmp_path: Path) -> None:
    outlast("env", "set", "MAIL_TOKEN", SECRET, "--secret")
    outlast("env", "set", "PLAIN", "one")
    until(lambda: outlast("trigger", "greet", "--payload", '"a"', "--wait") == '"a one"\n')
    outlast("env", "set", "PLAIN", "two")
    until(lambda: outlast("trigger", "greet", "--payload", '"a"', "--wait") == '"a two"\n')
    failed = asked("trigger", "greet", "--payload", '"bad"')["id"]
    run = until(lambda: (found := asked("runs", "show", failed))["status"] == "FAILED" and found)
    said = outlast("runs", "logs", failed) + json.dumps(run)
    assert SECRET not in said and "token <redacted>" in said and "no entry with <redacted>" in said, "row 79"
    (tmp_path / "some.env").write_text('A=1\nB="two words"\n')
    assert "2 variables" in outlast("env", "import", str(tmp_path / "some.env"))
    assert {row["name"] for row in asked("env", "list", "--show-values")} == {"A", "B", "MAIL_TOKEN", "PLAIN"}
    assert outlast("env", "get", "B", "--raw") == "two words\n"
    outlast("env", "pull", str(tmp_path / "pulled.env"))
    assert (tmp_path / "pulled.env").read_text() == 'A="1"\nB="two words"\nPLAIN="two"\n'
    assert "--force" in outlast("env", "pull", str(tmp_path / "pulled.env"), status=1)
    at = ["--data", str(cluster.folder / "data"), "--database", cluster.database.url]
    assert "sealed 4 values" in outlast("db", "rotate-key", *at)
    assert outlast("env", "get", "B", "--raw") == "two words\n", "the server that runs has the new key"
    outlast("env", "unset", "A")
    assert "404" in outlast("env", "get", "A", status=1)
    assert "cannot be set" in outlast("env", "set", "PATH", "x", status=1)


def test_triggers_are_debounced_and_delays_moved() -> None:
    pushed = [
        asked("trigger", "greet", "--payload", f'"{n}"', "--debounce-key", "k", "--debounce-delay", "1h", "--debounce-mode", "trailing")[
            "id"
        ]
        for n in range(2)
    ]
    assert len(set(pushed)) == 1
    outlast("runs", "reschedule", pushed[0], "1s")
    run = until(lambda: (found := asked("runs", "show", pushed[0]))["status"] == "COMPLETED" and found)
    assert run["output"].startswith("1 ")
    assert "422" in outlast("runs", "reschedule", pushed[0], "1s", status=1)


def test_a_paused_environment_starts_nothing() -> None:
    outlast("env", "pause")
    waiting = asked("trigger", "greet", "--payload", '"p"')["id"]
    assert asked("queues", "list")[0]["queued"] == 1
    assert asked("runs", "show", waiting)["status"] == "QUEUED"
    outlast("env", "resume")
    until(lambda: asked("runs", "show", waiting)["status"] == "COMPLETED")


def test_alert_channels_are_made_changed_and_removed() -> None:
    made = asked("alerts", "create", "ops", "me@example.com", "--type", "email", "--event", "run.failed", "--event", "deployment.success")
    assert made["secret"].startswith("whsec_")
    changed = asked("alerts", "update", made["id"], "--no-enabled", "--task", "greet")
    assert changed == {name: value for name, value in {**made, "enabled": False, "tasks": ["greet"]}.items() if name != "secret"}
    assert asked("alerts", "show", made["id"]) == changed
    assert [row["id"] for row in asked("alerts", "list")] == [made["id"]]
    assert asked("alerts", "deliveries", made["id"]) == []
    assert "mail address" in outlast("alerts", "update", made["id"], "--target", "x", status=1)
    assert outlast("alerts", "delete", made["id"]).strip() == made["id"]
    assert "private network" in outlast("alerts", "create", "bad", "http://10.0.0.1/", status=1)


def test_the_program_itself_says_the_same(cluster: Cluster) -> None:
    """As a process of its own, as people start it."""
    url = connection.current().address.url
    ran = subprocess.run(
        [str(Path(sys.executable).parent / "outlast"), "schedules", "list"], capture_output=True, text=True, timeout=60, check=True,
        env={"OUTLAST_API_URL": url, "OUTLAST_SECRET_KEY": cluster.key, "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert "nightly" in ran.stdout and "Europe/Paris" in ran.stdout
