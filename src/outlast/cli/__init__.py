"""The command line. Each command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from outlast.cli import access, alerts, bulk, env, queues, schedules
from outlast.cli.options import Data, Database, Json, settings_of
from outlast.cli.output import details, fail, plainly, shown, table

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Durable background tasks for Python.")
runs_app = typer.Typer(no_args_is_help=True, help="Look at runs, and act on them.")
db_app = typer.Typer(no_args_is_help=True, help="The database.")
for name, sub in (
    ("runs", runs_app),
    ("queues", queues.app),
    ("schedules", schedules.app),
    ("bulk", bulk.app),
    ("env", env.app),
    ("alerts", alerts.app),
    ("keys", access.app),
    ("db", db_app),
):
    app.add_typer(sub, name=name)
app.command("link")(access.link)

Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
LogFormat = Annotated[str | None, typer.Option(help="text or json.")]


def main() -> None:
    """Exit codes: 0 done, 1 failed, 2 usage."""
    app()


@app.command()
@plainly
def init(folder: Annotated[Path, typer.Argument()] = Path(), override: bool = False) -> None:
    """Write a project: configuration, a package of tasks, an example."""
    from outlast.cli.project import write

    for path in write(folder, override=override):
        print(f"wrote {path}")
    print("next: outlast dev")


@app.command()
@plainly
def dev(
    project: Annotated[Path, typer.Argument()] = Path(),
    port: Port = None,
    host: Host = None,
    data: Data = None,
    database: Database = None,
    log_format: LogFormat = None,
    replay_every_wait: Annotated[bool, typer.Option(help="Replay runs at every wait, so that what differs shows at once.")] = False,
) -> None:
    """Server and worker in one command, on SQLite, with reload on every save."""
    from outlast.cli import serving
    from outlast.cli.dev import run_dev
    from outlast.worker.log import configure
    from outlast.worker.supervisor import WorkerRefused

    if not project.is_dir():
        fail(f"{project} is not a folder")
    settings = settings_of(port=port, host=host, data=data or str(project / ".outlast"), database=database, log_format=log_format)
    configure(settings.log_format)
    try:
        serving.run(lambda: run_dev(settings, project.resolve(), replay_every_wait=replay_every_wait))
    except WorkerRefused as refused:
        fail(str(refused))


@app.command()
@plainly
def server(
    port: Port = None,
    host: Host = None,
    data: Data = None,
    database: Database = None,
    schema: Annotated[str | None, typer.Option(help="Schema on PostgreSQL.")] = None,
    log_format: LogFormat = None,
) -> None:
    """Serve the API and the workers' channel."""
    from outlast.cli import serving
    from outlast.worker.log import configure

    settings = settings_of(port=port, host=host, data=data, database=database, schema=schema, log_format=log_format)
    configure(settings.log_format)
    serving.run(lambda: serving.run_server(settings))


@app.command()
@plainly
def worker(
    project: Annotated[Path, typer.Argument()] = Path(),
    api_url: Annotated[str | None, typer.Option(help="The server (OUTLAST_API_URL).")] = None,
    executors: Annotated[int | None, typer.Option(help="Executor processes for each kind of task.")] = None,
    async_slots: Annotated[int | None, typer.Option(help="Async runs per executor.")] = None,
    thread_slots: Annotated[int | None, typer.Option(help="Threads per executor.")] = None,
    process_slots: Annotated[int | None, typer.Option(help="Runs with a process of their own.")] = None,
    cold_after: Annotated[float | None, typer.Option(help="Seconds a waiting run's coroutine is kept; 0: for ever.")] = None,
    hot_waits: Annotated[int | None, typer.Option(help="Waiting runs whose coroutines an executor keeps.")] = None,
    memory_mb: Annotated[int | None, typer.Option(help="Replace an executor of waiting runs that has more memory.")] = None,
    promote: Annotated[bool, typer.Option(help="Make this version the current one.")] = True,
    log_format: LogFormat = None,
) -> None:
    """Run a project's tasks. The key comes from OUTLAST_SECRET_KEY."""
    from outlast.cli.working import run_worker

    settings = settings_of(
        executors=executors, async_slots=async_slots, thread_slots=thread_slots, process_slots=process_slots,
        cold_after=cold_after, hot_waits=hot_waits, memory_mb=memory_mb, log_format=log_format,
    )  # fmt: skip
    run_worker(settings, project, api_url, promote=promote)


