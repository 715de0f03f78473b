"""Running the server in this process: its socket, uvicorn, and a stop that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Generator
from pathlib import Path

import uvicorn

from outlast import faults, interpreter
from outlast.cli.protocol import Protocol
from outlast.errors import ConfigurationError
from outlast.model.messages import MAX_FRAME_BYTES
from outlast.server import public_tokens, rates
from outlast.server.runtime import Options, Runtime
from outlast.settings import Settings
from outlast.store.database import DatabaseUnusable

log = logging.getLogger("outlast.server")

SHUTDOWN_SECONDS = 15


class Server(uvicorn.Server):
    """uvicorn, but signals are ours, and who only listens is let go before it waits for the rest."""

    before_shutdown: Callable[[], None]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.before_shutdown()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def options(settings: Settings, *, open_dashboard: bool = False) -> Options:
    return Options(
        open_dashboard=open_dashboard,
        database=settings.database,
        data=Path(settings.data),
        schema=settings.schema,
        dev_concurrency=settings.dev_concurrency,
        concurrency=settings.concurrency,
        burst=settings.burst,
        retention_days=settings.retention_days,
        unknown_tasks=settings.unknown_tasks,
        secrets_key=settings.secrets_key,
        allow_private_webhooks=settings.allow_private_webhooks,
        smtp=settings.smtp,
        alerts_from=settings.alerts_from,
        ca_file=settings.ca_file,
        payload_store=settings.payload_store,
        max_token_seconds=min(settings.max_token_seconds, public_tokens.LIMIT_SECONDS),
        public_url=settings.public_url,
        key_rate=_rate(settings, "key_rate", is_unlimited=open_dashboard),
        token_rate=_rate(settings, "token_rate"),
        batch_rate=_rate(settings, "batch_rate", is_unlimited=open_dashboard),
    )


def _rate(settings: Settings, name: str, *, is_unlimited: bool = False) -> rates.Rate | None:
    # on a developer's own machine a limit protects nobody, unless it is what is being tried
    if is_unlimited and settings.values[name].origin == "default":
        return None
    try:
        return rates.parse(settings.values[name].value)
    except ValueError as error:
        raise ConfigurationError(f"OUTLAST_{name.upper()}: {error}") from error


def bind(host: str, port: int) -> socket.socket:
    """The listening socket.

    Raises:
        DatabaseUnusable: the port is taken; the message says what to do.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise DatabaseUnusable(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port, or --port 0 for a free one"
        ) from error
    return listening


def make(runtime: Runtime, protocol: type[asyncio.Protocol] = Protocol) -> Server:
    config = uvicorn.Config(
        runtime.app,
        loop="none",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=None,
        http=protocol,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = Server(config)
    server.before_shutdown = runtime.end_streams
    return server


@contextlib.asynccontextmanager
async def _stopping(server: Server, listening: socket.socket):
    """Serve in the background; stop when the block is left."""
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        interpreter.settle()
        yield serving
    finally:
        server.should_exit = True
        await serving


serving = _stopping


def on_signals(stop: Callable[[int], None]) -> None:
    """Call `stop` with how often it was asked."""
    loop, asked = asyncio.get_running_loop(), 0

    def heard() -> None:
        nonlocal asked
        asked += 1
        stop(asked)

    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, heard)


async def run_server(settings: Settings) -> None:
    """`outlast server`: until a signal says stop."""
    faults.arm()
    listening = bind(settings.host, settings.port)
    try:
        runtime = Runtime(options(settings))
    except BaseException:
        listening.close()
        raise
    await runtime.start()
    stopped = asyncio.Event()
    on_signals(lambda _: stopped.set())
    host, port = listening.getsockname()[:2]
    try:
        async with serving(make(runtime), listening):
            print(f"Outlast server on http://{host}:{port}", flush=True)
            if link := await runtime.first_link(f"http://{host}:{port}"):
                print(f"Sign in (once, within 15 minutes): {link}", flush=True)
            log.info("server started", extra={"address": f"http://{host}:{port}"})
            await stopped.wait()
            log.info("server stops")
    finally:
        await runtime.close()


def run(main: Callable[[], object]) -> None:
    """Run in uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())  # type: ignore[arg-type]
        return
    uvloop.run(main())  # type: ignore[arg-type]
