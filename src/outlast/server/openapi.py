"""The API's own description, made from its routes and message types: `/api/openapi.json`, and a page to read at `/api/docs`."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypedDict, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outlast.client import answers, requests
from outlast.server import options
from outlast.server.api import batch_items, batches, deployments, own, queues, run_list, runs, schedules, tasks, tokens
from outlast.server.context import answer
from outlast.version import __version__

PAGE = ("page[size]", "page[after]", "page[before]")
TIMES = tuple(f"filter[createdAt][{name}]" for name in ("from", "to", "period"))
RUN_FILTERS = tuple(
    f"filter[{name}]"
    for name in ("status", "taskIdentifier", "version", "tag", "queue", "batch", "schedule", "isTest", "machine", "region")
)


def _documented(name: str, struct: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The same fields by their wire names; what is read as raw JSON may be anything."""
    fields: list[Any] = []
    for f in msgspec.structs.fields(struct):
        kind = Any if f.type is msgspec.Raw else f.type
        fields.append((f.encode_name, kind) if f.required else (f.encode_name, kind, msgspec.UNSET))
    return msgspec.defstruct(name, fields)


TriggerOptions = _documented("TriggerOptions", options.TriggerOptions)
CreateBatch = _documented("CreateBatch", batch_items.CreateBody)
CreateToken = _documented("CreateToken", tokens.CreateBody)
ChangeMetadata = _documented("ChangeMetadata", runs.MetadataBody)
SaveSchedule = _documented("SaveSchedule", schedules.Body)


class TriggerRequest(msgspec.Struct):
    payload: Any = msgspec.UNSET
    options: TriggerOptions | msgspec.UnsetType = msgspec.UNSET  # pyright: ignore[reportInvalidTypeForm]


class ItemRequest(TriggerRequest):
    task: str = ""


class BatchRequest(msgspec.Struct):
    items: list[ItemRequest]


class Handle(msgspec.Struct, rename="camel"):
    id: str
    is_cached: bool


class BatchMade(Handle, rename="camel"):
    run_count: int


class Done(msgspec.Struct):
    success: bool


class Id(msgspec.Struct):
    id: str


class Error(msgspec.Struct):
    """On Trigger.dev's routes `error` is a text; below /api/outlast/ an object with type, code, message and request_id."""

    error: Any
    code: str = ""


class Page(TypedDict):
    data: list[Any]
    pagination: dict[str, Any]


@dataclass(frozen=True)
class Doc:
    """What a handler takes and gives, as types. `many`: a page of answers."""

    body: Any = None
    gives: Any = None
    many: bool = False
    query: Sequence[str] = ()
    status: int = 200


Handler = Callable[..., Any]
_DOCS: Mapping[Handler, Doc] = {
    tasks.trigger: Doc(TriggerRequest, Handle),
    tasks.batch_v2: Doc(BatchRequest, BatchMade, status=202),
    batch_items.create: Doc(CreateBatch, BatchMade, status=202),
    batches.retrieve: Doc(gives=answers.BatchState),
    runs.retrieve: Doc(gives=answers.Run),
    runs.reschedule: Doc(TypedDict("Reschedule", {"delay": str}), answers.Run),
    runs.cancel: Doc(gives=Id),
    runs.replay: Doc(gives=Id),
    runs.tags: Doc(TypedDict("Tags", {"tags": list[str]})),
    runs.change_metadata: Doc(ChangeMetadata),
    run_list.listing: Doc(gives=answers.Run, many=True, query=(*PAGE, *RUN_FILTERS, *TIMES)),
    own.wait_for_result: Doc(gives=requests.Outcome, query=("wait",)),
    own.logs: Doc(query=("after", "limit")),
    tokens.create: Doc(CreateToken, Handle),
    tokens.retrieve: Doc(gives=answers.Token),
    tokens.listing: Doc(gives=answers.Token, many=True, query=(*PAGE, "filter[status]", "filter[tags]", "filter[idempotencyKey]")),
    tokens.complete: Doc(tokens.CompleteBody, Done),
    queues.listing: Doc(gives=answers.QueueState, many=True, query=("page", "perPage")),
    queues.retrieve: Doc(gives=answers.QueueState, query=("type",)),
    queues.pause: Doc(TypedDict("PauseQueue", {"type": str, "action": str}), answers.QueueState),
    queues.override: Doc(TypedDict("OverrideQueue", {"type": str, "concurrencyLimit": int}), answers.QueueState),
    queues.reset: Doc(TypedDict("ResetQueue", {"type": str}), answers.QueueState),
    deployments.listing: Doc(gives=answers.DeploymentState, many=True, query=(*PAGE, "status", "from", "to", "period")),
    deployments.retrieve: Doc(gives=answers.DeploymentState),
    schedules.create: Doc(SaveSchedule),
    schedules.update: Doc(SaveSchedule),
}
_FIRST = re.compile(r"^[A-Z]+ (?:/\S*|[^:]*?)(?:: (.*))?$")
# what answers carry on the wire where Python's client gives another shape
_RUN_ERROR = {"type": "object", "properties": {"message": {"type": "string"}, "name": {"type": "string"}, "stackTrace": {"type": "string"}}}