@app.command()
@plainly
def demo(
    path: Annotated[Path | None, typer.Option(help="A folder of text files to index instead of our own.")] = None,
    exit: Annotated[bool, typer.Option("--exit", help="End when all runs have ended: status 0 if all went well.")] = False,
    port: Port = None,
    data: Data = None,
) -> None:
    """A server, a worker and real runs to look at."""
    from outlast.cli import serving
    from outlast.cli.demo import run_demo
    from outlast.worker.log import configure

    settings = settings_of(port=port, data=data or ".outlast/demo")
    configure("text")
    outcome: list[int] = []

    async def body() -> None:
        outcome.append(await run_demo(settings, path, end=exit))

    serving.run(body)
    raise typer.Exit(outcome[0])


@app.command()
@plainly
def trigger(
    task: str,
    payload: Annotated[str | None, typer.Option(help="The payload as JSON; - reads it from standard input.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the end and print the output.")] = False,
    queue: str | None = None,
    delay: str | None = None,
    ttl: str | None = None,
    idempotency_key: str | None = None,
    concurrency_key: str | None = None,
    tag: list[str] | None = None,
    priority: Annotated[float | None, typer.Option(help="Seconds of head start in its queue.")] = None,
    max_attempts: int | None = None,
    debounce_key: Annotated[str | None, typer.Option(help="Triggers with one key become one run.")] = None,
    debounce_delay: Annotated[str, typer.Option(help="How long after the last of them.")] = "5s",
    debounce_mode: Annotated[str, typer.Option(help="leading or trailing: whose payload it has.")] = "leading",
    debounce_max_delay: Annotated[str | None, typer.Option(help="How long the first may be pushed.")] = None,
    as_json: Json = False,
) -> None:
    """Make a run of a task."""
    from outlast import Debounce
    from outlast.sync import runs, tasks

    text = sys.stdin.read() if payload == "-" else payload
    try:
        value = json.loads(text) if text is not None else None
    except ValueError as error:
        fail(f"--payload is not JSON: {error}")
    given = {
        "queue": queue,
        "delay": delay,
        "ttl": ttl,
        "idempotency_key": idempotency_key,
        "concurrency_key": concurrency_key,
        "tags": tag,
        "priority": priority,
        "max_attempts": max_attempts,
    }
    options: Any = {name: v for name, v in given.items() if v}
    if debounce_key is not None:
        mode: Any = debounce_mode
        options["debounce"] = Debounce(debounce_key, debounce_delay, mode, debounce_max_delay)
    handle = tasks.trigger(task, value, **options)
    if not wait:
        details({"id": handle.id, "is_cached": handle.is_cached}, as_json=as_json)
        return
    run = runs.poll(handle.id)
    if run.is_success:
        print(json.dumps(run.output, ensure_ascii=False, default=str))
        return
    fail(f"{run.id} ended as {run.status}: {run.error.message if run.error else ''}")


@runs_app.command("list")
@plainly
def runs_list(
    status: str | None = None,
    task: str | None = None,
    tag: str | None = None,
    queue: str | None = None,
    limit: int = 25,
    as_json: Json = False,
) -> None:
    """Runs, newest first."""
    from itertools import islice

    from outlast.sync import runs

    found = runs.list(status=status, task=task, tag=tag, queue=queue, page_size=min(max(1, limit), 100))
    rows = [_row(run) for run in islice(found, limit)]
    table(rows, ("id", "status", "task", "version", "created_at", "duration_ms", "tags"), as_json=as_json)


def _row(run: Any) -> dict[str, Any]:
    return {
        "id": run.id,
        "status": run.status,
        "task": run.task_identifier,
        "version": run.version,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "duration_ms": run.duration_ms,
        "attempts": run.attempt_count,
        "tags": run.tags,
    }


