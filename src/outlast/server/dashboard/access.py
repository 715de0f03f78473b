"""Who may look and act: sessions by cookie, signing in by key or one-time link, and the marks of a request that came from our own pages."""

from __future__ import annotations

import hmac
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from outlast.engine.engine import Engine
from outlast.server.problem import Problem
from outlast.store import catalog, keys, signins
from outlast.store.keys import Role

SECURE_COOKIE = "__Host-outlast"  # over https and on this machine
PLAIN_COOKIE = "outlast_session"  # http to another machine: anybody between can read it, and the page says so
TRIES = 5  # wrong keys an address may show in a minute
TRY_SECONDS = 60.0
MAX_ADDRESSES = 10_000
MAX_SECRET_CHARS = 200
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


@dataclass(frozen=True)
class Access:
    """What a visitor may see and do. `env_id` None: every environment. `csrf` proves that a write came from our page."""

    role: Role
    env_id: int | None
    csrf: str
    session: signins.Session | None = None

    @property
    def may_act(self) -> bool:
        return self.role == "operator"


@dataclass
class Gate:
    """`is_open`: no sign-in on this machine (development)."""

    engine: Engine
    is_open: bool = False
    _secret: bytes = b""
    _tries: dict[str, deque[float]] = field(default_factory=dict[str, "deque[float]"])

    async def access(self, request: Request) -> Access | None:
        """Who asks, or None if they must sign in."""
        if self.is_open and is_local(request):
            return Access("operator", None, hmac.digest(await self._own_secret(), b"csrf", "sha256").hex())
        secret = request.cookies.get(cookie_name(request), "")
        if not 20 <= len(secret) <= MAX_SECRET_CHARS:
            return None
        now = self.engine.clock.now()
        session = await self.engine.read(lambda tx: signins.find(tx, secret, now))
        if session is None:
            return None
        if session.seen_at < now - signins.SEEN_EVERY_MS:
            await self.engine.write(lambda tx: signins.saw(tx, session, now))
        return Access(session.role, session.env_id, hmac.digest(secret.encode(), b"csrf", "sha256").hex(), session)

    async def _own_secret(self) -> bytes:
        """The same after a restart: pages that were open all the while can act again."""
        if not self._secret:
            env = await self.engine.read(lambda tx: catalog.environment(tx, 1))
            self._secret = b"dashboard:" + env.signing_secret.encode()
        return self._secret

    async def new_link(self) -> str:
        """The secret of a link that signs an operator in, once, within a quarter of an hour."""
        secret, until = secrets.token_urlsafe(32), self.engine.clock.now() + signins.LINK_MS
        await self.engine.write(lambda tx: signins.add_link(tx, secret, until))
        return secret

    async def sign_in(self, request: Request, secret: str) -> str | None:
        """A session's secret for an API key or the secret of a link.

        Raises:
            Problem: 429 after too many wrong ones.
        """
        address = request.client.host if request.client else "?"
        self._slow_down(address)
        now, made = self.engine.clock.now(), secrets.token_urlsafe(32)
        if not 20 <= len(secret) <= MAX_SECRET_CHARS:
            self._tries.setdefault(address, deque(maxlen=TRIES)).append(time.monotonic())
            return None
        if keys.PATTERN.fullmatch(secret):
            key = await self.engine.read(lambda tx: keys.find(tx, secret))
            if key is not None and key.revoked_at is None and (key.expires_at is None or key.expires_at > now):
                if key.role not in ("operator", "viewer"):
                    raise Problem(403, f"a key with the role {key.role} does not open the dashboard")
                await self.engine.write(lambda tx: signins.begin(tx, made, env_id=key.env_id, key_id=key.id, role=key.role, now=now))
                return made
        elif await self.engine.write(lambda tx: signins.use_link(tx, secret, now)):
            await self.engine.write(lambda tx: signins.begin(tx, made, env_id=None, key_id=None, role="operator", now=now))
            return made
        self._tries.setdefault(address, deque(maxlen=TRIES)).append(time.monotonic())
        return None

    def _slow_down(self, address: str) -> None:
        if len(self._tries) > MAX_ADDRESSES:
            self._tries.clear()
        tries = self._tries.get(address)
        if tries is not None and len(tries) == TRIES and (left := tries[0] + TRY_SECONDS - time.monotonic()) > 0:
            raise Problem(429, "Too many attempts: wait a minute", headers={"retry-after": str(int(left) + 1)})


def check_origin(request: Request) -> None:
    """Refuse what another site made the browser send.

    Raises:
        Problem: 403.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None and site not in ("same-origin", "none"):
        raise Problem(403, "this request came from another site")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Problem(403, "this request came from another site")


def check_write(request: Request, access: Access, *, viewers: bool) -> None:
    """An act needs the page's token, and the right to act unless viewers may do it too.

    Raises:
        Problem: 403.
    """
    check_origin(request)
    if not hmac.compare_digest(request.headers.get("x-csrf", "").encode(), access.csrf.encode()):
        raise Problem(403, "the page is out of date: reload it")
    if not viewers and not access.may_act:
        raise Problem(403, "you may look, not act: this session is a viewer's", code="insufficient_scope")


def is_local(request: Request) -> bool:
    """From this machine, to a name of this machine: a foreign name that resolves here (DNS rebinding) is not."""
    name = _host(request)
    try:
        near = request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        near = False
    return near and name in LOOPBACK_NAMES


def _host(request: Request) -> str:
    host = request.headers.get("host", "")
    return host if host.endswith("]") else host.rpartition(":")[0] if ":" in host else host


def is_secure(request: Request) -> bool:
    """As the browser sees it; a proxy in front of us shows in the Origin it sends."""
    return request.headers.get("origin", "").startswith("https://") or request.url.scheme == "https" or _host(request) in LOOPBACK_NAMES


def cookie_name(request: Request) -> str:
    return SECURE_COOKIE if SECURE_COOKIE in request.cookies else PLAIN_COOKIE


def set_session(response: Response, request: Request, secret: str) -> None:
    secure = is_secure(request)
    name, age = SECURE_COOKIE if secure else PLAIN_COOKIE, signins.LIFE_MS // 1_000
    response.set_cookie(name, secret, max_age=age, httponly=True, samesite="lax", secure=secure, path="/")


def clear_session(response: Response) -> None:
    for name, secure in ((SECURE_COOKIE, True), (PLAIN_COOKIE, False)):
        response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="lax")


def next_page(text: str | None) -> str:
    """Where to go after signing in: a path of ours, or the first page."""
    if not text or not text.startswith("/") or text[1:2] in ("/", "\\") or any(c < " " or c in "\\\x7f" for c in text) or len(text) > 2_000:
        return "/"
    return "/" if text.startswith(("/login", "/logout", "/api")) else text
