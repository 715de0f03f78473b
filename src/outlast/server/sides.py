"""A worker's writes beside the journal as the engine takes them, checked: they come from a process that runs user code."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from outlast.model.limits import MAX_CHUNK_BYTES, MAX_SIDE_ITEMS, MAX_STREAM_KEY_CHARS
from outlast.model.messages import Side
from outlast.model.metadata import AnyOp
from outlast.model.refusal import Refusal
from outlast.model.requests import SideWrite
from outlast.server import body as bodies
from outlast.server.problem import Problem, invalid

MAX_TARGET_CHARS = 512
_op = msgspec.json.Decoder(AnyOp).decode


def write_of(side: Side) -> SideWrite | Refusal:
    kind, _, rest = side.target.partition("/")
    whose, _, key = rest.partition("/")
    if not 1 <= len(side.items) <= MAX_SIDE_ITEMS or not whose or len(side.target) > MAX_TARGET_CHARS:
        return Refusal("invalid", f"1 to {MAX_SIDE_ITEMS} writes to metadata or a stream")
    made = SideWrite(run_id=side.run_id, epoch=side.epoch, journal=side.journal, target=side.target, whose=whose, items=side.items)
    try:
        if kind == "stream":
            for item in side.items:
                check_chunk(item.value.encode())
            return replace(made, stream=stream_key(key))
        return replace(made, ops=[_op(item.value) for item in side.items])
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        return Refusal("invalid", f"a malformed write: {error}")
    except Problem as problem:
        return Refusal("invalid", problem.message)


def stream_key(key: str) -> str:
    """The name of a stream.

    Raises:
        Problem: 400, it is none.
    """
    if not 1 <= len(key) <= MAX_STREAM_KEY_CHARS or not key.isprintable() or "/" in key:
        raise invalid(f"the key of a stream has 1 to {MAX_STREAM_KEY_CHARS} printable characters and no /", "key")
    return key


def check_chunk(body: bytes) -> None:
    """One chunk of a stream: JSON that can be kept.

    Raises:
        Problem: 413 too large, 400 not JSON.
    """
    if len(body) > MAX_CHUNK_BYTES:
        raise Problem(413, f"a chunk of a stream has at most {MAX_CHUNK_BYTES} bytes")
    bodies.guard(body)
    try:
        msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise Problem(400, f"a chunk of a stream is not JSON: {error}", code="invalid_json") from error