@runs_app.command("show")
@plainly
def runs_show(run: str, as_json: Json = False) -> None:
    """One run: status, payload, output, error."""
    from outlast.sync import runs

    found = runs.retrieve(run)
    error = {"name": found.error.name, "message": found.error.message, "stack": found.error.stack} if found.error else None
    details({**_row(found), "payload": found.payload, "output": found.output, "metadata": found.metadata, "error": error}, as_json=as_json)


@runs_app.command("logs")
@plainly
def runs_logs(run: str, as_json: Json = False) -> None:
    """What a run said."""
    from datetime import UTC, datetime

    import msgspec

    from outlast.sync import runs

    lines = list(runs.logs(run))
    if as_json:
        table([msgspec.structs.asdict(line) for line in lines], (), as_json=True)
        return
    for line in lines:
        at = datetime.fromtimestamp(line.at / 1_000, UTC).strftime("%H:%M:%S.%f")[:-3]
        data = f" {json.dumps(line.data, ensure_ascii=False)}" if line.data else ""
        print(f"{at} #{line.attempt} {line.level:5} {line.source:7} {shown(line.message + data)}")


@runs_app.command("cancel")
@plainly
def runs_cancel(run: str) -> None:
    """Stop a run and its children."""
    from outlast.sync import runs

    print(runs.cancel(run))


@runs_app.command("reschedule")
@plainly
def runs_reschedule(run: str, delay: Annotated[str, typer.Argument(help="1h, 30m …, from now.")]) -> None:
    """Move the time of a run that is delayed."""
    from outlast.sync import runs

    details(_row(runs.reschedule(run, delay=delay)), as_json=False)


@runs_app.command("replay")
@plainly
def runs_replay(run: str, payload: str | None = None) -> None:
    """A new run with the same payload, on the current version."""
    from outlast.sync import runs

    handle = runs.replay(run) if payload is None else runs.replay(run, json.loads(payload))
    print(handle.id)


@db_app.command("migrate")
@plainly
def db_migrate(data: Data = None, database: Database = None) -> None:
    """Bring the tables up to date; servers do this by themselves at their start."""
    from outlast.cli.administration import migrate_database

    applied = migrate_database(settings_of(data=data, database=database))
    print("\n".join(f"applied {name}" for name in applied) or "the database is up to date")


@db_app.command("rotate-key")
@plainly
def db_rotate_key(
    data: Data = None, database: Database = None, schema: Annotated[str | None, typer.Option(help="Schema on PostgreSQL.")] = None
) -> None:
    """Seal variables and secrets with a new key; servers may be running. With OUTLAST_SECRETS_KEY=new,old: with the first of them."""
    from outlast.cli.administration import rotate_key

    print(f"sealed {rotate_key(settings_of(data=data, database=database, schema=schema))} values with a new key")


@db_app.command("backup")
@plainly
def db_backup(file: Path, data: Data = None, database: Database = None) -> None:
    """Copy a SQLite database that is in use to FILE, and check the copy."""
    from outlast.cli.administration import backup_database

    source, size = backup_database(settings_of(data=data, database=database), file)
    print(f"copied {source} to {file} ({size} bytes)")


@db_app.command("check")
@plainly
def db_check(
    data: Data = None, database: Database = None, schema: Annotated[str | None, typer.Option(help="Schema on PostgreSQL.")] = None
) -> None:
    """Look for rows that may not exist; exit status 1 if there are any."""
    from outlast.cli.administration import check_database

    found = check_database(settings_of(data=data, database=database, schema=schema))
    for line in found:
        print(shown(line))
    if found:
        fail(f"{len(found)} rows break a rule: please report them")
    print("every rule holds")


@app.command("settings")
@plainly
def show_settings(as_json: Json = False, limits: Annotated[bool, typer.Option(help="The limits that are no settings.")] = False) -> None:
    """Every setting, its value and where that came from."""
    if limits:
        from outlast.model.limits import all_limits

        table([{"name": name, "value": value} for name, value in all_limits().items()], ("name", "value"), as_json=as_json)
        return
    rows = [
        {"name": v.setting.name, "value": v.value, "origin": v.origin, "variable": v.setting.variable, "meaning": v.setting.meaning}
        for v in settings_of().values.values()
    ]
    table(rows, ("name", "value", "origin", "variable", "meaning"), as_json=as_json)
