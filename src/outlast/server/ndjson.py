"""Lines of JSON as they arrive: never more than one line and one chunk in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from outlast.server.problem import Problem

IDLE_SECONDS = 30  # between two chunks of a body; a client that is slower has gone, or does not mean well


async def lines(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Every line that is not empty, without its end.

    Raises:
        Problem: 413 for a line over the limit, 408 when nothing comes, 400 when the body was cut off.
    """
    held = bytearray()
    async for chunk in chunks(request):
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            held += chunk[start:end]
            _check(held, limit)
            if line := bytes(held).strip():
                yield line
            held.clear()
            start = end + 1
        held += chunk[start:]
        _check(held, limit)
    if line := bytes(held).strip():
        yield line


def _check(held: bytearray, limit: int) -> None:
    if len(held) > limit:
        raise Problem(413, f"a line is longer than {limit} bytes", code="too_large")


async def chunks(request: Request, idle_seconds: float = IDLE_SECONDS) -> AsyncIterator[bytes]:
    """The body piece by piece."""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Problem(408, "the body did not arrive in time", retry=True, headers={"connection": "close"}) from error
        except ClientDisconnect as error:
            raise Problem(400, "the body was cut off", code="invalid_json") from error
        yield chunk
