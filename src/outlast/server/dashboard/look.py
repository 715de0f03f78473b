"""How values look: statuses with their colour and icon, durations, numbers, times, JSON. Everything a user wrote stays text."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

MAX_SHOWN = 256 * 1024  # characters of a payload on a page; the rest is a download
MAX_NODES = 5_000  # of pretty-printed JSON


class Look(NamedTuple):
    label: str
    tone: str  # ok, bad, run, wait, warn, mute: a colour that never stands alone
    icon: str
    group: str
    meaning: str


STATUSES = {
    "PENDING_VERSION": Look("Pending version", "warn", "layers", "queued", "No version knows this task yet"),
    "DELAYED": Look("Delayed", "mute", "clock", "queued", "Waits for its start time"),
    "QUEUED": Look("Queued", "mute", "layers", "queued", "Waits for a free slot"),
    "DEQUEUED": Look("Dequeued", "run", "layers", "running", "Handed to a worker"),
    "EXECUTING": Look("Executing", "run", "ring", "running", "Its code runs now"),
    "WAITING": Look("Waiting", "wait", "hourglass", "running", "Waits and holds no slot"),
    "COMPLETED": Look("Completed", "ok", "check", "finished", "Ended well"),
    "FAILED": Look("Failed", "bad", "cross", "finished", "Every attempt failed"),
    "CRASHED": Look("Crashed", "bad", "flame", "finished", "The process died"),
    "SYSTEM_FAILURE": Look("System failure", "bad", "bug", "finished", "Outlast could not run it"),
    "TIMED_OUT": Look("Timed out", "bad", "alarm", "finished", "Longer than its maximum duration"),
    "CANCELED": Look("Canceled", "mute", "slash", "finished", "Stopped by a person or a program"),
    "EXPIRED": Look("Expired", "mute", "bin", "finished", "Its time to live ended before it started"),
}
OTHER_STATES = {  # of what is no run
    "PENDING": Look("Pending", "mute", "clock", "", "Its items still arrive"),
    "PROCESSING": Look("Processing", "run", "ring", "", "Some of its runs are not over"),
    "PARTIAL_FAILED": Look("Partly failed", "bad", "cross", "", "Some items could not be triggered"),
    "ABORTED": Look("Aborted", "mute", "slash", "", "Stopped before its end"),
    "DEPLOYED": Look("Deployed", "ok", "check", "", "Can run"),
    "BUILDING": Look("Building", "run", "ring", "", "Is being built"),
    "PAUSED": Look("Paused", "warn", "pause", "", "Nothing new starts"),
    "AT_CAPACITY": Look("At capacity", "bad", "gauge", "", "All slots are taken and more runs wait"),
    "BACKLOGGED": Look("Backlogged", "warn", "layers", "", "Runs wait"),
    "ACTIVE": Look("Active", "run", "ring", "", "Runs execute"),
    "IDLE": Look("Idle", "mute", "moon", "", "Nothing to do"),
    "OPEN": Look("Connected", "ok", "check", "", "Its lease runs"),
    "CLOSED": Look("Gone", "mute", "slash", "", "It left, or its lease ended"),
    "ENABLED": Look("On", "ok", "check", "", "It fires"),
    "DISABLED": Look("Off", "mute", "pause", "", "It does not fire"),
    "unresolved": Look("Unresolved", "warn", "bug", "", "Nobody has resolved it"),
    "regressed": Look("Regressed", "bad", "again", "", "It was resolved and came back"),
    "resolved": Look("Resolved", "ok", "check", "", "It has not come back since"),
    "ignored": Look("Ignored", "mute", "moon", "", "Nobody is to be troubled with it"),
    "DRAINING": Look("Draining", "warn", "pause", "", "It takes nothing new, and leaves when its runs are over"),
    "DELIVERED": Look("Delivered", "ok", "check", "", "The receiver took it"),
    "REVOKED": Look("Revoked", "bad", "slash", "", "Refused"),
}


def look(status: str) -> Look:
    return STATUSES.get(status) or OTHER_STATES.get(status) or Look(status.replace("_", " ").capitalize(), "mute", "ring", "", "")


def duration(ms: float | None) -> str:
    """Short: 302ms, 1.2s, 4m 5s, 2d 3h."""
    if ms is None:
        return "–"
    if ms < 1_000:
        return f"{max(0, round(ms))}ms"
    if ms < 60_000:
        return f"{int(ms / 100) / 10:.1f}s"
    units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
    parts = [(name, int(ms // size) if i == 0 else int(ms // size) % [0, 24, 60, 60][i]) for i, (name, size) in enumerate(units)]
    first = next(i for i, (_, n) in enumerate(parts) if n)
    return " ".join(f"{n}{name}" for name, n in parts[first : first + 2] if n)


def number(n: int) -> str:
    return f"{n:,}"


def iso(ms: int | None) -> str:
    """UTC to the millisecond; nothing for no time."""
    if ms is None:
        return ""
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def zoned(ms: int, zone: str) -> str:
    """As a clock in that zone shows it, with its offset: 24 Nov 2026 03:15 +01:00."""
    at = datetime.fromtimestamp(ms / 1_000, ZoneInfo(zone))
    offset = at.strftime("%z")
    return f"{at:%a %d %b %Y %H:%M} {offset[:3]}:{offset[3:]}"


_BIDI = {ord(c): f"⟦{ord(c):X}⟧" for c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f"}


def plain(text: object) -> str:
    """A user's text with what would reorder, hide or overwrite other text made visible."""
    found = str(text).translate(_BIDI)
    return "".join(c if c >= " " or c in "\n\t" else chr(0x2400 + ord(c)) for c in found)


