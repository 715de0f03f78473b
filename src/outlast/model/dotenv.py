"""`.env` files: names and values, as people write them. Nothing in them is executed or expanded."""

from __future__ import annotations

import re

DEV_FILES = (".env", ".env.development", ".env.local", ".env.development.local", "dev.vars")  # the later wins
_LINE = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*
    (?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<plain>[^\r\n]*?))[ \t]*(?:[ \t]\#[^\r\n]*)?$""",
    re.VERBOSE | re.MULTILINE,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def parse_dotenv(text: str) -> dict[str, str]:
    """The variables of a file, in its order; lines that are none are passed over. A quoted value may go over several lines."""
    found: dict[str, str] = {}
    for match in _LINE.finditer(_lines(text)):
        double, single, plain = match["double"], match["single"], match["plain"]
        if double is not None:
            value = _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[1]), double)
        else:
            value = single if single is not None else "" if plain.startswith("#") else plain
        found[match["name"]] = value
    return found


def unread_line(text: str) -> int | None:
    """The number of the first line that is neither a variable, nor empty, nor a comment."""
    rest = _LINE.sub(lambda match: "\n" * match[0].count("\n"), _lines(text))
    lines = enumerate((line.strip() for line in rest.split("\n")), 1)
    return next((number for number, line in lines if line and not line.startswith("#")), None)


def _lines(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n")
