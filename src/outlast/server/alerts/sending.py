"""What is sent to a channel, and how: signed webhooks, Slack's kind of webhook, mail."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from outlast.model.alert import AlertChannel, Delivery
from outlast.model.run import Run, RunData
from outlast.server import wire
from outlast.server.alerts.outbound import TIMEOUT_SECONDS, Network, post
from outlast.server.push import iso
from outlast.store.catalog import Environment
from outlast.store.deployments import Deployment

VERSION = "2025-01-01"
About = tuple[Run, RunData] | tuple[Deployment, list[str]] | None  # a run, a version and its tasks; None: gone, or a queue


class Failed(Exception):
    """It was not taken; the message says why."""


def content(d: Delivery, env: Environment, about: About) -> dict[str, Any]:
    """The body of a webhook, with Trigger.dev's outer form."""
    kind = d.event if d.event == "run.finished" else f"alert.{d.event}"
    found: dict[str, Any] = {"environment": {"id": str(env.id), "slug": env.slug, "type": env.type}}
    match d.event, about:
        case "queue.latency", _:
            queue, _, oldest = d.ref.rpartition("@")
            found["queue"] = {"name": queue, "oldestQueuedAt": iso(int(oldest))}
        case _, (Deployment() as deployment, list(tasks)):
            found |= _deployment(deployment, tasks)
        case _, (Run() as run, RunData() as data):
            found |= _run(run, data)
        case _:
            found["deployment" if d.event == "deployment.success" else "run"] = {"id": d.ref}
    if d.grouped:
        found["grouped"] = d.grouped
    return {"id": d.id, "created": iso(d.created_at), "webhookVersion": VERSION, "type": kind, "object": found}


def trial(id_: str, env: Environment, now: int) -> dict[str, Any]:
    """What is sent when somebody tries a channel."""
    about = {"environment": {"id": str(env.id), "slug": env.slug, "type": env.type}, "message": "this is a test of your alert channel"}
    return {"id": id_, "created": iso(now), "webhookVersion": VERSION, "type": "alert.test", "object": about}


def _run(run: Run, data: RunData) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": run.id, "status": run.status.value, "createdAt": iso(run.created_at), "startedAt": iso(run.started_at),
        "completedAt": iso(run.finished_at), "isTest": run.is_test, "tags": sorted(data.options.tags),
        "idempotencyKey": data.options.idempotency_key, "attempts": run.attempt,
    }  # fmt: skip
    if data.error is not None:
        shown["error"] = wire.error(data.error)
    return {"task": {"id": run.task, "version": run.version}, "run": shown}


def _deployment(deployment: Deployment, tasks: list[str]) -> dict[str, Any]:
    shown = {
        "version": deployment.version, "shortCode": deployment.digest[:8], "status": deployment.status,
        "deployedAt": iso(deployment.created_at),
    }  # fmt: skip
    return {"deployment": shown, "tasks": [{"id": task} for task in tasks]}


def summary(body: dict[str, Any]) -> str:
    """One line for people."""
    about, env = body["object"], body["object"]["environment"]["slug"]
    if "message" in about:
        return f"[{env}] {about['message']}"
    if "queue" in about:
        return f"[{env}] queue {about['queue']['name']} is slow: its oldest run waits since {about['queue']['oldestQueuedAt']}"
    if "deployment" in about:
        return f"[{env}] version {about['deployment'].get('version')} is there, with {len(about.get('tasks', []))} tasks"
    run, task = about["run"], about.get("task", {}).get("id", "?")
    more = f" (and {about['grouped']} more)" if "grouped" in about else ""
    error: dict[str, Any] = run.get("error") or {}
    reason = f": {error.get('name') or ''} {error.get('message') or ''}".rstrip() if error else ""
    return f"[{env}] {task} {run.get('status', '')} {run['id']}{more}{reason}"[:2_000]


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How alerts leave. `allowed` networks are asked although they are private; `smtp` and `sender` are for mail."""

    allowed: Sequence[Network] = ()
    trust: ssl.SSLContext
    smtp: str | None = None
    sender: str


async def send(channel: AlertChannel, body: dict[str, Any], *, secret: str, now: int, ways: Ways) -> None:
    """
    Raises:
        Exception: it was not taken; whatever the network or the other side said.
    """
    match channel.type:
        case "webhook":
            text = msgspec.json.encode(body)
            await _post(channel.target, text, signatures(text, secret, body["id"], now), ways)
        case "slack":
            await _post(channel.target, msgspec.json.encode({"text": escaped(summary(body))}), {}, ways)
        case "email":
            await asyncio.get_running_loop().run_in_executor(None, mail, ways, channel.target, body)


async def _post(url: str, text: bytes, headers: dict[str, str], ways: Ways) -> None:
    status = await post(url, text, headers, ways.allowed, ways.trust)
    if not 200 <= status < 300:
        raise Failed(f"the address answered {status}")


def signatures(body: bytes, secret: str, id_: str, now: int) -> dict[str, str]:
    """Ours signs the time too, against replays; the other is how Trigger.dev's clients verify."""
    seconds = str(now // 1_000)
    ours = hmac.digest(secret.encode(), seconds.encode() + b"." + body, hashlib.sha256).hex()
    theirs = hmac.digest(secret.encode(), body, hashlib.sha256).hex()
    return {
        "x-outlast-event-id": id_,
        "x-outlast-timestamp": seconds,
        "x-outlast-signature": f"v1={ours}",
        "x-trigger-signature-hmacsha256": theirs,
    }


def escaped(text: str) -> str:
    """Slack reads `<…>` as links and mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def mail(ways: Ways, to: str, body: dict[str, Any], timeout: float = TIMEOUT_SECONDS) -> None:
    """Plain text over `smtp://user:password@host:587`, with TLS where the server has it; `smtps://` begins with it.

    Raises:
        Failed: no mail server is named, or it wants a password in the clear.
        OSError, smtplib.SMTPException: what the network or the server said.
    """
    if ways.smtp is None:
        raise Failed("this server sends no mail: set OUTLAST_SMTP")
    where = urlsplit(ways.smtp)
    message = EmailMessage()
    message["From"], message["To"] = ways.sender, to
    message["Subject"] = " ".join(summary(body).split())[:200]
    message["Message-ID"] = f"<{body['id']}@outlast>"
    message.set_content(summary(body) + "\n\n" + msgspec.json.format(msgspec.json.encode(body)).decode())
    host, secure = where.hostname or "localhost", where.scheme == "smtps"
    opened = (
        smtplib.SMTP_SSL(host, where.port or 465, timeout=timeout, context=ways.trust)
        if secure
        else smtplib.SMTP(host, where.port or 25, timeout=timeout)
    )
    with opened as server:
        server.ehlo()
        if not secure and server.has_extn("starttls"):
            server.starttls(context=ways.trust)
            server.ehlo()
            secure = True
        if where.username and not secure:
            raise Failed("the mail server has no TLS, and a password is not sent in the clear: use one that has, or no user")
        if where.username:
            server.login(unquote(where.username), unquote(where.password or ""))
        server.send_message(message)