def pretty(data: str | None) -> Markup:
    """JSON text, indented and coloured. Numbers stay as they were written; too much is cut."""
    if data is None:
        return Markup('<span class="dim">none</span>')
    if len(data) > MAX_SHOWN:
        return Markup("{}\n<b>… cut: {} characters in all</b>").format(plain(data[:MAX_SHOWN]), number(len(data)))
    try:
        value = json.loads(data, parse_int=_Number, parse_float=_Number)
    except (ValueError, RecursionError):
        return escape(plain(data))
    left = [MAX_NODES]
    return Markup("").join(_tree(value, 0, left))


def pretty_text(text: str | None) -> str:
    """JSON text with line breaks: what an editor starts with."""
    if text is None:
        return ""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


class _Number(str):
    """A number as it stands in the text: 2^64 and 1.10 stay what they are."""


def _tree(value: Any, depth: int, left: list[int]) -> list[Markup]:
    left[0] -= 1
    if left[0] < 0:
        return [Markup("…")]
    if isinstance(value, dict) and value:
        return _branch(cast("dict[str, Any]", value).items(), "{}", depth, left)
    if isinstance(value, list) and value:
        return _branch([(None, item) for item in cast("list[Any]", value)], "[]", depth, left)
    if isinstance(value, _Number):
        return [Markup('<span class="jn">{}</span>').format(str(value))]
    if isinstance(value, str):
        text = plain(json.dumps(value, ensure_ascii=False))
        return [Markup('<span class="js">{}</span>').format(text)]
    return [Markup('<span class="jl">{}</span>').format(json.dumps(value))]


def _branch(items: Any, brackets: str, depth: int, left: list[int]) -> list[Markup]:
    pad = "  " * (depth + 1)
    out = [Markup(brackets[0]) + "\n"]
    for i, (key, item) in enumerate(items):
        if left[0] <= 0:
            out.append(Markup(pad + "…\n"))
            break
        out.append(Markup(",\n" if i else "") + pad)
        if key is not None:
            out.append(Markup('<span class="jk">{}</span>: ').format(plain(json.dumps(key, ensure_ascii=False))))
        out.extend(_tree(item, depth + 1, left))
    out.append(Markup("\n" + "  " * depth + brackets[1]))
    return out
