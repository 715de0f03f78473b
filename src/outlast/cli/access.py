"""`outlast keys` and `outlast link`: who may reach a server."""

from __future__ import annotations

from typing import Annotated

import typer

from outlast.cli.options import Data, Database, Json, settings_of
from outlast.cli.output import fail, plainly, table

app = typer.Typer(no_args_is_help=True, help="API keys of a server's database.")


@app.command("create")
@plainly
def create(
    env: str = "prod",
    name: str = "default",
    role: Annotated[str, typer.Option(help="operator (all), viewer (reads), trigger, runs, worker or variables.")] = "operator",
    data: Data = None,
    database: Database = None,
) -> None:
    """Make an API key of an environment; it is shown this once."""
    from outlast.cli.administration import create_key

    print(create_key(settings_of(data=data, database=database), env, name, role))


@app.command("list")
@plainly
def listing(data: Data = None, database: Database = None, as_json: Json = False) -> None:
    """The keys that exist, without their secrets."""
    from outlast.cli.administration import list_keys

    table(
        list_keys(settings_of(data=data, database=database)),
        ("id", "env", "name", "role", "ends_with", "created_at", "revoked_at"),
        as_json=as_json,
    )


@app.command("revoke")
@plainly
def revoke(key_id: str, data: Data = None, database: Database = None) -> None:
    """Refuse a key from now on; servers notice within half a minute."""
    from outlast.cli.administration import revoke_key

    if not revoke_key(settings_of(data=data, database=database), key_id):
        fail(f"there is no key {key_id} that could be revoked")
    print(f"revoked {key_id}")


@app.command("revoke-tokens")
@plainly
def revoke_tokens(
    env: Annotated[str, typer.Option(help="dev, staging, prod or preview.")], data: Data = None, database: Database = None
) -> None:
    """Refuse every public token made for an environment until now; servers notice within half a minute. Keys stay."""
    from outlast.cli.administration import revoke_tokens as revoke_all

    revoke_all(settings_of(data=data, database=database), env)
    print(f"public tokens of {env} made until now are refused")


@plainly
def link(data: Data = None, database: Database = None) -> None:
    """Print a link that signs you in to the dashboard: once, within 15 minutes."""
    from outlast.cli.administration import create_link

    settings = settings_of(data=data, database=database)
    print(create_link(settings))
