"""Every endpoint as a request and the reading of its answer. No IO: the connection sends, blocking or not."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

import msgspec

from outlast.client.answers import (
    BatchHandle,
    BatchState,
    DeploymentState,
    LogLine,
    Page,
    QueueState,
    Run,
    RunHandle,
    Token,
    TokenHandle,
    parse_run,
)
from outlast.model import payload as packets
from outlast.results import RunError

T = TypeVar("T")
Headers = Mapping[str, str]
QueueKind = Literal["id", "task", "custom"]


class Request(Generic[T]):
    """One call. Its id stays the same over all its tries, so that the server does the work once."""

    __slots__ = ("body", "headers", "id", "is_anonymous", "is_held", "method", "parse", "path", "query")

    def __init__(
        self,
        method: str,
        path: str,
        parse: Callable[[bytes, Headers], T],
        *,
        json: Any = None,
        content: bytes | None = None,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        is_anonymous: bool = False,
        is_held: bool = False,
    ) -> None:
        self.method = method
        self.path = path
        self.parse = parse
        self.body = content if json is None else msgspec.json.encode(json)
        self.query = query
        self.headers = headers or {}
        self.is_anonymous = is_anonymous  # an address that is its own proof, perhaps of another host: the key stays here
        self.is_held = is_held  # a long poll: its answer comes when something happens
        self.id = str(uuid.uuid4())


def _decode(content: bytes) -> Any:
    return msgspec.json.decode(content)


def trigger(task: str, body: dict[str, Any]) -> Request[RunHandle[Any]]:
    def parse(content: bytes, headers: Headers) -> RunHandle[Any]:
        answer = _decode(content)
        return RunHandle(answer["id"], answer.get("isCached", False), headers.get("x-trigger-jwt", ""), task)

    return Request("POST", f"/api/v1/tasks/{quote(task, safe='')}/trigger", parse, json=body)


def batch(items: list[dict[str, Any]], options: dict[str, Any] | None = None) -> Request[BatchHandle]:
    def parse(content: bytes, headers: Headers) -> BatchHandle:
        answer = _decode(content)
        return BatchHandle(answer["id"], answer.get("runCount", len(items)), headers.get("x-trigger-jwt", ""))

    return Request("POST", "/api/v2/tasks/batch", parse, json={"items": items, **(options or {})})


def retrieve_run(run_id: str) -> Request[Run]:
    return Request("GET", f"/api/v3/runs/{quote(run_id, safe='')}", lambda content, _: parse_run(_decode(content)))


def download(url: str) -> Request[Any]:
    """A large value, as plain JSON."""

    def parse(content: bytes, headers: Headers) -> Any:
        return packets.to_json(content.decode(), headers.get("content-type", packets.JSON).partition(";")[0])

    return Request("GET", url, parse, is_anonymous=True)


def list_runs(query: dict[str, str]) -> Request[Page[Run]]:
    def parse(content: bytes, _: Headers) -> Page[Run]:
        answer = _decode(content)
        return Page([parse_run(row) for row in answer["data"]], answer["pagination"].get("next"))

    return Request("GET", "/api/v1/runs", parse, query=query)


def _id(content: bytes, _: Headers) -> str:
    return _decode(content)["id"]


def cancel_run(run_id: str) -> Request[str]:
    return Request("POST", f"/api/v2/runs/{quote(run_id, safe='')}/cancel", _id)


def replay_run(run_id: str, overrides: dict[str, Any]) -> Request[RunHandle[Any]]:
    return Request("POST", f"/api/v1/runs/{quote(run_id, safe='')}/replay", lambda c, _: RunHandle(_decode(c)["id"]), json=overrides)


def reschedule_run(run_id: str, delay: str | datetime) -> Request[Run]:
    body = {"delay": delay if isinstance(delay, str) else delay.isoformat()}
    return Request("POST", f"/api/v1/runs/{quote(run_id, safe='')}/reschedule", lambda c, _: parse_run(_decode(c)), json=body)


def add_tags(run_id: str, tags: list[str]) -> Request[None]:
    return Request("POST", f"/api/v1/runs/{quote(run_id, safe='')}/tags", lambda c, _: None, json={"tags": tags})


class Outcome(msgspec.Struct, frozen=True, rename="camel"):
    """What our own long poll answers."""

    done: bool
    id: str
    ok: bool = False
    task_identifier: str = ""
    status: str = ""
    output: str | None = None
    output_type: str = packets.JSON
    error: dict[str, Any] | None = None


_outcome = msgspec.json.Decoder(Outcome).decode


# Trigger.dev's own servers leave EXPIRED and TIMED_OUT out of `isCompleted`
_FINAL = frozenset({"COMPLETED", "CANCELED", "FAILED", "CRASHED", "SYSTEM_FAILURE", "EXPIRED", "TIMED_OUT"})


def outcome_of(run: Run) -> Outcome:
    """What a server without our long poll says of a run."""
    output = None if run.output is None else msgspec.json.encode(run.output).decode()
    error = run.error and {"name": run.error.name, "message": run.error.message, "stackTrace": run.error.stack, "code": run.error.code}
    return Outcome(
        done=run.status in _FINAL, id=run.id, ok=run.is_success, task_identifier=run.task_identifier, status=run.status, output=output,
        error=error,
    )  # fmt: skip


def run_result(run_id: str, wait_seconds: int) -> Request[Outcome]:
    path = f"/api/outlast/v1/runs/{quote(run_id, safe='')}/result"
    return Request("GET", path, lambda c, _: _outcome(c), query={"wait": str(wait_seconds)}, is_held=True)


def batch_outcomes(batch_id: str) -> Request[list[Outcome]]:
    """Of every item, in order; those that are not over say so."""
    path = f"/api/outlast/v1/batches/{quote(batch_id, safe='')}/outcomes"
    return Request("GET", path, lambda c, _: msgspec.json.decode(c, type=list[Outcome]))


def run_error(outcome: Outcome) -> RunError:
    error = outcome.error or {}
    message = error.get("message") or f"the run ended as {outcome.status}"
    return RunError(error.get("name") or error.get("code") or outcome.status, message, error.get("stackTrace"), error.get("code") or "")


def run_logs(run_id: str, after: int, limit: int) -> Request[Page[LogLine]]:
    def parse(content: bytes, _: Headers) -> Page[LogLine]:
        answer = _decode(content)
        following = answer.get("next")
        return Page(msgspec.convert(answer["data"], list[LogLine]), None if following is None else str(following))

    path = f"/api/outlast/v1/runs/{quote(run_id, safe='')}/logs"
    return Request("GET", path, parse, query={"after": str(after), "limit": str(limit)})


def retrieve_batch(batch_id: str) -> Request[BatchState]:
    return Request("GET", f"/api/v2/batches/{quote(batch_id, safe='')}", lambda c, _: msgspec.json.decode(c, type=BatchState))


def _queue_path(name: str, rest: str = "") -> str:
    # as Trigger.dev's client does: slashes first, then everything, so a slash arrives encoded twice
    return f"/api/v1/queues/{quote(name.replace('/', '%2F'), safe='')}{rest}"


def _queue(content: bytes, _: Headers) -> QueueState:
    return msgspec.json.decode(content, type=QueueState)


def list_queues(page: int, page_size: int) -> Request[Page[QueueState]]:
    def parse(content: bytes, _: Headers) -> Page[QueueState]:
        answer = _decode(content)
        more = answer["pagination"]["currentPage"] < answer["pagination"]["totalPages"]
        return Page(msgspec.convert(answer["data"], list[QueueState]), str(page + 1) if more else None)

    return Request("GET", "/api/v1/queues", parse, query={"page": str(page), "perPage": str(page_size)})


def retrieve_queue(name: str, kind: QueueKind) -> Request[QueueState]:
    return Request("GET", _queue_path(name), _queue, query={"type": kind})


def pause_queue(name: str, kind: QueueKind, action: Literal["pause", "resume"]) -> Request[QueueState]:
    return Request("POST", _queue_path(name, "/pause"), _queue, json={"type": kind, "action": action})


def override_queue(name: str, kind: QueueKind, limit: int) -> Request[QueueState]:
    return Request("POST", _queue_path(name, "/concurrency/override"), _queue, json={"type": kind, "concurrencyLimit": limit})


def reset_queue(name: str, kind: QueueKind) -> Request[QueueState]:
    return Request("POST", _queue_path(name, "/concurrency/reset"), _queue, json={"type": kind})


class StreamRecord(msgspec.Struct, frozen=True):
    seq: int
    data: msgspec.Raw


class StreamPart(msgspec.Struct, frozen=True):
    """Records of a stream; `next` is the number of what follows, `done`: the run is over and this was all."""

    records: list[StreamRecord]
    next: int
    done: bool


_part = msgspec.json.Decoder(StreamPart).decode


def poll_stream(run_id: str, key: str, start: int, wait_seconds: int) -> Request[StreamPart]:
    path = f"/api/outlast/v1/runs/{quote(run_id, safe='')}/streams/{quote(key, safe='')}"
    return Request("GET", path, lambda c, _: _part(c), query={"start": str(start), "wait": str(wait_seconds)}, is_held=True)


def write_stream(run_id: str, key: str, lines: list[str], writer: str, index: int) -> Request[None]:
    path = f"/realtime/v1/streams/{quote(run_id, safe='')}/self/{quote(key, safe='')}"
    headers = {"content-type": "application/x-ndjson", "x-client-id": writer, "x-resume-from-chunk": str(index)}
    return Request("POST", path, lambda c, _: None, content="\n".join(lines).encode(), headers=headers)


def send_input(run_id: str, key: str, data: str) -> Request[None]:
    path = f"/realtime/v1/streams/{quote(run_id, safe='')}/input/{quote(key, safe='')}"
    return Request("POST", path, lambda c, _: None, json={"data": msgspec.Raw(data.encode())})


def whoami() -> Request[dict[str, Any]]:
    return Request("GET", "/api/outlast/v1/whoami", lambda c, _: _decode(c))


def public_token(body: dict[str, Any]) -> Request[str]:
    return Request("POST", "/api/v1/auth/public-tokens", lambda c, _: _decode(c)["token"], json=body)


def reset_key(task: str, key: str) -> Request[str]:
    return Request("POST", f"/api/v1/idempotencyKeys/{quote(key, safe='')}/reset", _id, json={"taskIdentifier": task})


def list_deployments(query: dict[str, str]) -> Request[Page[DeploymentState]]:
    def parse(content: bytes, _: Headers) -> Page[DeploymentState]:
        answer = _decode(content)
        return Page(msgspec.convert(answer["data"], list[DeploymentState]), answer["pagination"].get("next"))

    return Request("GET", "/api/v1/deployments", parse, query=query)


def retrieve_deployment(name: str) -> Request[DeploymentState]:
    path = f"/api/v1/deployments/{quote(name, safe='')}"
    return Request("GET", path, lambda c, _: msgspec.json.decode(c, type=DeploymentState))


_TOKENS = "/api/v1/waitpoints/tokens"


def create_token(body: dict[str, Any]) -> Request[TokenHandle]:
    def parse(content: bytes, headers: Headers) -> TokenHandle:
        answer = _decode(content)
        return TokenHandle(answer["id"], answer["url"], headers.get("x-trigger-jwt", ""), answer.get("isCached", False))

    return Request("POST", _TOKENS, parse, json=body)


def _token(row: dict[str, Any]) -> Token:
    output = row.get("output")
    return msgspec.convert({**row, "output": None if output is None else packets.decode(output, packets.JSON)}, Token)


def complete_token(token_id: str, data: str | None) -> Request[None]:
    body = {"data": msgspec.Raw(data.encode())} if data is not None else {}
    return Request("POST", f"{_TOKENS}/{quote(token_id, safe='')}/complete", lambda c, _: None, json=body)


def retrieve_token(token_id: str) -> Request[Token]:
    return Request("GET", f"{_TOKENS}/{quote(token_id, safe='')}", lambda c, _: _token(_decode(c)))


def list_tokens(query: dict[str, str]) -> Request[Page[Token]]:
    def parse(content: bytes, _: Headers) -> Page[Token]:
        answer = _decode(content)
        return Page([_token(row) for row in answer["data"]], answer["pagination"].get("next"))

    return Request("GET", _TOKENS, parse, query=query)
