"""Large values: upload, trigger, download; and what people try with addresses. Rows are of the security page."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx
import pytest

from outlast.server import packets
from outlast.server.payload_store import Bucket, Folder, StoreFailed
from outlast.store import packets as uploads
from outlast.store import runs
from tests.server.conftest import Server, on_sqlite

SUPER = "application/super+json"


async def prepared(server: Server, name: str = "trigger%2Fpacket_x%2Fpayload.json") -> tuple[str, str]:
    found = (await server.ask("PUT", f"/api/v2/packets/{name}")).json()
    return found["presignedUrl"], found["storagePath"]


async def put(server: Server, url: str, data: bytes, kind: str = SUPER) -> httpx.Response:
    return await server.ask("PUT", url, env=None, content=data, headers={"content-type": kind})


async def stored(server: Server) -> int:
    return (await server.runtime.engine.read(lambda tx: tx.all("SELECT count(*) FROM packets")))[0][0]


async def test_an_upload_is_what_a_run_is_triggered_with_to_the_letter(server: Server) -> None:
    text = '{"json":{"at":"2026-01-01T00:00:00.000Z","big":"' + "x" * 200_000 + '"},"meta":{"values":{"at":["Date"]}}}'
    url, path = await prepared(server)
    assert (await put(server, url, text.encode())).status_code == 200
    made = await server.trigger(payload=path, payloadType="application/store")
    run_id = made.json()["id"]
    data = (await server.runtime.engine.read(lambda tx: runs.data(tx, [run_id])))[run_id]
    assert (data.payload, data.payload_type) == (text, SUPER)

    run = (await server.ask("GET", f"/api/v3/runs/{run_id}")).json()
    assert "payload" not in run  # too large to be sent with every look
    for address in (
        run["payloadPresignedUrl"],
        (await server.ask("GET", f"/api/v1/runs/{run_id}/packets/payload")).json()["presignedUrl"],
        (await server.ask("GET", f"/api/v1/packets/runs%2F{run_id}%2Fpayload")).json()["presignedUrl"],
        (await server.ask("GET", f"/api/v1/packets/{path}")).json()["presignedUrl"],
    ):
        got = await server.ask("GET", address, env=None)
        assert (got.text, got.headers["content-type"]) == (text, SUPER)
        assert got.headers["x-content-type-options"] == "nosniff" and "attachment" in got.headers["content-disposition"]  # row 74


@on_sqlite
async def test_small_values_travel_inside(server: Server) -> None:
    run_id = (await server.trigger(payload={"a": 1})).json()["id"]
    assert (await server.ask("GET", f"/api/v3/runs/{run_id}")).json()["payload"] == {"a": 1}
    assert (await server.ask("GET", f"/api/v1/runs/{run_id}/packets/output")).status_code == 404
    assert (await server.ask("GET", f"/api/v1/runs/{run_id}/packets/error")).status_code == 404


@on_sqlite
async def test_row_75_an_address_is_for_one_upload_of_one_kind_and_soon_over(server: Server) -> None:
    url, path = await prepared(server)
    for data, kind, status in (
        (b"x" * (3 * 1024 * 1024 + 1), "text/plain", 413),
        (b"<html>", "text/html", 415),
        (b"{", "application/json", 400),
        (b"[1]", SUPER, 400),
        (b"\xff", "text/plain", 400),
        (b"[" * 200 + b"]" * 200, "application/json", 400),
    ):
        assert (await put(server, url, data, kind)).status_code == status, (data[:10], kind)
    assert await stored(server) == 0
    assert (await server.trigger(payload=path, payloadType="application/store")).status_code == 422
    assert [(await put(server, url, b"[1]", "application/json")).status_code for _ in range(2)] == [200, 200]  # a client's retry
    again = await put(server, url, b"[2]", "application/json")
    assert (again.status_code, again.headers["x-should-retry"]) == (409, "false")
    assert (await server.ask("GET", url, env=None)).status_code == 403  # it was for PUT
    for wrong in (
        url.replace("sig=", "sig=0"),
        url.replace("exp=", "exp=9"),
        url.replace("env=3", "env=1"),
        url.replace(path, "packet_" + "0" * 26),
    ):
        assert (await put(server, wrong, b"[1]", "application/json")).status_code == 403


@on_sqlite
async def test_row_75_an_address_that_is_over_is_refused(server: Server) -> None:
    env = (await server.ask("GET", "/api/v1/whoami")).json()["environment"]["id"]
    for query in (
        {"env": env, "exp": "1", "sig": "0" * 64},
        {"env": "x", "exp": "", "sig": ""},
        {"env": "9" * 30, "exp": "1", "sig": "é"},
        {},
    ):
        answer = await put(server, f"/api/outlast/v1/packets/packet_{'0' * 26}?{urlencode(query)}", b"[1]", "application/json")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "invalid_signature")


@on_sqlite
async def test_row_5_uploads_of_another_environment_do_not_exist(server: Server) -> None:
    url, path = await prepared(server)
    await put(server, url, b"[1]", "application/json")
    assert (await server.trigger(payload=path, payloadType="application/store", env="dev")).status_code == 422
    assert (await server.ask("GET", f"/api/v1/packets/{path}", env="dev")).status_code == 404


@on_sqlite
async def test_row_73_paths_of_clients_lead_nowhere(server: Server) -> None:
    for path in ("../../etc/passwd", "packet_/../x", "\\\\unc\\share", "packet_\x00", "runs/x/../payload", "a" * 9_000):
        assert (await server.ask("GET", f"/api/v1/packets/{quote(path, safe='')}")).status_code == 404, path
        assert (await server.trigger(payload=path, payloadType="application/store")).status_code == 422, path
        made = await server.ask("PUT", f"/api/v2/packets/{quote(path, safe='')}")
        name = "packet_0" if "\x00" in path and made.status_code == 404 else made.json()["storagePath"]
        assert name.startswith("packet_") and name[7:].isalnum()


@on_sqlite
async def test_an_address_is_a_text(server: Server) -> None:
    for payload in (None, "", 1, {"a": 1}):
        assert (await server.trigger(payload=payload, payloadType="application/store")).status_code == 400


@on_sqlite
async def test_a_public_token_reads_the_values_of_its_run_only(server: Server) -> None:
    first, second = await server.trigger(payload={"a": 1}), await server.trigger(payload={"a": 2})
    token = first.headers["x-trigger-jwt"]
    assert (await server.ask("GET", f"/api/v1/runs/{first.json()['id']}/packets/payload", key=token)).status_code == 200
    assert (await server.ask("GET", f"/api/v1/runs/{second.json()['id']}/packets/payload", key=token)).status_code == 403
    assert (await server.ask("PUT", "/api/v2/packets/x", key=token)).status_code == 401


async def test_uploads_nobody_used_are_gone_after_a_day(server: Server) -> None:
    for _ in range(2):
        await put(server, (await prepared(server))[0], b"[1]", "application/json")
    ids = await server.runtime.engine.read(lambda tx: uploads.older(tx, 2**62, 10))
    await server.runtime.engine.write(lambda tx: tx.execute("UPDATE packets SET created_at = 0 WHERE id = :id", id=ids[0]))
    assert await packets.sweep_once(server.runtime.context) == 1
    assert await server.runtime.context.payloads.get(ids[0]) is None
    assert await server.runtime.context.payloads.get(ids[1]) == b"[1]"


NAME = "packet_" + "0" * 26


async def test_row_76_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    folder, secret = Folder(tmp_path / "payloads"), tmp_path / "secret"
    secret.write_text("key")
    await folder.put(NAME, b"{}", "application/json")
    assert (tmp_path / "payloads").stat().st_mode & 0o777 == 0o700
    (tmp_path / "payloads" / NAME).unlink()
    (tmp_path / "payloads" / NAME).symlink_to(secret)
    with pytest.raises(StoreFailed):
        await folder.get(NAME)
    await folder.put(NAME, b"[]", "application/json")  # the name is given to a new file, not written through
    assert secret.read_text() == "key"

    (tmp_path / "elsewhere").symlink_to(tmp_path / "payloads")
    with pytest.raises(StoreFailed):
        await Folder(tmp_path / "elsewhere").get(NAME)


async def test_half_written_files_are_never_seen_and_go_in_time(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for name, age in (("tmp_old", 7_200), ("tmp_new", 0)):
        (tmp_path / name).write_text("{")
        os.utime(tmp_path / name, (0, (tmp_path / name).stat().st_mtime - age))
    assert folder.sweep() == 1
    assert [p.name for p in tmp_path.iterdir()] == ["tmp_new"]


async def test_a_bucket_holds_them_as_well() -> None:
    bucket = Bucket("memory:///")
    assert await bucket.get(NAME) is None
    await bucket.put(NAME, b"{}", "application/json")
    assert await bucket.get(NAME) == b"{}"
    await bucket.delete(NAME)
    await bucket.delete(NAME)
    assert await bucket.get(NAME) is None
    with pytest.raises(StoreFailed, match="no payload store"):
        Bucket("nowhere://x")


async def test_a_text_with_nul_arrives_as_it_was_sent(server: Server) -> None:
    """Row 30."""
    made = await server.trigger(payload="a\x00b", payloadType="text/plain")
    assert (await server.ask("GET", f"/api/v3/runs/{made.json()['id']}")).json()["payload"] == "a\x00b"
