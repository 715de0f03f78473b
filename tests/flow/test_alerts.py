"""Alerts and run webhooks: planned once, delivered at least once, only where it is safe; row 77 of the bad inputs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email
import email.policy
import smtplib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from outlast import webhooks
from outlast.engine import attempts, control, sessions
from outlast.errors import InvalidValue
from outlast.model.failure import Failure
from outlast.model.manifest import Manifest, TaskDefinition
from outlast.model.requests import Cancel, Complete, OpenSession
from outlast.model.result import Result, encode_failure
from outlast.server.alerts.outbound import Unsafe, networks, post, resolve, trusted
from outlast.server.alerts.sending import Failed, Ways, escaped, mail
from outlast.server.runtime import Options, Runtime
from tests.databases import Address
from tests.flow.post import Authority, MailServer, Receiver
from tests.server.conftest import Server

LOCAL = "127.0.0.0/8"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest_asyncio.fixture
async def server(address: Address, tmp_path: Path, authority: Authority) -> AsyncIterator[Server]:
    """Its engine runs; what upkeep and alerts do is done by the tests, step by step."""
    options = Options(database=address.url, schema=address.schema, data=tmp_path, allow_private_webhooks=LOCAL, ca_file=str(authority.file))
    runtime = Runtime(options)
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


async def ended(server: Server, outcome: Any = "failed", task: str = "t", message: str = "<b>no</b>") -> str:
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
    error = encode_failure(Failure(name="ValueError", message=message)) if outcome != "ok" else None
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


PRIVATE = (
    "http://10.0.0.1/", "http://[::1]/", "http://[::ffff:169.254.169.254]/", "http://0xa000001/", "http://167772161/",
    "http://user@10.0.0.1/", "file:///etc/passwd", "gopher://x/", "http://169.254.169.254/latest", "http://[64:ff9b::a00:1]/",
    "http://1.1.1.1:22/", "http://[2002:a00:1::]/", "http://224.0.0.1/", "http://0.0.0.0/", "http://", "https:///x",
    "http://a b/", "http://" + "a" * 3_000,
)  # fmt: skip


async def test_row77_addresses_of_private_networks_are_refused(server: Server) -> None:
    for target in PRIVATE:
        body = {"name": "c", "type": "webhook", "target": target, "events": ["run.failed"]}
        refused = await server.ask("POST", "/api/outlast/v1/alerts", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "unsafe_url"), target


async def test_row77_loopback_in_every_spelling_is_refused_without_permission() -> None:
    for url in ("http://127.0.0.1/", "http://localhost/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://[::1]/"):
        with pytest.raises(Unsafe):
            await resolve(url, [])
    assert await resolve("http://127.0.0.1:9/", networks("127.0.0.0/8")) == "127.0.0.1"


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"type": "pager"}, "type"),
    ({"events": []}, "events"),
    ({"events": ["deployment.failed"]}, "comes with deploys"),
    ({"tasks": ["a b"]}, "tasks"),
    ({"name": ""}, "name"),
    ({"type": "email", "target": "a@b\r\nBcc: x@y.z"}, "mail address"),
    ({"type": "email", "target": "nobody"}, "mail address"),
    ({"latencySeconds": 0}, "latencySeconds"),
)


async def test_bad_channels_are_refused_by_name(server: Server) -> None:
    for body, says in BAD:
        wire = {"name": "c", "type": "webhook", "target": "http://127.0.0.1/", "events": ["run.failed"], **body}
        refused = await server.ask("POST", "/api/outlast/v1/alerts", json=wire)
        assert refused.status_code == 422
        assert says in refused.text


async def test_a_new_version_is_told_with_its_tasks(server: Server, receiver: Receiver) -> None:
    made = await channel(server, receiver.url, events=["deployment.success"], tasks=["another"])
    for hash_, env_id in (("1", 3), ("2", 3), ("2", 3), ("2", 1)):  # one that is known, one that is new, twice; and one in development
        manifest = Manifest(python="3.11", content_hash=hash_, tasks=[TaskDefinition(id="t"), TaskDefinition(id="u")])
        item = OpenSession(env_id=env_id, server_id="s", worker="w", boot_id="b", manifest=manifest)
        await server.runtime.engine.call(sessions.open_session, item)
    await told(server)
    [event] = receiver.events
    assert event["type"] == "alert.deployment.success"
    assert [task["id"] for task in event["object"]["tasks"]] == ["t", "u"]
    [row] = (await server.ask("GET", f"/api/outlast/v1/alerts/{made['id']}/deliveries")).json()["data"]
    assert row["ref"] == event["object"]["deployment"]["version"]


async def test_a_channel_is_changed_and_keeps_what_is_not_named(server: Server, receiver: Receiver) -> None:
    made = await channel(server, receiver.url, tasks=["t"])
    path = f"/api/outlast/v1/alerts/{made['id']}"
    changed = (await server.ask("PUT", path, json={"enabled": False})).json()
    assert changed == {**{name: value for name, value in made.items() if name != "secret"}, "enabled": False}
    await ended(server)
    await told(server)
    assert receiver.got == []
    assert (await server.ask("PUT", path, json={"target": "http://10.0.0.1/"})).json()["error"]["code"] == "unsafe_url"
    assert (await server.ask("GET", path)).json() == changed


async def test_a_webhook_over_tls_goes_to_whom_an_authority_signs_for(server: Server, authority: Authority) -> None:
    secure = Receiver(authority.context)
    try:
        made = await channel(server, secure.url)
        await ended(server)
        await told(server)
        [(headers, body)] = secure.got
        assert headers["host"] == f"localhost:{secure.port}"
        assert webhooks.construct_event(body, headers, made["secret"])["type"] == "alert.run.failed"
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await post(secure.url, b"{}", {}, networks(LOCAL), trusted(None))
        elsewhere = secure.url.replace("localhost", "127.1")
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await post(elsewhere, b"{}", {}, networks(LOCAL), trusted(str(authority.file)))
        assert len(secure.got) == 1
    finally:
        secure.close()


async def test_row77_a_body_without_end_is_not_read_to_its_end(receiver: Receiver) -> None:
    receiver.endless = True
    assert await post(receiver.url, b"{}", {}, networks(LOCAL), trusted(None)) == 200


class Names(asyncio.SelectorEventLoop):
    """A loop that looks names up in a list, each time the next answer: what a name server does that rebinds."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self.answers = list(answers)

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        address = self.answers.pop(0) if host == "rebinds.test" else host
        return await super().getaddrinfo(address, port, **options)


