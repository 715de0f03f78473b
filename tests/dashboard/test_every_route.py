"""What holds for every address of the dashboard, taken from its routes: a new one is tried like all others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser
from starlette.routing import Route

from outlast.server.dashboard.rendering import CSP
from outlast.store import keys
from tests.dashboard.house import House, opened
from tests.dashboard.register import pages
from tests.dashboard.screenshots import furnish
from tests.databases import Address

pytestmark = pytest.mark.asyncio(loop_scope="session")
FOR_ALL = {"/login", "/login/{link}", "/static/{version}/{name}"}
OF_THE_VISITOR = {"/logout", "/ui/preferences"}  # acts that change nothing but the visitor's own view
STREAM = "/ui/events"  # it does not end
CROSS = ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"})


def is_shut(answer: httpx.Response) -> bool:
    """People are led to the way in, programs are told."""
    return answer.status_code == 401 or (answer.status_code == 303 and answer.headers["location"].startswith("/login"))


@dataclass
class Person:
    http: httpx.AsyncClient
    csrf: str

    async def act(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return await self.http.post(path, json=body or {}, headers={"x-csrf": self.csrf, **headers})


class Site:
    def __init__(self, house: House, ids: dict[str, str], names: dict[str, str]) -> None:
        self.house, self.ids, self.names = house, ids, names
        self.clients: list[httpx.AsyncClient] = []
        found = [(r.path, (r.methods or set()) - {"HEAD"}) for r in cast("list[Route]", house.runtime.site.routes())]
        self.reads = [path for path, methods in found if "GET" in methods]
        self.acts = [path for path, methods in found if "POST" in methods]

    def at(self, route: str) -> str:
        for name, value in self.names.items():
            route = route.replace("{" + name + "}", value)
        assert "{" not in route, f"name something for {route}"
        return route

    async def person(self, key: str) -> Person:
        http = httpx.AsyncClient(base_url=self.house.url, timeout=30)
        self.clients.append(http)
        answer = await http.post("/login", data={"key": key})
        http.headers["cookie"] = answer.headers["set-cookie"].split(";")[0]
        page = (await http.get("/settings")).text
        return Person(http, page.split('name="csrf" content="')[1].split('"')[0])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    async with opened(chromium, Address(f"sqlite:///{folder}/outlast.db"), folder, is_open=False) as house:
        ids = await furnish(house, 50)
        alert = (await house.http.get("/api/outlast/v1/alerts")).json()["data"][0]["id"]
        bulk = (await house.http.get("/api/v1/bulk-actions")).json()["data"][0]["id"]
        key = await house.engine.read(lambda tx: keys.listed(tx, 1)[0].id)
        of = {
            "group": "error",
            "run": "run",
            "queue": "queue",
            "schedule": "schedule",
            "batch": "batch",
            "token": "token",
            "version": "version",
        }
        names = {
            "task": "emails.send",
            "alert": alert,
            "bulk": bulk,
            "key": key,
            "worker": house.session,
            "name": "LOG_LEVEL",
            "part": "payload",
        }
        found = Site(
            house,
            ids,
            {**{name: ids[id_] for name, id_ in of.items()}, **names, "deployment": ids["version"], "slug": "dev", "link": "x" * 43},
        )
        yield found
        for client in found.clients:
            await client.aclose()


async def test_nobody_gets_anywhere_without_signing_in(site: Site) -> None:
    async with httpx.AsyncClient(base_url=site.house.url) as http:
        for route in site.reads:
            answer = await http.get(site.at(route))
            if route not in FOR_ALL:
                assert is_shut(answer), route
        for route in site.acts:
            answer = await http.post(site.at(route), json={})
            assert answer.status_code in (401, 429), route


async def test_a_viewer_may_read_everything_and_do_nothing(site: Site) -> None:
    """security.md row 4; act 34"""
    person = await site.person(site.house.runtime.new_key("dev", "reader", role="viewer"))
    for name, path in pages(site.ids).items():
        answer = await person.http.get(path)
        assert answer.status_code == (404 if name == "lost" else 200), path
        left = answer.text.replace('data-post="/logout"', "")
        for mark in ("data-post", "data-send", 'data-act="dialog"', 'data-act="bulk', 'id="making"'):
            assert mark not in left, f"{name} has {mark}"
    for route in site.acts:
        if route not in OF_THE_VISITOR | FOR_ALL:
            answer = await person.act(site.at(route))
            assert answer.status_code == 403 and "viewer" in answer.text, route


async def test_an_act_needs_the_token_of_the_page_and_our_own_origin(site: Site) -> None:
    """security.md row 13; act 33"""
    person = await site.person(site.house.key)
    for route in site.acts:
        path = site.at(route)
        for headers in CROSS:
            assert (await person.act(path, **headers)).status_code == 403, (route, headers)
        if route not in FOR_ALL:
            for token in ("", "wrong", person.csrf[:-1]):
                assert (await person.http.post(path, json={}, headers={"x-csrf": token})).status_code == 403, route
    assert (await person.http.get(STREAM, headers={"sec-fetch-site": "cross-site"})).status_code == 403  # row 18
    assert (await person.http.get("/runs")).status_code == 200  # nobody was signed out by it


async def test_what_is_another_environments_is_not_there(site: Site) -> None:
    """security.md row 5"""
    person = await site.person(site.house.runtime.new_key("prod", "elsewhere"))
    for route in site.reads:
        if "{" in route and route not in FOR_ALL:
            assert (await person.http.get(site.at(route))).status_code == 404, route
    for route in site.acts:
        if "{" in route:
            assert (await person.act(site.at(route), {"value": "1", "action": "resolve"})).status_code == 404, route


async def test_every_answer_forbids_scripts_of_others_and_is_kept_by_nobody(site: Site) -> None:
    person = await site.person(site.house.key)
    for path in [site.at(route) for route in site.reads if route != STREAM] + ["/nowhere", "/runs/run_none", "/schedules/none/edit"]:
        answer = await person.http.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        if answer.headers.get("content-type", "").startswith("text/html"):
            assert answer.headers["content-security-policy"] == CSP, path
        if not path.startswith("/static"):
            assert "no-store" in answer.headers["cache-control"] or answer.status_code == 303, path
    assert "'unsafe" not in CSP and "require-trusted-types-for 'script'" in CSP and "frame-ancestors 'none'" in CSP


async def test_other_methods_are_refused(site: Site) -> None:
    """security.md row 21"""
    person = await site.person(site.house.key)
    for route in {*site.reads, *site.acts} - {STREAM}:
        for method in ("DELETE", "TRACE"):
            assert (await person.http.request(method, site.at(route))).status_code == 405, (method, route)


async def test_an_open_dashboard_is_open_to_names_of_this_machine_only(house: House) -> None:
    """security.md row 20: a foreign name that resolves to this machine must not reach a dashboard without sign-in."""
    site = Site(house, {}, {})
    headers = {"host": "rebound.example"}
    for route in [r for r in site.reads if r not in FOR_ALL and "{" not in r]:
        answer = await house.http.get(route, headers=headers)
        assert is_shut(answer), route
    for route in [r for r in site.acts if r not in FOR_ALL and "{" not in r]:
        assert (await house.http.post(route, headers=headers, json={})).status_code == 401, route
