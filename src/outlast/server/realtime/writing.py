"""Writing to a stream: declare it, send chunks line by line while they are made, append one part, send a value to a run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from outlast.engine import streams as engine
from outlast.engine.streams import INPUT
from outlast.model.limits import MAX_APPEND_BYTES, MAX_CHUNK_BYTES
from outlast.model.refusal import Refusal
from outlast.model.streams import AppendStream, Part
from outlast.server import body as bodies
from outlast.server.api.runs import found
from outlast.server.context import accepted, answer, of
from outlast.server.problem import Problem, invalid
from outlast.server.sides import check_chunk, stream_key
from outlast.store import streams

GATHERED_BYTES = 64 * 1024  # of lines that have arrived, stored together
MAX_WRITER_CHARS = 256


async def _target(request: Request) -> tuple[int, str]:
    """(environment, run) whose stream it is: the run of the path, its parent or its root.

    Raises:
        Problem: 404, 400.
    """
    run, _, caller = await found(request)
    ids = {"self": run.id, "parent": run.parent_id or run.id, "root": run.root_id or run.id}
    target = ids.get(request.path_params["target"])
    if target is None:
        raise invalid("target must be self, parent or root", "target")
    return caller.env.id, target


async def _append(request: Request, env_id: int, run_id: str, key: str, parts: list[Part]) -> None:
    outcome = await of(request).engine.call(engine.append, AppendStream(env_id=env_id, run_id=run_id, key=key, parts=parts))
    if isinstance(outcome, Refusal) and outcome.code == "run_final":
        raise Problem(400, outcome.message, code=outcome.code)
    accepted(outcome)


async def declare(request: Request) -> Response:
    """PUT /realtime/v1/streams/{run}/{target}/{key}: subscribers of the run see that there is this stream."""
    env_id, run_id = await _target(request)
    await _append(request, env_id, run_id, stream_key(request.path_params["key"]), [])
    return answer({"version": "v1"}, 202)  # v2 would ask the writer to speak to an S2 server


async def write(request: Request) -> Response:
    """POST /realtime/v1/streams/{run}/{target}/{key}: one JSON chunk a line, seen by readers while the request is open."""
    env_id, run_id = await _target(request)
    key, writer = stream_key(request.path_params["key"]), _writer(request, "x-client-id")
    first = request.headers.get("x-resume-from-chunk", "0")
    if not first.isdecimal() or len(first) > 15:
        raise invalid("X-Resume-From-Chunk must be the number of a chunk", "X-Resume-From-Chunk")
    index = int(first)
    try:
        async for lines in _lines(request):
            for line in lines:
                check_chunk(line)
            parts = [Part(body=line.decode(), writer=writer, index=index + i) for i, line in enumerate(lines)]
            await _append(request, env_id, run_id, key, parts)
            index += len(parts)
    except ClientDisconnect:
        pass  # what has arrived is kept; the writer asks how far it came, and goes on
    return answer({"ok": True})


async def _lines(request: Request) -> AsyncIterator[list[bytes]]:
    """Whole lines as they arrive, some together when they come fast."""
    rest, lines, size = b"", list[bytes](), 0
    async for piece in request.stream():
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > MAX_CHUNK_BYTES:
            raise Problem(413, f"a chunk of a stream has at most {MAX_CHUNK_BYTES} bytes")
        for line in whole:
            if line.strip():
                lines.append(line)
                size += len(line)
            if size > GATHERED_BYTES:
                yield lines
                lines, size = [], 0
        if lines:
            yield lines
            lines, size = [], 0
    if rest.strip():
        yield [rest]


async def last_chunk(request: Request) -> Response:
    """HEAD /realtime/v1/streams/{run}/{target}/{key}: how far the writer has come."""
    _, run_id = await _target(request)
    key, writer = stream_key(request.path_params["key"]), _writer(request, "x-client-id")
    known = await of(request).engine.read(lambda tx: streams.writers(tx, (run_id, key), [writer] if writer else []))
    return Response(headers={"x-last-chunk-index": str(known.get(writer or "", -1))})


async def append(request: Request) -> Response:
    """POST /realtime/v1/streams/{run}/{target}/{key}/append: the body is one chunk, a text; X-Part-Id makes a repeat harmless."""
    env_id, run_id = await _target(request)
    key, part = stream_key(request.path_params["key"]), _writer(request, "x-part-id")
    raw = await bodies.read(request, MAX_APPEND_BYTES)
    try:
        text = msgspec.json.encode(raw.decode()).decode()
    except UnicodeDecodeError as error:
        raise Problem(400, "the body is not UTF-8") from error
    if "\\u0000" in text:
        raise Problem(400, "the body holds a NUL character, which is no text")
    await _append(request, env_id, run_id, key, [Part(body=text, id=part, writer=f"part {part}" if part else None)])
    return answer({"ok": True})


def _writer(request: Request, header: str) -> str | None:
    found = request.headers.get(header)
    if found is not None and not (1 <= len(found) <= MAX_WRITER_CHARS and found.isprintable()):
        raise invalid(f"{header} has 1 to {MAX_WRITER_CHARS} printable characters", header)
    return found


async def send(request: Request) -> Response:
    """POST /realtime/v1/streams/{run}/input/{key}: a value for a run, which waits for it or finds it later."""
    caller = await of(request).caller(request, public=True)
    run_id = request.path_params["run"]
    caller.need("write", ("inputStreams", run_id))
    key = INPUT + stream_key(request.path_params["key"])
    bodies.check_type(request)
    raw = await bodies.read(request, MAX_CHUNK_BYTES + 1_024)
    body = bodies.decode(raw, _body)
    if len(body.data) > MAX_CHUNK_BYTES:
        raise Problem(413, f"a value sent to a run has at most {MAX_CHUNK_BYTES} bytes")
    try:
        await _append(request, caller.env.id, run_id, key, [Part(body=bytes(body.data).decode())])
    except Problem as problem:
        if problem.status not in (400, 404):
            raise
        return answer({"ok": False, "error": problem.message}, problem.status, {"x-should-retry": "false"})
    return answer({"ok": True})


class SendBody(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"null")


_body = msgspec.json.Decoder(SendBody)
