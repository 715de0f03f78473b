"""Signing in, roles, and requests that did not come from our pages."""

from __future__ import annotations

import httpx
import pytest
from playwright.async_api import Page, expect

from outlast.store import signins
from tests.dashboard.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")
WRONG = "tr_dev_sk_" + "x" * 24


async def sign_in(page: Page, house: House, key: str, path: str = "/") -> None:
    await page.goto(house.url + path)
    await page.get_by_label("API key or one-time link").fill(key)
    await page.keyboard.press("Enter")


async def test_act_1_wrong_keys_are_refused_alike_and_then_slowed_down(locked: House) -> None:
    """security.md row 14"""
    async with locked.watch("401", "429") as watched:
        page = watched.page
        for _ in range(5):
            await sign_in(page, locked, WRONG)
            await expect(page.get_by_role("alert")).to_contain_text("That did not work")
        await sign_in(page, locked, WRONG)
        await expect(page.get_by_role("alert")).to_contain_text("Too many attempts")
        assert await locked.context.cookies() == []
        assert WRONG not in page.url and WRONG not in await page.content()


async def test_act_2_signed_out_means_out_and_back_shows_nothing(locked: House) -> None:
    async with locked.watch() as watched:
        page = watched.page
        await sign_in(page, locked, locked.key, "/runs?status=FAILED")
        await expect(page.locator("h1")).to_have_text("Runs")
        assert page.url.endswith("/runs?status=FAILED")
        await page.reload()
        await expect(page.locator("h1")).to_have_text("Runs")
        (cookie,) = [c for c in await locked.context.cookies() if c.get("name") == "__Host-outlast"]
        assert cookie.get("httpOnly") and cookie.get("secure") and cookie.get("sameSite") == "Lax"
        await page.goto(f"{locked.url}/settings")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("API key or one-time link")).to_be_visible()
        await page.go_back()
        await expect(page.get_by_label("API key or one-time link")).to_be_visible()


async def test_a_one_time_link_signs_in_once(locked: House) -> None:
    link = await locked.runtime.site.gate.new_link()
    async with locked.watch("401") as watched:
        page = watched.page
        await page.goto(f"{locked.url}/login/{link}")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.locator("h1")).to_have_text("Overview")
        await page.goto("about:blank")  # it would find out by itself that it is signed out, and leave
        await locked.context.clear_cookies()
        await page.goto(f"{locked.url}/login/{link}")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_role("alert")).to_contain_text("That did not work")


async def test_act_34_a_viewers_key_sees_no_actions_and_is_refused_them(locked: House) -> None:
    await locked.worker()
    run = await locked.trigger()
    key = locked.runtime.new_key("dev", "reader", role="viewer")
    async with locked.watch() as watched:
        page = watched.page
        await sign_in(page, locked, key, f"/runs/{run}")
        await expect(page.locator("h1")).to_have_text("send-email")
        assert await page.get_by_role("button", name="Cancel").count() == 0
        assert await page.get_by_role("button", name="Replay").count() == 0
        csrf = await page.locator("meta[name=csrf]").get_attribute("content") or ""
        refused = await page.request.post(f"{locked.url}/runs/{run}/cancel", headers={"x-csrf": csrf}, data={})
        assert refused.status == 403
        assert (await locked.http.post(f"/api/v2/runs/{run}/cancel", headers={"authorization": f"Bearer {key}"})).status_code == 403
        assert (await locked.http.get(f"/api/v3/runs/{run}")).json()["status"] == "QUEUED"


async def test_act_33_other_sites_and_missing_tokens_are_refused(house: House) -> None:
    """security.md rows 13 and 18"""
    await house.worker()
    run = await house.trigger()
    async with house.page(f"/runs/{run}") as page:
        csrf = await page.locator("meta[name=csrf]").get_attribute("content") or ""
    for headers in (
        {},
        {"x-csrf": "wrong"},
        {"x-csrf": csrf, "origin": "http://evil.example"},
        {"x-csrf": csrf, "origin": "null"},
        {"x-csrf": csrf, "sec-fetch-site": "cross-site"},
        {"x-csrf": csrf, "sec-fetch-site": "same-site"},
    ):
        answer = await house.http.post(f"/runs/{run}/cancel", headers=headers, json={})
        assert answer.status_code == 403, headers
    assert (await house.http.get("/ui/events?topics=runs", headers={"sec-fetch-site": "cross-site"})).status_code == 403
    assert (await house.http.get(f"/api/v3/runs/{run}")).json()["status"] == "QUEUED"


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "https://evil.example", "/%0d%0aSet-Cookie:x", "/login"])
async def test_the_way_after_signing_in_leads_to_our_own_pages(locked: House, target: str) -> None:
    """security.md row 17"""
    async with httpx.AsyncClient(base_url=locked.url) as http:
        answer = await http.post("/login", data={"key": locked.key, "next": target})
        assert answer.status_code == 303
        location = answer.headers["location"]
        assert location == "/" or (location.startswith("/") and not location.startswith(("//", "/\\")) and "\n" not in location)


