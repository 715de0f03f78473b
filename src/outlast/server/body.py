"""Reading bodies: bounded while they arrive, and JSON that nothing behind it can stumble over."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import ClientDisconnect, Request

from outlast.model.limits import MAX_BODY_BYTES, MAX_INTEGER_DIGITS, MAX_JSON_DEPTH
from outlast.server.problem import Problem, invalid

T = TypeVar("T")

WHOLE = "outlast.whole"  # in the scope of a request whose body arrived with its head: there is nothing to wait for
BODY_SECONDS = 30.0  # for the first byte; a body that trickles costs a place that others need
SLOWEST_BYTES = 10_000  # a second, beside that

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MAX_INTEGER_DIGITS + 1))


async def read(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The body, refused as soon as it is too large.

    Raises:
        Problem: 413 over the limit, 415 when it is compressed, 408 when it is too slow, 400 when it was cut off.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "compressed bodies are not accepted")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise Problem(413, f"the body is larger than {limit} bytes")
    found: list[bytes] = []
    size = 0
    async for chunk in _at_once(request) if WHOLE in request.scope else chunks(request):
        size += len(chunk)
        if size > limit:
            raise Problem(413, f"the body is larger than {limit} bytes")
        found.append(chunk)
    return found[0] if len(found) == 1 else b"".join(found)


async def _at_once(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:
        raise _cut_off() from error


def _cut_off() -> Problem:
    return Problem(400, "the body was cut off", code="invalid_json")


async def chunks(request: Request, *, idle_seconds: float | None = None) -> AsyncIterator[bytes]:
    """The body piece by piece. All of it is due at a pace of a bad line; with `idle_seconds` only each piece is.

    Raises:
        Problem: 408 when it is late, 400 when it was cut off.
    """
    stream, loop = request.stream(), asyncio.get_running_loop()
    due, size = loop.time() + BODY_SECONDS, 0
    while True:
        try:
            async with asyncio.timeout_at(due + size / SLOWEST_BYTES if idle_seconds is None else loop.time() + idle_seconds):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Problem(408, "the body did not arrive in time", retry=True, headers={"connection": "close"}) from error
        except ClientDisconnect as error:
            raise _cut_off() from error
        size += len(chunk)
        yield chunk


def check_type(request: Request) -> None:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind not in ("application/json", ""):
        raise Problem(415, f"content type {kind[:100]!r} is not accepted: send application/json")


def guard(body: bytes) -> None:
    """Refuse JSON that is nested too deep, or holds numbers and texts that cannot be kept.

    Raises:
        Problem: 400, with a code that names what is wrong.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        raise Problem(400, "the body starts with a byte order mark", code="invalid_json")
    try:
        body.decode()  # texts that are only passed on are not looked at by the decoder
    except UnicodeDecodeError as error:
        raise Problem(400, "the body is not UTF-8", code="invalid_json") from error
    if body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH:
        _check_depth(body)
    if len(body) > MAX_INTEGER_DIGITS and _LONG_NUMBER.search(body) and _has_long_number(body):
        raise Problem(400, f"a number has more than {MAX_INTEGER_DIGITS} digits", code="invalid_json")
    if (b"\\ud" in body or b"\\uD" in body) and _has_lone_surrogate(body):
        raise Problem(400, "the body holds a lone surrogate, which is no Unicode text", code="invalid_unicode")


def _check_depth(body: bytes) -> None:
    """In one pass and without recursion: it ends at the first bracket that is too deep."""
    depth = 0
    for match in _TOKEN.finditer(body):
        token = match.group()
        if token in (b"[", b"{"):
            depth += 1
            if depth > MAX_JSON_DEPTH:
                raise Problem(400, f"the body is nested deeper than {MAX_JSON_DEPTH}", code="json_too_deep")
        elif token in (b"]", b"}"):
            depth -= 1


def _has_long_number(body: bytes) -> bool:
    """Long runs of digits inside texts are fine."""
    return bool(_LONG_NUMBER.search(re.sub(rb'"(?:[^"\\]|\\.)*"', b'""', body, flags=re.DOTALL)))


def _has_lone_surrogate(body: bytes) -> bool:
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False  # not JSON at all; the decoder says so
    return False


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """A checked body as a struct.

    Raises:
        Problem: 400, naming the field.
    """
    guard(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise invalid(message, where.rstrip("`").lstrip(".") or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"the body is not JSON: {error}", code="invalid_json") from error


class _Twice(Exception):
    pass


def _pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(found)
    if len(names) != len(found):
        raise _Twice(next(name for name in names if sum(1 for other, _ in found if other == name) > 1))
    return names


_strict = json.JSONDecoder(object_pairs_hook=_pairs)


def no_duplicates(raw: bytes, where: str) -> None:
    """In options the last of two equal keys would win silently: say so instead."""
    try:
        _strict.decode(raw.decode())
    except _Twice as twice:
        name = str(twice)
        raise Problem(400, f"{where} has the key {name!r} twice", code="duplicate_key", param=f"{where}.{name}") from None


async def read_object(request: Request, *, limit: int = 1024 * 1024) -> dict[str, Any]:
    """A small body that is an object; an empty one is {}."""
    check_type(request)
    body = await read(request, limit)
    if not body.strip():
        return {}
    found = decode(body, _any)
    if not isinstance(found, dict):
        raise invalid("the body must be a JSON object")
    return cast("dict[str, Any]", found)


_any: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Any)
