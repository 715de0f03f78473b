"""The files a browser loads: read once, sent compressed, under an address that changes with their content."""

from __future__ import annotations

import gzip
import hashlib
import re
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@cache
def all_files() -> dict[str, tuple[bytes, bytes, str]]:
    """name → (content, compressed, type)"""
    folder = files("outlast.server.dashboard") / "static"
    found: dict[str, tuple[bytes, bytes, str]] = {}
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if kind := _TYPES.get(PurePosixPath(entry.name).suffix):
            content = entry.read_bytes()
            if entry.name.endswith(".js"):
                content = _lean(content.decode()).encode()
            found[entry.name] = (content, gzip.compress(content, 9, mtime=0), kind)
    return found


# what must stay as it is: strings, templates, regular expressions after an opening bracket or a comma; then spaces beside a symbol
_KEPT = r""""(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`|(?<=[(,=!?:] )/(?:[^/\\\n]|\\.)+/|(?<=[(!])/(?:[^/\\\n]|\\.)+/"""
_PARTS = re.compile(rf"({_KEPT})|[ \t]*([=<>!?:;,(){{}}\[\]|&*%])[ \t]*|[ \t]+([-+/])[ \t]+(?![-+/])|\b(let|const)\b")
# a line break after which, or before which, no statement can have ended
_BREAKS = re.compile(r"(?<=[,;{(\[=>&|?:])\n|\n(?=[})\]?:&|.,])")


def _lean(script: str) -> str:
    """Comments, indentation, `const`, and spaces and line breaks beside symbols are for readers of the source; strings stay."""
    lines = (line.strip() for line in script.splitlines())
    kept = "\n".join(line for line in lines if line and not line.startswith("//"))
    return _BREAKS.sub("", _PARTS.sub(lambda m: m.group(1) or m.group(2) or m.group(3) or "let", kept)).replace(";}", "}")


@cache
def version() -> str:
    """A hash of the whole folder: modules import each other by relative names, so they change together."""
    digest = hashlib.blake2b(digest_size=6)
    for name, (content, _, _) in all_files().items():
        digest.update(name.encode() + content)
    return digest.hexdigest()


async def serve(request: Request) -> Response:
    """GET /static/{version}/{name}"""
    found = all_files().get(request.path_params["name"])
    if found is None:
        return Response("Not found", 404, {"x-content-type-options": "nosniff"}, "text/plain")
    content, compressed, kind = found
    is_current = request.path_params["version"] == version()
    headers = {
        "cache-control": "public, max-age=31536000, immutable" if is_current else "no-cache",
        "x-content-type-options": "nosniff",
        "vary": "accept-encoding",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(compressed, headers={**headers, "content-encoding": "gzip"}, media_type=kind)
    return Response(content, headers=headers, media_type=kind)
