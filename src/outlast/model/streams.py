"""What the engine is asked of streams."""

from __future__ import annotations

import msgspec

from outlast.model.token import CreateToken


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One chunk of a stream, as JSON. A `writer` numbers its parts from 0, so that what it sends again is dropped."""

    body: str
    id: str | None = None
    writer: str | None = None
    index: int = 0


class AppendStream(msgspec.Struct, frozen=True, kw_only=True):
    env_id: int
    run_id: str
    key: str
    parts: list[Part] = []


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    next_seq: int


class CreateInputToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that the first value sent to a run's input stream after the record `after` completes."""

    run_id: str
    key: str
    after: int
    token: CreateToken
