"""Pages from templates: whole, or only the live block; compressed, and nothing in them a script could run."""

from __future__ import annotations

import gzip
import hashlib
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import RedirectResponse, Response

from outlast.server.dashboard import assets, look
from outlast.server.prefix import ROOT
from outlast.version import __version__

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types ui-fragment"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "private, no-store",
    "vary": "x-fragment, accept-encoding",
}
MIN_COMPRESSED = 1_000

NAV = (
    (
        "Observe",
        (
            ("Overview", "/", "home", "h"),
            ("Runs", "/runs", "list", "r"),
            ("Tasks", "/tasks", "cube", "t"),
            ("Errors", "/errors", "bug", "e"),
            ("Logs", "/logs", "log", "l"),
        ),
    ),
    (
        "Operate",
        (
            ("Test", "/test", "flask", "p"),
            ("Queues", "/queues", "layers", "q"),
            ("Schedules", "/schedules", "clock", "s"),
            ("Batches", "/batches", "grid", "b"),
            ("Tokens", "/tokens", "hourglass", "w"),
            ("Bulk actions", "/bulk", "check", "x"),
        ),
    ),
    (
        "Ship",
        (
            ("Deployments", "/deployments", "rocket", "d"),
            ("Workers", "/workers", "server", "o"),
            ("Alerts", "/alerts", "bell", "a"),
            ("Env vars", "/env-vars", "tag", "v"),
            ("API keys", "/api-keys", "key", "k"),
            ("Settings", "/settings", "sliders", ","),
        ),
    ),
)  # group, then label, address, icon, letter after g


class _Address:
    """A path that begins with where this server is reached."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __str__(self) -> str:
        return ROOT.get() + self._path


def _prepared() -> Environment:
    found = Environment(
        loader=PackageLoader("outlast.server.dashboard"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    names = cast("dict[str, Any]", found.globals)  # pyright: ignore[reportUnknownMemberType]
    names.update(
        STATUSES=look.STATUSES,
        look=look.look,
        root=_Address(""),
        static=_Address(f"/static/{assets.version()}"),
        version=__version__,
        nav=NAV,
    )
    filters = cast("dict[str, Any]", found.filters)  # pyright: ignore[reportUnknownMemberType]
    filters.update(
        duration=look.duration,
        number=look.number,
        iso=look.iso,
        plain=look.plain,
        pretty=look.pretty,
        pretty_text=look.pretty_text,
        zoned=look.zoned,
    )
    names["ui"] = found.get_template("ui.html").module
    return found


templates = _prepared()


def fragment(template: str, context: dict[str, Any]) -> str:
    """What of a page is live: its block, and what stands above every page."""
    found = templates.get_template(template)
    return templates.get_template("notes.html").render(context) + "".join(found.blocks["live"](found.new_context(context)))


def page(template: str, context: dict[str, Any]) -> str:
    return templates.get_template(template).render(context)


def send(
    text: str,
    *,
    status: int = 200,
    accepts: str = "",
    known: str | None = None,
    headers: dict[str, str] | None = None,
    media_type: str = "text/html; charset=utf-8",
) -> Response:
    """A page, unless the browser has the same already."""
    body = text.encode(errors="replace")
    tag = f'"{hashlib.blake2b(body, digest_size=9).hexdigest()}"'
    answer = {**HEADERS, **(headers or {}), "etag": tag}
    if known == tag:
        return Response(status_code=304, headers=answer)
    if "gzip" in accepts and len(body) > MIN_COMPRESSED:
        body, answer["content-encoding"] = gzip.compress(body, 4), "gzip"
    return Response(body, status, answer, media_type)


def redirect(target: str) -> Response:
    """See other: nobody keeps it."""
    return RedirectResponse(target, 303, headers=HEADERS)
