"""Commands of environment variables, and of the environment itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from outlast.cli.options import Json
from outlast.cli.output import details, fail, plainly, table

app = typer.Typer(no_args_is_help=True, help="Variables that runs find in their environment; pause and resume it.")
Secret = Annotated[bool, typer.Option(help="Never show the values again.")]


@app.command("list")
@plainly
def env_list(show_values: Annotated[bool, typer.Option(help="Show values that are no secrets.")] = False, as_json: Json = False) -> None:
    """All variables of the environment."""
    from outlast.sync import env_vars

    rows: list[dict[str, Any]] = [
        {"name": v.name, "value": v.value if show_values and not v.is_secret else "", "secret": v.is_secret} for v in env_vars.list()
    ]
    table(rows, ("name", "value", "secret"), as_json=as_json)


@app.command("get")
@plainly
def env_get(name: str, raw: Annotated[bool, typer.Option(help="The value alone.")] = False) -> None:
    """One variable."""
    from outlast.sync import env_vars

    found = env_vars.retrieve(name)
    if raw:
        print(found.value)
    else:
        details({"name": found.name, "value": found.value, "secret": found.is_secret}, as_json=False)


@app.command("set")
@plainly
def env_set(
    name: str, value: Annotated[str, typer.Argument(help="The value; - reads it from standard input.")], secret: Secret = False
) -> None:
    """Set a variable."""
    from outlast.sync import env_vars

    env_vars.create(name, sys.stdin.read().rstrip("\n") if value == "-" else value, is_secret=secret)
    print(f"set {name}")


@app.command("unset")
@plainly
def env_unset(name: str) -> None:
    """Remove a variable."""
    from outlast.sync import env_vars

    env_vars.delete(name)
    print(f"removed {name}")


@app.command("import")
@plainly
def env_import(
    file: Path,
    secret: Secret = False,
    override: Annotated[bool, typer.Option(help="Replace those that are there.")] = True,
) -> None:
    """Set all variables of a .env file, or none."""
    from outlast.model.dotenv import parse_dotenv
    from outlast.sync import env_vars

    try:
        variables = parse_dotenv(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot read {file}: {error}")
    env_vars.upload(variables, override=override, is_secret=secret)
    print(f"{len(variables)} variables")


@app.command("pull")
@plainly
def env_pull(file: Path, force: bool = False) -> None:
    """Write the variables that are no secrets to a .env file."""
    import os

    from outlast.sync import env_vars

    if file.exists() and not force:
        fail(f"{file} exists: --force overwrites it")
    text = "".join(f'{v.name}="{_escaped(v.value)}"\n' for v in env_vars.list() if not v.is_secret)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    print(f"wrote {file}")


@app.command("pause")
@plainly
def env_pause() -> None:
    """Start nothing new in the whole environment; what executes goes on."""
    from outlast.sync import queues

    queues.pause_environment()
    print("paused: nothing new starts in this environment")


@app.command("resume")
@plainly
def env_resume() -> None:
    """Start runs of a paused environment again."""
    from outlast.sync import queues

    queues.resume_environment()
    print("resumed")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