async def test_row_15_a_form_is_small(locked: House) -> None:
    async with httpx.AsyncClient(base_url=locked.url) as http:
        assert (await http.post("/login", data={"key": "x" * 1_000_000})).status_code == 413
        assert (await http.post("/login", data={"key": "x" * 5_000})).status_code == 401


async def test_a_session_ends_with_its_key_and_a_forged_one_is_none(locked: House) -> None:
    """security.md row 16"""
    async with httpx.AsyncClient(base_url=locked.url) as http:
        answer = await http.post("/login", data={"key": locked.key})
        secret = answer.headers["set-cookie"].split("=", 1)[1].split(";")[0]
        cookie = {"cookie": f"__Host-outlast={secret}"}
        assert (await http.get("/runs", headers=cookie)).status_code == 200
        assert (await http.get("/runs", headers={"cookie": f"__Host-outlast={secret[:-1]}x"})).status_code == 303
        key_id = await locked.engine.read(lambda tx: signins.find(tx, secret, locked.engine.clock.now()))
        assert key_id is not None and key_id.key_id is not None and secret not in key_id.hash
        csrf = (await http.get("/api-keys", headers=cookie)).text.split('name="csrf" content="')[1].split('"')[0]
        done = await http.post(f"/api-keys/{key_id.key_id}/revoke", headers={**cookie, "x-csrf": csrf}, json={})
        assert done.status_code == 200
        assert (await http.get("/runs", headers=cookie)).status_code == 303


async def test_act_31_a_key_is_shown_once_and_refused_when_revoked(house: House) -> None:
    async with house.page("/api-keys") as page:
        await page.keyboard.press("n")
        await page.get_by_label("Name").fill("web server")
        await page.keyboard.press("Control+Enter")
        shown = page.locator("#secret pre")
        await expect(shown).to_be_visible()
        key = await shown.inner_text()
        headers = {"authorization": f"Bearer {key}"}
        assert (await house.http.get("/api/v1/whoami", headers=headers)).status_code == 200
        await page.reload()
        assert key not in await page.content()
        row = page.locator("tr", has_text="web server")
        await row.get_by_role("button", name="Revoke").click()
        await page.get_by_role("button", name="Revoke it").click()
        await expect(row).to_contain_text("Revoked")
        assert (await house.http.get("/api/v1/whoami", headers=headers)).status_code == 401


async def test_pages_of_other_environments_are_not_there(locked: House) -> None:
    await locked.worker()
    run = await locked.trigger()
    key = locked.runtime.new_key("prod", "elsewhere")
    async with httpx.AsyncClient(base_url=locked.url) as http:
        answer = await http.post("/login", data={"key": key})
        cookie = {"cookie": answer.headers["set-cookie"].split(";")[0]}
        for path in (f"/runs/{run}", f"/runs/{run}.json", f"/runs/{run}/trace.json", f"/runs/{run}/payload.json"):
            assert (await http.get(path, headers=cookie)).status_code == 404
        assert (await http.get("/runs.json", headers=cookie)).json() == {"data": [], "pagination": {}}
        assert (await http.get("/ui/env/dev", headers=cookie)).status_code == 404


async def test_pages_have_their_data_beside_them_for_who_is_signed_in(locked: House) -> None:
    await locked.worker()
    run = await locked.trigger(tags=["user:1"])
    await locked.trigger("report")
    await locked.http.post("/api/v1/projects/p/envvars/dev", json={"name": "SMTP_PASSWORD", "value": "hunter2", "isSecret": True})
    async with httpx.AsyncClient(base_url=locked.url) as http:
        refused = await http.get("/runs.json")
        assert (refused.status_code, refused.json()["error"]) == (401, "you are signed out: reload the page")
        answer = await http.post("/login", data={"key": locked.runtime.new_key("dev", "reader", role="viewer")})
        http.headers["cookie"] = answer.headers["set-cookie"].split(";")[0]
        assert [r["id"] for r in (await http.get("/runs.json?task=send-email&tag=user:1&roots=1")).json()["data"]] == [run]
        assert "hunter2" not in (await http.get("/env-vars.json")).text
        assert (await http.get("/queues/queue_none.json")).json()["error"]
        for page, api in {
            f"/runs/{run}": f"/api/v3/runs/{run}", "/queues": "/api/v1/queues", "/schedules": "/api/v1/schedules",
            "/deployments": "/api/v1/deployments", "/env-vars": "/api/v1/projects/p/envvars/dev", "/errors": "/api/outlast/v1/errors",
            "/alerts": "/api/outlast/v1/alerts", "/workers": "/api/outlast/v1/workers", "/settings": "/api/outlast/v1/limits",
            "/tokens": "/api/v1/waitpoints/tokens", "/bulk": "/api/v1/bulk-actions",
        }.items():  # fmt: skip
            shown = await http.get(f"{page}.json")
            assert shown.headers["cache-control"] == "private, no-store"
            assert shown.json() == (await locked.http.get(api)).json(), page
