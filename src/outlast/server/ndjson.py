"""Lines of JSON as they arrive: never more than one line and one chunk in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request

from outlast.server.body import chunks
from outlast.server.problem import Problem

IDLE_SECONDS = 300.0  # between two pieces: items may be made while they are sent


async def lines(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Every line that is not empty, without its end.

    Raises:
        Problem: 413 for a line over the limit, 408 when nothing comes, 400 when the body was cut off.
    """
    held = bytearray()
    async for chunk in chunks(request, idle_seconds=IDLE_SECONDS):
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
