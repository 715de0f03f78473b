"""Uploads that wait to be used: which there are, and what they are. Their bytes are in the payload store."""

from __future__ import annotations

import msgspec

from outlast.store.database import Connection


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """`digest` is the SHA-256 of its bytes."""

    id: str
    env_id: int
    size: int
    content_type: str
    digest: str
    created_at: int


_NAMES = tuple(field.name for field in msgspec.structs.fields(Packet))
_SELECT = f"SELECT {', '.join(_NAMES)} FROM packets"


def add(tx: Connection, packet: Packet) -> None:
    tx.insert("packets", _NAMES, [msgspec.structs.astuple(packet)], or_ignore=True)


def read(tx: Connection, env_id: int, id: str) -> Packet | None:
    rows = tx.all(f"{_SELECT} WHERE id = :id AND env_id = :env", id=id, env=env_id)
    return Packet(**dict(zip(_NAMES, rows[0], strict=True))) if rows else None


def older(tx: Connection, before: int, limit: int) -> list[str]:
    return [
        row[0]
        for row in tx.all("SELECT id FROM packets WHERE created_at < :before ORDER BY created_at LIMIT :limit", before=before, limit=limit)
    ]


def remove(tx: Connection, ids: list[str]) -> None:
    tx.delete("packets", ["id"], [(id_,) for id_ in ids])
