"""A server's parts, put together; `outlast server`, `outlast dev` and `Outlast()` all start here."""

from __future__ import annotations

import asyncio
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from outlast import interpreter
from outlast.engine.clock import Chance, Clock
from outlast.engine.engine import Engine
from outlast.engine.retention import Retention
from outlast.engine.upkeep import Upkeep
from outlast.model.messages import Variables
from outlast.server.alerts.alerts import Alerts
from outlast.server.alerts.outbound import networks, trusted
from outlast.server.alerts.sending import Ways
from outlast.server.api.env_vars import opened
from outlast.server.app import create_app
from outlast.server.channel import Channel
from outlast.server.context import Context
from outlast.server.dashboard.site import Site
from outlast.server.packets import sweep
from outlast.server.payload_store import PayloadStore, StoreFailed, open_store
from outlast.server.rates import Rate
from outlast.server.vault import Vault, open_vault
from outlast.server.websocket import PATH, endpoint
from outlast.store import catalog, env_vars, keys
from outlast.store.database import Connection, Database, DatabaseUnusable
from outlast.store.migrate import migrate
from outlast.store.postgres import Postgres
from outlast.store.sqlite import ServerLock, Sqlite

ENVIRONMENTS = ((1, "dev", "DEVELOPMENT"), (2, "staging", "STAGING"), (3, "prod", "PRODUCTION"), (4, "preview", "PREVIEW"))


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a deployment may set. Concurrency limits are of environments; a queue never gets more than its environment."""

    database: str | None = None  # sqlite:///path or postgresql://…; None: outlast.db in the data folder
    data: Path = Path(".outlast")
    schema: str = "outlast"
    dev_concurrency: int = 100
    concurrency: int = 1_000
    burst: float = 1.0
    retention_days: float | None = None
    unknown_tasks: str = "park"
    grace: bool = True  # workers get back the time in which there was no server
    open_dashboard: bool = False  # nobody on this machine signs in
    payload_store: str | None = None  # a folder, or s3://, gs://, az://; None: payloads in the data folder
    max_token_seconds: int = 86_400  # the longest life of a public token
    key_rate: Rate | None = None  # calls with an API key; None: no limit
    token_rate: Rate | None = None  # calls with a public token
    batch_rate: Rate | None = None  # runs that batches make in an environment
    allow_private_webhooks: str | None = None  # networks, as in 10.0.0.0/8,192.168.1.7
    smtp: str | None = None  # smtp://user:password@host:587
    alerts_from: str = "outlast@localhost"
    ca_file: str | None = None  # certificates that sign those of receivers of alerts, beside the well-known
    secrets_key: str | None = None  # 32 bytes in base64; None: secrets.key in the data folder
    public_url: str | None = None  # how clients reach this server, when it is not as they say themselves


class Runtime:
    """An engine with everything around it, in this loop.

    Raises:
        DatabaseUnusable: the data folder or database cannot be used; the message is for people.
    """

    def __init__(
        self, options: Options, *, clock: Clock | None = None, database: Database | None = None, chance: Chance | None = None
    ) -> None:
        sys.setswitchinterval(interpreter.SWITCH_SECONDS)
        self.options = options
        payloads = _payloads(options)
        self.database, self._lock = (database, None) if database is not None else open_database(options)
        try:
            migrate(self.database)
            with self.database.transaction() as tx:
                seed(tx, options)
                self._vault = vault_of(options, tx)
        except BaseException:
            self._release()
            raise
        self.engine = Engine(self.database, clock=clock, chance=chance)
        secret = self._channel_secret()
        self.channel = Channel(self.engine, server_id=secrets.token_hex(8), secret=secret, variables=self._variables)
        self._alerts = Alerts(self.engine, self._vault, _ways(options))
        self.context = context = Context(
            self.engine,
            payloads=payloads,
            unknown_tasks=options.unknown_tasks,
            max_token_seconds=options.max_token_seconds,
            public_url=options.public_url,
            key_rate=options.key_rate,
            token_rate=options.token_rate,
            batch_rate=options.batch_rate,
            vault=self._vault,
            alerts=self._alerts,
        )
        self.site = Site(context, is_open=options.open_dashboard)
        self.app: Starlette = create_app(
            context,
            pages=self.site.routes(),
            lost=self.site.lost_app,
            routes=[WebSocketRoute(PATH, endpoint(self.engine, self.channel))],
        )
        self.upkeep: Upkeep | None = None
        self._upkeep: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.engine.start()
        upkeep = self.upkeep = Upkeep(self.engine)
        if self.options.grace:  # before the first worker comes back
            await upkeep.give_back_time()
        else:
            await upkeep.forget_time()
        self._upkeep = asyncio.get_running_loop().create_task(upkeep.run())
        if self.options.retention_days:
            self.engine.spawn(Retention(self.engine, days=self.options.retention_days).run())
        self.engine.spawn(sweep(self.context))
        self.engine.spawn(self._alerts.run())

    async def _variables(self, env_id: int) -> Variables:
        return opened(self._vault, env_id, await self.engine.read(lambda tx: env_vars.listed(tx, env_id)))

    def end_streams(self) -> None:
        """Let go of everybody who only listens: a stop does not wait for them."""
        self.app.state.context.feed.close()

    async def first_link(self, url: str) -> str | None:
        """A link that signs in to the dashboard once, as long as there is no key to do it with."""
        if await self.engine.read(keys.is_any):
            return None
        return f"{url}/login/{await self.site.gate.new_link()}"

    async def close(self) -> None:
        self.end_streams()
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
        await self.engine.close()
        if self._lock is not None:
            self._lock.release()

    def new_key(self, slug: str, name: str, *, role: str = "operator") -> str:
        """Make an API key of an environment. It is shown this once; only its hash is kept."""
        with self.database.transaction() as tx:
            now = self.engine.clock.now()
            return add_key(tx, slug, name, key_id=self.engine.new_id("key", now), now=now, role=role)

    def knows_key(self, key: str) -> bool:
        with self.database.transaction() as tx:
            found = keys.find(tx, key)
        return found is not None and found.revoked_at is None

    def _channel_secret(self) -> bytes:
        # every server on this database lets the executors of every session in
        with self.database.transaction() as tx:
            return b"channel:" + catalog.environment(tx, 1).signing_secret.encode()

    def _release(self) -> None:
        self.database.close()
        if self._lock is not None:
            self._lock.release()


def _payloads(options: Options) -> PayloadStore:
    try:
        return open_store(options.payload_store, options.data)
    except StoreFailed as error:
        raise DatabaseUnusable(str(error)) from error


def _ways(options: Options) -> Ways:
    try:
        allowed = networks(options.allow_private_webhooks)
    except ValueError as error:
        raise DatabaseUnusable(f"OUTLAST_ALLOW_PRIVATE_WEBHOOKS: {error}") from error
    try:
        trust = trusted(options.ca_file)
    except OSError as error:
        raise DatabaseUnusable(f"OUTLAST_CA_FILE: {options.ca_file} holds no certificates that can be read: {error}") from error
    return Ways(allowed=allowed, trust=trust, smtp=options.smtp, sender=options.alerts_from)


def vault_of(options: Options, tx: Connection) -> Vault:
    """The vault of this deployment. A server with another key than the values in the database have must not start."""
    vault = open_vault(options.data, options.secrets_key)
    if (sealed := env_vars.any_sealed(tx)) is not None:
        vault.check(sealed)
    return vault


def open_database(options: Options) -> tuple[Database, ServerLock | None]:
    """The database by its address.

    Raises:
        DatabaseUnusable: an address of no known form, an unwritable folder, another server on the file, no connection.
    """
    url = options.database
    if url is not None and url.startswith(("postgresql://", "postgres://")):
        return Postgres(url, schema=options.schema), None
    if url is not None and not url.startswith("sqlite:///"):
        raise DatabaseUnusable(f"{url.partition(':')[0]!r} is not a database of ours: use sqlite:///file or postgresql://…")
    path = Path(url.removeprefix("sqlite:///")) if url else options.data / "outlast.db"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseUnusable(f"cannot make the data folder {path.parent}: {error.strerror}") from error
    lock = ServerLock(path.parent)
    try:
        return Sqlite(path), lock
    except BaseException:
        lock.release()
        raise


def seed(tx: Connection, options: Options | None = None) -> None:
    """The environments exist from the first start; their limits follow the settings of a server's start."""
    for id_, slug, type_ in ENVIRONMENTS:
        o = options or Options()
        limit = o.dev_concurrency if slug == "dev" else o.concurrency
        secret = secrets.token_urlsafe(32)
        catalog.add_environment(tx, id=id_, slug=slug, type=type_, limit=limit, burst=o.burst, signing_secret=secret, now=0)
        if options is not None:
            catalog.set_environment_limit(tx, id_, limit, options.burst)


def add_key(tx: Connection, slug: str, name: str, *, key_id: str, now: int, role: str = "operator") -> str:
    env_id = environment_id(slug)
    key = keys.generate(next(type_ for id_, _, type_ in ENVIRONMENTS if id_ == env_id))
    keys.add(tx, id=key_id, env_id=env_id, name=name, key=key, now=now, role=role)
    return key


def environment_id(slug: str) -> int:
    """
    Raises:
        DatabaseUnusable: there is none of this name.
    """
    found = next((id_ for id_, s, _ in ENVIRONMENTS if s == slug), None)
    if found is None:
        raise DatabaseUnusable(f"there is no environment {slug!r}: use dev, staging, prod or preview")
    return found
