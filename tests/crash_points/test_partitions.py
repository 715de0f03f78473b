"""Point 18: a server cut off from PostgreSQL by a network that swallows everything. Real hosts, in network namespaces."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from outlast.client import requests
from outlast.client.address import Address
from outlast.client.connection import Connection
from outlast.client.requests import RunHandle
from outlast.errors import ApiError
from tests.databases import Address as DatabaseAddress
from tests.end_to_end.processes import Cluster, until

ROOT = Path(__file__).parents[2]
can_make_namespaces = os.geteuid() == 0 and shutil.which("ip") is not None


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Far:
    """PostgreSQL on another host: a relay in a namespace, and the cable to it."""

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self.url = url

    def cut(self) -> None:
        """Nothing arrives any more, and nobody says so."""
        ip("-n", self._name, "link", "set", f"{self._name}b", "down")

    def mend(self) -> None:
        ip("-n", self._name, "link", "set", f"{self._name}b", "up")


@contextmanager
def far_away(url: str) -> Iterator[Far]:
    address = urlsplit(url)
    name, net = f"ol{random.randrange(16**6):06x}", f"10.213.{random.randrange(256)}"
    ip("netns", "add", name)
    try:
        ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        ip("addr", "add", f"{net}.1/30", "dev", f"{name}a")
        ip("link", "set", f"{name}a", "up")
        ip("-n", name, "addr", "add", f"{net}.2/30", "dev", f"{name}b")
        ip("-n", name, "link", "set", f"{name}b", "up")
        socket = f"{parse_qs(address.query)['host'][0]}/.s.PGSQL.{address.port or 5432}"
        command = ["ip", "netns", "exec", name, sys.executable, "-m", "tests.crash_points.relay", f"{net}.2", socket]
        relay = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert relay.stdout is not None
        try:
            port = int(relay.stdout.readline())
            yield Far(name, f"postgresql://{address.username}@{net}.2:{port}{address.path}")
        finally:
            relay.kill()
            relay.wait()
            relay.stdout.close()
    finally:
        ip("netns", "del", name)


def _trigger(n: int) -> requests.Request[RunHandle[object]]:
    return requests.trigger("nobody", {"payload": str(n), "options": {"payloadType": "application/json"}})


@pytest.mark.full
@pytest.mark.skipif(not can_make_namespaces, reason="network namespaces need root and ip")
def test_point_18_a_server_cut_off_from_its_database_says_so_and_recovers(postgres: DatabaseAddress, tmp_path: Path) -> None:
    with far_away(postgres.url) as far:
        cluster = Cluster(tmp_path, DatabaseAddress(far.url, postgres.schema))
        try:
            _, port = cluster.server()
            client = Connection(Address(f"http://127.0.0.1:{port}", cluster.key), sleep_sync=lambda _: None)
            made = {client.send_sync(_trigger(0)).id}
            ready = f"http://127.0.0.1:{port}/readyz"
            far.cut()
            until(lambda: httpx.get(ready, timeout=60).status_code == 503, seconds=60, what="it is not ready")
            with pytest.raises(ApiError):
                client.send_sync(_trigger(1))
            assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
            far.mend()
            until(lambda: httpx.get(ready, timeout=60).status_code == 200, seconds=60, what="it is ready again")
            made.add(client.send_sync(_trigger(2)).id)
            listed = client.send_sync(requests.list_runs({"page[size]": "10"}))
            assert {run.id for run in listed.data} == made
            client.close_sync()
        finally:
            cluster.stop()
