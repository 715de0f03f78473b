"""A PgBouncer in transaction mode before a real PostgreSQL; from Debian, installed when it is missing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


def binary() -> str:
    """Raises: CalledProcessError: it is not here, and cannot be installed."""
    found = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        subprocess.run(["apt-get", "install", "--yes", "--quiet", "pgbouncer"], check=True, capture_output=True)
        found = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
    assert found is not None
    return found


@contextmanager
def pgbouncer(url: str, *, ignores_options: bool) -> Iterator[str]:
    """The address to use instead of `url`. `ignores_options`: it drops what a session asks for, instead of refusing it."""
    address = urlsplit(url)
    host = parse_qs(address.query).get("host", [address.hostname or ""])[0]
    user, database = unquote(address.username or "postgres"), address.path.lstrip("/") or "postgres"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="outlast-pgbouncer-"))
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n{database} = host={host} port={address.port or 5432} dbname={database} user={user}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
        "default_pool_size = 4\n" + ("ignore_startup_parameters = options\n" if ignores_options else "")
    )
    command = [binary(), "-q", str(config)]
    if os.geteuid() == 0:  # it refuses to be root
        owner = Path(host).owner()
        shutil.chown(folder, owner)
        shutil.chown(config, owner)
        command += ["-u", owner]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _until_it_listens(port, process, folder / "log")
        yield f"postgresql://{user}@127.0.0.1:{port}/{database}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 30
    while True:
        assert process.poll() is None and time.monotonic() < until, log.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
