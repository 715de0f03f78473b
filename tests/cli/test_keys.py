"""`outlast keys` on a database that a server uses, and what a server's settings say of rates."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from outlast.cli import app, serving
from outlast.server.rates import Rate
from outlast.server.runtime import Runtime
from outlast.settings import Settings


def keys(data: Path, *arguments: str, code: int = 0) -> str:
    ran = CliRunner().invoke(app, ["keys", *arguments, "--data", str(data)])
    assert ran.exit_code == code, ran.output
    return ran.output.strip()


async def test_all_public_tokens_of_an_environment_are_refused_by_one_command(tmp_path: Path) -> None:
    runtime = Runtime(serving.options(Settings({"data": str(tmp_path)}, {})))
    await runtime.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=runtime.app), base_url="http://test") as http:

            async def asked(bearer: str) -> int:
                runtime.context.auth.forget()  # a server looks again after half a minute
                return (await http.get("/api/v1/runs", headers={"authorization": f"Bearer {bearer}"})).status_code

            tokens: dict[str, str] = {}
            for env in ("prod", "staging"):
                key = keys(tmp_path, "create", "--env", env)
                body = {"scopes": ["read:runs"]}
                made = await http.post("/api/v1/auth/public-tokens", json=body, headers={"authorization": f"Bearer {key}"})
                assert made.headers["x-ratelimit-limit"] == "750"
                tokens[env], tokens[f"{env} key"] = made.json()["token"], key
            assert "refused" in keys(tmp_path, "revoke-tokens", "--env", "prod")
            assert {name: await asked(bearer) for name, bearer in tokens.items()} == {
                "prod": 401, "prod key": 200, "staging": 200, "staging key": 200,
            }  # fmt: skip
    finally:
        await runtime.close()
    assert "no environment 'moon'" in keys(tmp_path, "revoke-tokens", "--env", "moon", code=1)


@pytest.mark.parametrize(
    ("is_dev", "given", "of_keys", "of_batches"),
    [
        (False, {}, Rate(750, 250, 10), Rate(1_200, 100, 10)),
        (True, {}, None, None),
        (True, {"OUTLAST_KEY_RATE": "60/1m", "OUTLAST_BATCH_RATE": "5/1s"}, Rate(60, 60, 60), Rate(5, 5, 1)),
        (False, {"OUTLAST_KEY_RATE": "off", "OUTLAST_BATCH_RATE": "off"}, None, None),
    ],
)
def test_calls_are_limited_on_a_server_and_not_on_a_developers_machine(
    is_dev: bool, given: dict[str, str], of_keys: Rate | None, of_batches: Rate | None
) -> None:
    found = serving.options(Settings({}, given), open_dashboard=is_dev)
    assert (found.key_rate, found.batch_rate) == (of_keys, of_batches)
