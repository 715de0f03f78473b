"""What a server holds of what passes through it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from outlast.model.limits import MAX_PAYLOAD_BYTES
from tests.databases import Address
from tests.end_to_end.processes import Cluster

ITEMS = 60
MB = 1024 * 1024


@pytest.mark.full
def test_row_49_a_batch_of_large_items_is_never_held_whole(tmp_path: Path) -> None:
    """It grows by a few copies of four items, whether 20 of them come or 1,000."""
    cluster = Cluster(tmp_path, Address(f"sqlite:///{tmp_path / 'outlast.db'}"))
    try:
        server, port = cluster.server()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {cluster.key}"}, timeout=120) as http:
            batch = http.post("/api/v3/batches", json={"runCount": ITEMS}).json()["id"]
            Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak counts from here
            before = memory(server.pid, "VmRSS")
            sent = http.post(f"/api/v3/batches/{batch}/items", content=large(), headers={"content-type": "application/x-ndjson"})
        assert sent.json()["itemsAccepted"] == ITEMS, sent.text
        assert memory(server.pid, "VmHWM") - before < 100 * MB < ITEMS * MAX_PAYLOAD_BYTES
    finally:
        cluster.stop()


def large() -> Iterator[bytes]:
    payload = "x" * (MAX_PAYLOAD_BYTES - 2)
    for index in range(ITEMS):
        yield json.dumps({"index": index, "task": "t", "payload": payload}).encode() + b"\n"


def memory(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024
