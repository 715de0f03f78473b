"""Alerts and run webhooks: planned once, delivered at least once, only where it is safe; row 77 of the bad inputs."""

from __future__ import annotations

import json
import smtplib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from outlast import webhooks
from outlast.engine import attempts, control, sessions
from outlast.errors import InvalidValue
from outlast.model.failure import Failure
from outlast.model.manifest import Manifest, TaskDefinition
from outlast.model.requests import Cancel, Complete, OpenSession
from outlast.model.result import Result, encode_failure
from outlast.server.alerts.outbound import Unsafe, networks, resolve
from outlast.server.alerts.sending import escaped
from outlast.server.runtime import Options, Runtime
from tests.databases import Address
from tests.server.conftest import Server

LOCAL = "127.0.0.0/8"


class Receiver:
    """A real HTTP server that keeps what it is sent and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = receiver.answers.pop(0) if receiver.answers else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "http://169.254.169.254/")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest_asyncio.fixture
async def server(address: Address, tmp_path: Path) -> AsyncIterator[Server]:
    """Its engine runs; what upkeep and alerts do is done by the tests, step by step."""
    runtime = Runtime(Options(database=address.url, schema=address.schema, data=tmp_path, allow_private_webhooks=LOCAL))
    await runtime.engine.start()
    manifest = Manifest(python="3.11", content_hash="1", tasks=[TaskDefinition(id="t"), TaskDefinition(id="u")])
    await runtime.engine.call(sessions.open_session, OpenSession(env_id=3, server_id="s", worker="w", boot_id="b", manifest=manifest))
    found = Server(runtime)
    yield found
    await found.http.aclose()
    await runtime.close()


async def channel(server: Server, target: str, **fields: Any) -> dict[str, Any]:
    body = {"name": "c", "type": "webhook", "target": target, "events": ["run.failed"], **fields}
    made = await server.ask("POST", "/api/outlast/v1/alerts", json=body)
    assert made.status_code == 201, made.text
    return made.json()


async def ended(server: Server, outcome: Any = "failed", task: str = "t") -> str:
    """A run that a worker took and ended."""
    from outlast.engine.claim import Claimed, Demand

    engine = server.runtime.engine
    run_id: str = (await server.trigger(task, tags=["a"])).json()["id"]
    session = (await engine.read(lambda tx: tx.all("SELECT id, version FROM sessions")))[0]
    claimed: list[Claimed] = []
    engine.demand = lambda: [Demand(3, session[0], session[1], "x", "async", 0 if claimed else 1)]
    engine.connected = lambda: [session[0]]
    engine.deliver = claimed.extend
    while not claimed:
        engine.wake()
        await engine.call(attempts.append_logs, _no_logs())
    error = encode_failure(Failure(name="ValueError", message="<b>no</b>")) if outcome != "ok" else None
    run = claimed[0].run
    result = Result(epoch=run.epoch, attempt=run.attempt, outcome=outcome, error=error)
    await engine.call(attempts.complete, Complete(run_id=run.id, session=session[0], result=result))
    return run_id


def _no_logs() -> Any:
    from outlast.model.requests import AppendLogs

    return AppendLogs(lines=[])


async def told(server: Server) -> None:
    """Plan and deliver all that is due."""
    alerts = server.runtime.context.alerts
    for _ in range(200):  # on PostgreSQL an event is given out once no older transaction runs
        if await alerts.plan():
            break
    while await alerts.plan():
        pass
    while await alerts.deliver():
        pass


async def test_a_failed_run_is_told_in_trigger_devs_form_signed(server: Server, receiver: Receiver) -> None:
    made = await channel(server, receiver.url)
    run_id = await ended(server)
    await told(server)
    [(headers, body)] = receiver.got
    event = webhooks.construct_event(body, headers, made["secret"])
    assert (event["type"], event["object"]["run"]["id"], event["object"]["run"]["status"]) == ("alert.run.failed", run_id, "FAILED")
    assert event["object"]["run"]["error"]["name"] == "ValueError"
    assert event["object"]["environment"]["type"] == "PRODUCTION"
    for wrong in ({**headers, "x-outlast-signature": "v1=00"}, {**headers, "x-outlast-timestamp": "1"}):
        with pytest.raises(InvalidValue):
            webhooks.construct_event(body, wrong, made["secret"])
    with pytest.raises(InvalidValue):
        webhooks.construct_event(body + b" ", headers, made["secret"])
    listed = (await server.ask("GET", "/api/outlast/v1/alerts")).json()["data"]
    assert [c["id"] for c in listed] == [made["id"]] and "secret" not in listed[0]


async def test_run_webhooks_come_for_every_end_also_outside_a_worker(server: Server, receiver: Receiver) -> None:
    await channel(server, receiver.url, events=["run.finished"], tasks=["t"])
    good, bad = await ended(server, "ok"), await ended(server, "failed")
    await ended(server, "ok", task="u")
    never: str = (await server.trigger()).json()["id"]
    await server.runtime.engine.call(control.cancel, Cancel(env_id=3, run_id=never))
    await told(server)
    seen = {e["object"]["run"]["id"]: e["object"]["run"]["status"] for e in receiver.events}
    assert seen == {good: "COMPLETED", bad: "FAILED", never: "CANCELED"}


async def test_a_receiver_that_fails_is_tried_again_and_nobody_is_told_twice(server: Server, receiver: Receiver) -> None:
    made = await channel(server, receiver.url)
    receiver.answers = [500, 302]
    await ended(server)
    await told(server)
    for _ in range(2):
        await server.runtime.engine.write(lambda tx: tx.execute("UPDATE deliveries SET next_at = 0 WHERE next_at IS NOT NULL"))
        await told(server)
    assert len(receiver.got) == 3 and len({e["id"] for e in receiver.events}) == 1
    [row] = (await server.ask("GET", f"/api/outlast/v1/alerts/{made['id']}/deliveries")).json()["data"]
    assert (row["status"], row["tries"], row["nextAt"]) == ("DELIVERED", 3, None)
    await told(server)
    assert len(receiver.got) == 3


async def test_failures_of_one_task_are_told_once_and_then_together(server: Server, receiver: Receiver) -> None:
    await channel(server, receiver.url)
    for _ in range(4):
        await ended(server)
    await ended(server, task="u")
    await told(server)
    assert len(receiver.got) == 2
    await server.runtime.engine.write(lambda tx: tx.execute("UPDATE alert_groups SET until = 0"))
    await told(server)
    assert [e["object"].get("grouped") for e in receiver.events] == [None, None, 2]


async def test_a_queue_that_is_slow_is_told_once_in_a_while(server: Server, receiver: Receiver) -> None:
    await channel(server, receiver.url, events=["queue.latency"], latencySeconds=1)
    await server.trigger()
    await server.runtime.engine.write(lambda tx: tx.execute("UPDATE lanes SET head = head - 60000 WHERE queued > 0"))
    for _ in range(3):
        await server.runtime.context.alerts.latency()
    await told(server)
    assert [e["object"]["queue"]["name"] for e in receiver.events] == ["task/t"]


async def test_slack_is_given_text_without_markup(server: Server, receiver: Receiver) -> None:
    await channel(server, receiver.url, type="slack")
    await ended(server)
    await told(server)
    [event] = receiver.events
    assert "&lt;b&gt;no&lt;/b&gt;" in event["text"]
    assert escaped("<!channel> & co") == "&lt;!channel&gt; &amp; co"


@pytest.mark.parametrize(
    "target",
    [
        "http://10.0.0.1/", "http://[::1]/", "http://[::ffff:169.254.169.254]/", "http://0xa000001/", "http://167772161/",
        "http://user@10.0.0.1/", "file:///etc/passwd", "gopher://x/", "http://169.254.169.254/latest", "http://[64:ff9b::a00:1]/",
        "http://1.1.1.1:22/", "http://[2002:a00:1::]/", "http://224.0.0.1/", "http://0.0.0.0/", "http://", "https:///x",
        "http://a b/", "http://" + "a" * 3_000,
    ],
)  # fmt: skip
async def test_row77_addresses_of_private_networks_are_refused(server: Server, target: str) -> None:
    body = {"name": "c", "type": "webhook", "target": target, "events": ["run.failed"]}
    refused = await server.ask("POST", "/api/outlast/v1/alerts", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "unsafe_url")


async def test_row77_loopback_in_every_spelling_is_refused_without_permission() -> None:
    for url in ("http://127.0.0.1/", "http://localhost/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://[::1]/"):
        with pytest.raises(Unsafe):
            await resolve(url, [])
    assert await resolve("http://127.0.0.1:9/", networks("127.0.0.0/8")) == "127.0.0.1"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"type": "pager"}, "type"),
        ({"events": []}, "events"),
        ({"events": ["deployment.failed"]}, "come with deploys"),
        ({"tasks": ["a b"]}, "tasks"),
        ({"name": ""}, "name"),
        ({"type": "email", "target": "a@b\r\nBcc: x@y.z"}, "mail address"),
        ({"type": "email", "target": "nobody"}, "mail address"),
        ({"latencySeconds": 0}, "latencySeconds"),
    ],
)
async def test_bad_channels_are_refused_by_name(server: Server, body: dict[str, Any], says: str) -> None:
    wire = {"name": "c", "type": "webhook", "target": "http://127.0.0.1/", "events": ["run.failed"], **body}
    refused = await server.ask("POST", "/api/outlast/v1/alerts", json=wire)
    assert refused.status_code == 422
    assert says in refused.text


@contextmanager
def silent_port() -> Iterator[int]:
    """Something that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_mail_server_that_hangs_is_given_up() -> None:
    from outlast.server.alerts import sending

    body = {"id": "1", "object": {"environment": {"slug": "prod"}, "run": {"id": "run_1"}}}
    with silent_port() as port, pytest.raises((TimeoutError, OSError, smtplib.SMTPException)):
        sending.mail(f"smtp://127.0.0.1:{port}", "a@example.com", "b@example.com", body, timeout=0.2)
