"""What people decide in a browser: errors are resolved and ignored, alert channels made, workers drained, keys freed."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from outlast.engine import attempts
from outlast.model.failure import Failure
from outlast.model.requests import Complete
from outlast.model.result import Result, encode_failure
from tests.dashboard.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def fail(house: House, first: int, last: int) -> None:
    """Runs that fail with the same words about other things."""
    runs = [await house.trigger() for _ in range(first, last)]
    await house.claim(len(runs))
    for i, run in enumerate(runs, first):
        await house.complete(run, error=f"user {i * 977} of order 0x{i:x}f3a was not found in '{i}'")


async def press(page: Page, key: str, **fields: str) -> None:
    """Open a dialog by its key, fill it and send it: nothing here needs a mouse."""
    await page.keyboard.press(key)
    for name, value in fields.items():
        await page.locator(f"dialog[open] [name={name}]").fill(value)
    await page.keyboard.press("Control+Enter")


async def test_act_30_an_error_is_one_group_that_is_resolved_comes_back_and_is_ignored_until_there_are_more(house: House) -> None:
    await house.worker()
    await fail(house, 0, 50)
    async with house.watch("400") as watched:
        page = watched.page
        await page.goto(f"{house.url}/errors")
        row = page.locator("tbody tr")
        await expect(row).to_have_count(1)
        await expect(row.locator("td.num").first).to_have_text("50")
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Enter")
        await expect(page.locator(".callout.bad")).to_contain_text("Traceback")
        standing = page.locator("header .st")
        await expect(standing).to_have_text("Unresolved")
        await press(page, "r", reason="index repaired")
        await expect(standing).to_have_text("Resolved")
        await expect(page.locator(".facts")).to_contain_text("index repaired")
        await fail(house, 50, 51)
        await expect(standing).to_have_text("Regressed")
        await press(page, "i", more="nine")
        await expect(page.locator(".wrong")).to_contain_text("whole number")
        await page.locator("dialog[open] [name=more]").fill("9")
        await page.keyboard.press("Control+Enter")
        await expect(standing).to_have_text("Ignored")
        await fail(house, 51, 59)
        await expect(page.locator("header .cnt")).to_contain_text("59 runs")
        await expect(standing).to_have_text("Ignored")
        await fail(house, 59, 60)
        await expect(standing).to_have_text("Unresolved")
        found = (await house.http.get("/api/outlast/v1/errors?status=unresolved")).json()["data"]
        assert [(group["count"], group["status"]) for group in found] == [(60, "unresolved")]


async def test_an_error_resolved_in_a_version_may_still_happen_in_earlier_ones(house: House) -> None:
    await house.worker()
    await fail(house, 0, 1)
    group = (await house.http.get("/api/outlast/v1/errors")).json()["data"][0]["id"]
    path = f"/api/outlast/v1/errors/{group}"
    later = house.version.rpartition(".")[0] + ".10"
    assert (await house.http.post(path, json={"action": "resolve", "version": later})).json()["status"] == "resolved"
    await fail(house, 1, 2)
    assert (await house.http.get("/api/outlast/v1/errors?status=resolved")).json()["data"][0]["count"] == 2
    await house.http.post(path, json={"action": "resolve", "version": house.version})
    await fail(house, 2, 3)
    assert (await house.http.get("/api/outlast/v1/errors")).json()["data"][0]["status"] == "regressed"
    for wanted, count in ((group, 3), (f"error_none,{group}", 3), ("error_none", 0)):
        listed = (await house.http.get("/api/v1/runs", params={"filter[error]": wanted})).json()["data"]
        assert [run["status"] for run in listed] == ["FAILED"] * count
    await house.http.post(path, json={"action": "reopen"})
    assert (await house.http.get("/api/outlast/v1/errors")).json()["data"][0]["status"] == "unresolved"
    assert (await house.http.post(path, json={"action": "burn"})).status_code == 400


async def test_an_alert_channel_is_made_tried_switched_off_and_deleted(house: House) -> None:
    async with house.watch("422") as watched:
        page = watched.page
        await page.goto(f"{house.url}/alerts")
        await press(page, "n", name="operations", target="http://127.0.0.1:9/hook")
        await expect(page.locator(".wrong")).to_contain_text("private")
        await page.locator("[name=type]").select_option("email")
        await page.locator("[name=target]").fill("ops@example.com")
        await page.keyboard.press("Control+Enter")
        row = page.locator("tbody tr")
        await expect(row).to_contain_text("operations")
        await expect(row).to_contain_text("a run failed")
        await row.get_by_role("button", name="Disable").click()
        await expect(row).to_contain_text("Off")
        await page.locator(".rowlink").click()
        await expect(page.locator("aside h2").first).to_have_text("operations")
        await page.keyboard.press("t")
        await expect(page.locator(".toast.bad")).to_contain_text("OUTLAST_SMTP")
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("button", name="Delete it").click()
        await expect(page.locator("main")).to_contain_text("Nobody is told")
        assert (await house.http.get("/api/outlast/v1/alerts")).json() == {"data": []}


async def test_an_idempotency_key_is_freed_and_a_stream_is_read_on_the_page_of_its_run(house: House) -> None:
    await house.worker()
    run = await house.trigger(idempotencyKey="order-17")
    assert await house.trigger(idempotencyKey="order-17") == run
    async with house.page(f"/runs/{run}?tab=details") as page:
        await page.get_by_role("button", name="Free it").click()
        await page.locator("#ask").get_by_role("button", name="Free it").click()
        await expect(page.locator(".facts")).to_contain_text("(free)")
        assert await house.trigger(idempotencyKey="order-17") != run
        await page.keyboard.press("s")
        await expect(page.locator(".insp")).to_contain_text("no stream")
        answer = await house.http.post(f"/realtime/v1/streams/{run}/self/tokens/append", content='"hello <b>there</b>"')
        assert answer.status_code < 300, answer.text
        await expect(page.locator(".insp")).to_contain_text("hello <b>there</b>")


async def test_a_run_whose_code_took_another_way_says_what_was_recorded_and_what_was_found(house: House) -> None:
    await house.worker()
    run_id = await house.trigger()
    await house.claim()
    run = house.claimed.pop(run_id).run
    text = "recorded step:charge at order.py:31, found wait:for at order.py:33"
    failure = encode_failure(Failure(name="JournalMismatch", message=text))
    result = Result(epoch=run.epoch, attempt=run.attempt, outcome="parked", error=failure, error_name="JournalMismatch")
    await house.engine.call(attempts.complete, Complete(run_id=run_id, session=house.session, result=result))
    async with house.page(f"/runs/{run_id}") as page:
        await expect(page.locator(".callout.warn")).to_contain_text(text)
        await page.get_by_role("button", name="Start from scratch").click()
        await page.get_by_role("button", name="Start anew").click()
        await expect(page.locator("header")).to_contain_text("replayed from")


async def test_a_worker_is_asked_to_leave(house: House) -> None:
    """The worker's side of it: tests/worker/test_draining.py"""
    await house.worker()
    async with house.page("/workers") as page:
        await page.get_by_role("button", name="Drain").click()
        await page.get_by_role("button", name="Drain it").click()
        await expect(page.locator("tbody tr")).to_contain_text("Draining")
        assert [w["state"] for w in (await house.http.get("/api/outlast/v1/workers")).json()["data"]] == ["draining"]
        assert (await house.http.post("/api/outlast/v1/workers/nobody/drain")).status_code == 404
        over, upkeep = house.engine.clock.now() - 1, house.runtime.upkeep  # one whose lease is over is shown as gone
        await house.engine.write(lambda tx: tx.execute("UPDATE sessions SET lease_until = :over", over=over))
        assert upkeep is not None
        await upkeep.sessions()
        await expect(page.locator("tbody tr")).to_contain_text("Gone")