@cache
def describe(table: tuple[tuple[str, str, Handler], ...]) -> dict[str, Any]:
    """The document for these routes."""
    types = [Error, Page, *(t for doc in _DOCS.values() for t in (doc.body, doc.gives) if t is not None)]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = {id(t): schema for t, schema in zip(types, schemas, strict=True)}
    components["RunError"] = _RUN_ERROR
    paths: dict[str, dict[str, Any]] = {}
    for method, path, handler in table:
        if method == "HEAD":
            continue
        plain = re.sub(r":path\}", "}", path)
        paths.setdefault(plain, {})[method.lower()] = _operation(method, plain, handler, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Outlast", "version": __version__, "description": "Trigger.dev v4's API, and Outlast's own below /api/outlast/."},
        "security": [{"key": []}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(method: str, path: str, handler: Handler, by_type: Mapping[int, Any]) -> dict[str, Any]:
    doc = _DOCS.get(handler, Doc())
    parameters = [_parameter("path", name) for name in re.findall(r"\{(\w+)\}", path)]
    found: dict[str, Any] = {
        "summary": _summary(handler) or f"{handler.__name__.strip('_').replace('_', ' ').capitalize()} ({_tag(path)})",
        "tags": [_tag(path)],
        "operationId": f"{method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', path)}",
        "parameters": parameters + [_parameter("query", name) for name in doc.query],
        "responses": {
            str(doc.status): {"description": "Done", **_content(doc, by_type)},
            "default": {"description": "Refused", **_error(by_type)},
        },
    }
    if doc.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": by_type[id(doc.body)]}}}
    return found


def _content(doc: Doc, by_type: Mapping[int, Any]) -> dict[str, Any]:
    if doc.gives is None:
        return {}
    schema = by_type[id(doc.gives)]
    if doc.many:
        page = {"data": {"type": "array", "items": schema}, "pagination": {"type": "object"}}
        schema = {"type": "object", "properties": page, "required": ["data", "pagination"]}
    return {"content": {"application/json": {"schema": schema}}}


def _error(by_type: Mapping[int, Any]) -> dict[str, Any]:
    schema = by_type[id(Error)]
    return {"content": {"application/json": {"schema": schema}, "application/problem+json": {"schema": schema}}}


def _parameter(place: str, name: str) -> dict[str, Any]:
    return {"in": place, "name": name, "required": place == "path", "schema": {"type": "string"}}


def _summary(handler: Handler) -> str:
    """What the handler's own first line says behind its route, if anything."""
    line = (handler.__doc__ or "").strip().splitlines()[0] if handler.__doc__ else ""
    found = _FIRST.fullmatch(line)
    said = (found[1] if found else line) or ""
    return said[:1].upper() + said[1:]


def _tag(path: str) -> str:
    parts = [part for part in path.split("/") if part and not re.fullmatch(r"v\d+|api|outlast", part)]
    return parts[0] if parts else "server"


def document(table: Sequence[tuple[str, str, Handler]]) -> Callable[[Request], Any]:
    async def openapi(_: Request) -> Response:
        """GET /api/openapi.json: this description"""
        return answer(describe(tuple(table)))

    return openapi


def page(table: Sequence[tuple[str, str, Handler]]) -> Callable[[Request], Any]:
    async def docs(_: Request) -> Response:
        """GET /api/docs: this description, to read"""
        headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"}
        return Response(_rendered(describe(tuple(table))), headers={**headers, "content-type": "text/html; charset=utf-8"})

    return docs


_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
code,pre{font:13px ui-monospace,monospace}pre{overflow:auto;padding:.75rem;background:#8881;border-radius:6px}
summary{cursor:pointer;padding:.3rem 0}summary b{display:inline-block;width:4.5rem}h2{margin-top:2rem;text-transform:capitalize}"""


def _rendered(document: dict[str, Any]) -> str:
    groups: dict[str, list[str]] = {}
    for path, operations in cast("dict[str, dict[str, Any]]", document["paths"]).items():
        for method, operation in operations.items():
            groups.setdefault(operation["tags"][0], []).append(_details(method, path, operation))
    body = "".join(f"<h2>{html.escape(tag)}</h2>{''.join(found)}" for tag, found in sorted(groups.items()))
    schemas = "".join(
        f"<details id='{html.escape(name)}'><summary>{html.escape(name)}</summary>{_json(schema)}</details>"
        for name, schema in sorted(document["components"]["schemas"].items())
    )
    title = f"Outlast API {html.escape(document['info']['version'])}"
    head = f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title>"
    intro = "<p>Send <code>Authorization: Bearer</code> and a key. The same as a file: <a href='/api/openapi.json'>openapi.json</a></p>"
    return f"{head}<style>{_STYLE}</style><h1>{title}</h1>{intro}{body}<h2>Types</h2>{schemas}</html>"


def _details(method: str, path: str, operation: dict[str, Any]) -> str:
    shown = {name: operation[name] for name in ("parameters", "requestBody", "responses") if operation.get(name)}
    summary = f"<b>{method.upper()}</b> <code>{html.escape(path)}</code> {html.escape(operation['summary'])}"
    return f"<details><summary>{summary}</summary>{_json(shown)}</details>"


def _json(value: Any) -> str:
    return f"<pre>{html.escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())}</pre>"
