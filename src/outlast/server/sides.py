"""A worker's writes beside the journal as the engine takes them, checked: they come from a process that runs user code."""

from __future__ import annotations

import msgspec

from outlast.model.limits import MAX_SIDE_ITEMS
from outlast.model.messages import Side
from outlast.model.metadata import AnyOp
from outlast.model.refusal import Refusal
from outlast.model.requests import SideWrite

MAX_TARGET_CHARS = 512
_op = msgspec.json.Decoder(AnyOp).decode


def write_of(side: Side) -> SideWrite | Refusal:
    kind, _, whose = side.target.partition("/")
    if not 1 <= len(side.items) <= MAX_SIDE_ITEMS or kind != "metadata" or not whose or len(side.target) > MAX_TARGET_CHARS:
        return Refusal("invalid", f"1 to {MAX_SIDE_ITEMS} writes to metadata")
    try:
        ops = [_op(item.value) for item in side.items]
    except msgspec.DecodeError as error:
        return Refusal("invalid", f"a malformed metadata operation: {error}")
    return SideWrite(
        run_id=side.run_id, epoch=side.epoch, journal=side.journal, target=side.target, whose=whose, items=side.items, ops=ops
    )  # fmt: skip