def test_row77_a_name_that_changes_its_mind_is_asked_once_and_what_was_checked_is_connected_to(receiver: Receiver) -> None:
    for answers, reaches in ((["127.0.0.1", "169.254.169.254"], True), (["169.254.169.254", "127.0.0.1"], False)):
        with contextlib.closing(Names(*answers)) as loop:
            sending = post(f"http://rebinds.test:{receiver.port}/", b"{}", {}, networks("127.0.0.1"), trusted(None))
            if reaches:
                assert loop.run_until_complete(sending) == 200
            else:
                with pytest.raises(Unsafe):
                    loop.run_until_complete(sending)
            assert loop.answers == answers[1:]
    [(headers, _)] = receiver.got
    assert headers["host"] == f"rebinds.test:{receiver.port}"


async def test_row77_an_address_is_looked_at_again_before_each_delivery(server: Server, receiver: Receiver) -> None:
    made = await channel(server, receiver.url)
    alerts = server.runtime.context.alerts
    alerts.ways = replace(alerts.ways, allowed=[])  # the deployment allows it no longer
    await ended(server)
    await told(server)
    [row] = (await server.ask("GET", f"/api/outlast/v1/alerts/{made['id']}/deliveries")).json()["data"]
    assert receiver.got == [] and "private network" in row["error"] and (row["status"], row["tries"]) == ("PENDING", 1)


async def test_a_mail_arrives_over_tls_with_a_login_and_nothing_breaks_out_of_its_head(server: Server, authority: Authority) -> None:
    async with MailServer(authority.context, wants_login=True) as post_office:
        alerts = server.runtime.context.alerts
        smtp = f"smtp://user:p%40ss@localhost:{post_office.port}"
        alerts.ways = replace(alerts.ways, smtp=smtp, sender="outlast@example.com")
        made = await channel(server, "ops@example.com", type="email")
        await ended(server, message="no\r\nBcc: everybody@example.com\r\n\r\n<b>hello</b>")
        await told(server)
        [row] = (await server.ask("GET", f"/api/outlast/v1/alerts/{made['id']}/deliveries")).json()["data"]
        assert (row["status"], row["error"]) == ("DELIVERED", None)
        login = next(line for line in post_office.said if line.startswith("AUTH PLAIN"))
        assert base64.b64decode(login.split()[2]) == b"\0user\0p@ss" and post_office.secure
        assert [line for line in post_office.said if line.upper().startswith("RCPT")] == ["rcpt TO:<ops@example.com>"]
        [text] = post_office.mails
        sent = email.message_from_string(text, policy=email.policy.default)
        assert (sent["To"], sent["Bcc"], sent.get_content_type()) == ("ops@example.com", None, "text/plain")
        assert "ValueError" in sent["Subject"] and "<b>hello</b>" in sent.get_content()


@contextmanager
def silent_port() -> Iterator[int]:
    """Something that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


BODY = {"id": "1", "object": {"environment": {"slug": "prod"}, "run": {"id": "run_1"}}}


def test_a_mail_server_that_hangs_is_given_up() -> None:
    with silent_port() as port, pytest.raises((TimeoutError, OSError, smtplib.SMTPException)):
        mail(Ways(trust=trusted(None), smtp=f"smtp://127.0.0.1:{port}", sender="a@example.com"), "b@example.com", BODY, timeout=0.2)


async def test_a_password_is_not_sent_in_the_clear() -> None:
    async with MailServer(wants_login=True) as post_office:
        ways = Ways(trust=trusted(None), smtp=f"smtp://user:hunter2@127.0.0.1:{post_office.port}", sender="a@example.com")
        with pytest.raises(Failed, match="in the clear"):
            await asyncio.to_thread(mail, ways, "b@example.com", BODY)
        assert not any("AUTH" in line for line in post_office.said)


async def test_mail_is_refused_by_name_where_no_server_is_set(server: Server) -> None:
    made = await channel(server, "ops@example.com", type="email")
    await ended(server)
    await told(server)
    [row] = (await server.ask("GET", f"/api/outlast/v1/alerts/{made['id']}/deliveries")).json()["data"]
    assert "OUTLAST_SMTP" in row["error"]
