"""Environment variables: sealed at rest, secrets never shown, given to runs; rows 78 and 79 of the bad inputs."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any

import pytest

from outlast import env_vars
from outlast.client import connection
from outlast.client.address import Address as Target
from outlast.client.connection import Connection
from outlast.model.dotenv import parse_dotenv, unread_line
from outlast.server.rotation import rotate
from outlast.server.runtime import Options, Runtime
from outlast.server.vault import Vault, load_keys, save_keys
from outlast.store.database import DatabaseUnusable
from outlast.worker.environment import dotenv_of
from tests.server.conftest import Server
from tests.server.conftest import server as server

PATH = "/api/v1/projects/proj/envvars/prod"


async def test_a_variable_over_http_in_trigger_devs_shape(server: Server) -> None:
    assert (await server.ask("POST", PATH, json={"name": "A", "value": "1\n2"})).json() == {"success": True}
    assert (await server.ask("GET", PATH)).json() == [{"name": "A", "value": "1\n2", "isSecret": False}]
    assert (await server.ask("PUT", f"{PATH}/A", json={"value": "3"})).json() == {"success": True}
    assert (await server.ask("GET", f"{PATH}/A")).json()["value"] == "3"
    body = {"variables": {"A": "x", "B": "y"}, "override": False}
    assert (await server.ask("POST", f"{PATH}/import", json=body)).status_code == 200
    assert [(v["name"], v["value"]) for v in (await server.ask("GET", PATH)).json()] == [("A", "3"), ("B", "y")]
    assert (await server.ask("DELETE", f"{PATH}/A")).json() == {"success": True}
    assert (await server.ask("GET", f"{PATH}/A")).status_code == 404
    assert (await server.ask("GET", PATH, env="dev")).status_code == 404, "the path names another environment than the key"
    assert (await server.ask("GET", "/api/v1/projects/p/envvars/dev", env="dev")).json() == []


async def test_row79_a_secret_is_never_shown_and_stays_one(server: Server) -> None:
    await server.ask("POST", PATH, json={"name": "TOKEN", "value": "hunter2hunter2", "isSecret": True})
    await server.ask("POST", PATH, json={"name": "TOKEN", "value": "correct horse", "isSecret": False})
    seen = [await server.ask("GET", path) for path in (PATH, f"{PATH}/TOKEN")]
    assert all("<redacted>" in a.text and "horse" not in a.text for a in seen)
    assert seen[1].json()["isSecret"] is True


async def test_values_are_sealed_at_rest_and_bound_to_their_place(server: Server) -> None:
    await server.ask("POST", PATH, json={"name": "TOKEN", "value": "hunter2hunter2"})
    await server.ask("POST", PATH, json={"name": "OTHER", "value": "something"})
    engine = server.runtime.engine
    rows = await engine.read(lambda tx: tx.all("SELECT value FROM env_vars"))
    assert len(rows) == 2
    assert all("hunter2" not in row[0] and row[0].startswith("v1.") for row in rows)
    swap = "UPDATE env_vars SET value = (SELECT value FROM env_vars WHERE name = 'TOKEN') WHERE name = 'OTHER'"
    await engine.write(lambda tx: tx.execute(swap))
    assert (await server.ask("GET", f"{PATH}/OTHER")).status_code == 500, "a row that was exchanged does not open"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"name": "PATH", "value": "x"}, "cannot be set"),
        ({"name": "LD_PRELOAD", "value": "x"}, "cannot be set"),
        ({"name": "lower", "value": "x"}, "no name"),
        ({"name": "A" * 1_024, "value": "x"}, "no name"),
        ({"name": "1A", "value": "x"}, "no name"),
        ({"name": "A=B", "value": "x"}, "no name"),
        ({"name": "A", "value": "x" * (64 * 1024 + 1)}, "larger"),
        ({"name": "A", "value": "a\u0000b"}, "NUL"),
        ({"name": "A", "value": 5}, "text"),
        ({"name": "A"}, "text"),
    ],
)
async def test_row78_bad_names_and_values_are_refused(server: Server, body: dict[str, Any], says: str) -> None:
    answer = await server.ask("POST", PATH, json=body)
    assert answer.status_code == 422
    assert says in answer.text
    assert (await server.ask("GET", PATH)).json() == []


async def test_an_import_sets_all_or_none(server: Server) -> None:
    refused = await server.ask("POST", f"{PATH}/import", json={"variables": {"A": "1", "PATH": "2"}})
    assert refused.status_code == 422
    assert (await server.ask("GET", PATH)).json() == []


async def test_python_verbs(server: Server) -> None:
    mine = Connection(Target("http://test", server.keys["prod"]), transport=server.http._transport)
    connection.use(mine)
    try:
        await env_vars.create("A", "1")
        await env_vars.upload({"B": "2", "C": "3"}, is_secret=True)
        await env_vars.update("A", "4")
        assert (await env_vars.retrieve("A")).value == "4"
        assert [(v.name, v.is_secret) for v in await env_vars.list()] == [("A", False), ("B", True), ("C", True)]
        await env_vars.delete("A")
        assert len(await env_vars.list()) == 2
    finally:
        connection.stop_using(mine)
        await mine.close()


async def test_row83_the_key_is_made_for_its_owner_alone_and_another_one_does_not_start(tmp_path: Path) -> None:
    runtime = Runtime(Options(data=tmp_path))
    await runtime.start()
    found = Server(runtime)
    await found.ask("POST", PATH, json={"name": "A", "value": "1"})
    await found.http.aclose()
    await runtime.close()
    key = tmp_path / "secrets.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.unlink()
    with pytest.raises(DatabaseUnusable, match=r"sealed with the key .* copy the other server's secrets\.key"):
        Runtime(Options(data=tmp_path))
    key.chmod(0o644)
    with pytest.raises(DatabaseUnusable, match="chmod 600"):
        Runtime(Options(data=tmp_path))


@pytest.mark.parametrize("setting", ["short", "not base64 at all!", "A" * 64])
def test_a_key_of_another_size_is_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(DatabaseUnusable, match="openssl rand"):
        load_keys(tmp_path, setting)


def test_a_vault_opens_what_it_sealed_for_the_same_purpose_only() -> None:
    vault = Vault(bytes(32))
    sealed = vault.seal("a", "text ✓")
    assert vault.open("a", sealed) == "text ✓" and sealed != vault.seal("a", "text ✓")
    with pytest.raises(DatabaseUnusable):
        vault.open("b", sealed)
    with pytest.raises(DatabaseUnusable):
        Vault(b"1" * 32).open("a", sealed)


async def test_a_rotated_key_opens_everything_in_a_server_that_runs(server: Server, tmp_path: Path) -> None:
    """Also when the rotation was cut off in the middle, between the file and the database."""
    await server.ask("POST", PATH, json={"name": "TOKEN", "value": "hunter2hunter2", "isSecret": False})
    body = {"name": "c", "type": "email", "target": "ops@example.com", "events": ["run.failed"]}
    channel = (await server.ask("POST", "/api/outlast/v1/alerts", json=body)).json()
    runtime = server.runtime
    data, vault = runtime.options.data, runtime.context.vault
    [first] = load_keys(data, None)
    assert rotate(runtime.database, data, None) == 2
    second, kept = load_keys(data, None)
    assert kept == first != second
    assert (await server.ask("GET", f"{PATH}/TOKEN")).json()["value"] == "hunter2hunter2"
    [sealed] = (await runtime.engine.read(lambda tx: tx.all("SELECT secret FROM alert_channels")))[0]
    assert vault.open(f"alert_channel:{channel['id']}", sealed) == channel["secret"]
    save_keys(data, [bytes(32), second, first])  # cut off: the new key is in the file, and seals nothing yet
    assert (await server.ask("PUT", f"{PATH}/TOKEN", json={"value": "another"})).status_code == 200
    assert rotate(runtime.database, data, None) == 2
    assert load_keys(data, None)[1] == bytes(32)
    assert (await server.ask("GET", f"{PATH}/TOKEN")).json()["value"] == "another"
    with pytest.raises(DatabaseUnusable, match="sealed with the key"):
        Vault(first).open("x", sealed)


async def test_keys_of_a_setting_seal_with_the_first_and_open_with_all(server: Server) -> None:
    await server.ask("POST", PATH, json={"name": "TOKEN", "value": "text"})
    [old] = load_keys(server.runtime.options.data, None)
    setting = ",".join(base64.b64encode(key).decode() for key in (bytes(32), old))
    assert rotate(server.runtime.database, server.runtime.options.data, setting) == 1
    [[sealed]] = await server.runtime.engine.read(lambda tx: tx.all("SELECT value FROM env_vars"))
    assert Vault(bytes(32)).open("env_var:3:TOKEN", sealed) == "text"
    assert load_keys(server.runtime.options.data, None) == [old], "the file is left alone"


def test_env_files_as_people_write_them() -> None:
    text = '# c\nA=1\nexport B = two words # not this\nC=\'$x # y\'\nD="a\\nb\\"c"\nE=\nF=#c\nnonsense\nG="two\nlines"\r\nH=a=b#c\n'
    assert parse_dotenv(text) == {
        "A": "1", "B": "two words", "C": "$x # y", "D": 'a\nb"c', "E": "", "F": "", "G": "two\nlines", "H": "a=b#c",
    }  # fmt: skip
    assert unread_line(text) == 8


def test_in_development_the_later_file_wins(tmp_path: Path) -> None:
    for n, name in enumerate((".env", ".env.development", ".env.local", ".env.development.local", "dev.vars")):
        (tmp_path / name).write_text(f"ALL={name}\nN{n}={n}\n")
    found = dotenv_of(tmp_path)
    assert found["ALL"] == "dev.vars"
    assert [found[f"N{n}"] for n in range(5)] == ["0", "1", "2", "3", "4"]
    (tmp_path / "dev.vars").unlink()
    assert dotenv_of(tmp_path)["ALL"] == ".env.development.local"


async def test_every_limit_can_be_looked_up(server: Server) -> None:
    found = (await server.ask("GET", "/api/outlast/v1/limits")).json()
    assert found["environment"]["concurrency"] == 1_000
    assert (found["limits"]["max_tags"], found["limits"]["max_attempts"]) == (10, 250)
