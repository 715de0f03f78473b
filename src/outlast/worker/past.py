"""What earlier executions of a run recorded, held against what its code asks for now."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from outlast import current
from outlast.durable import Slot
from outlast.errors import JournalMismatch, JournalTooLarge, JournalUnreadable
from outlast.model import payload as packets
from outlast.model.journal import KEEP, LONG, MANY_ENTRIES, MAX_ENTRIES, MAX_JOURNAL_BYTES, REFUSED, TIMED_OUT, TRIED, Entry

FAST_WAITS = 50  # replayed within a second: whatever the code does between them hammers the world
HINT = "go on as a fresh run with `await run.continue_as(payload)`, or move work into child runs"
_SCOPE = re.compile(r"(.*?)/(?:trigger|trigger_and_wait|batch|batch_and_wait|wait|token|step|mark|continue):", re.DOTALL)


class Past:
    """`recorded` are the entries of this journal; `carried` what went well in earlier attempts and is kept."""

    __slots__ = (
        "_asked",
        "_began",
        "_bytes",
        "_expected",
        "_fast",
        "_open",
        "_version",
        "carried",
        "is_dev",
        "mismatch",
        "on_caught_up",
        "recorded",
        "taken",
    )  # fmt: skip

    def __init__(self, entries: list[Entry], version: str, *, is_dev: bool) -> None:
        self.recorded = {e.key: e for e in entries if not _is_carried(e)}
        self.carried = {e.key: e for e in entries if _is_carried(e)}
        self.taken: dict[str, None] = {}  # keys whose result the code has had, or never will
        self.mismatch: JournalMismatch | None = None
        self.on_caught_up: Callable[[], None] | None = None
        self._version = version
        self.is_dev = is_dev
        self._open = dict.fromkeys(self.recorded)  # what the code has not asked for yet
        self._expected = {(_scope_of(e), e.place): e for e in self.recorded.values() if e.place >= 0}
        self._asked = len(self.recorded)  # operations of the run, those of now included
        self._bytes = sum(_size(e) for e in self.recorded.values())
        self._fast = 0
        self._began = time.monotonic() if entries else 0.0

    @property
    def is_replaying(self) -> bool:
        """There are recorded operations that the code has not asked for yet."""
        return bool(self._open)

    def clear(self) -> None:
        """The run goes on elsewhere."""
        for known in (self.recorded, self.carried, self.taken, self._open, self._expected):
            known.clear()

    def add(self, entry: Entry) -> None:
        known = self.recorded.get(entry.key)
        self._bytes += _size(entry) - (_size(known) if known is not None else 0)
        self.recorded[entry.key] = entry

    def find(self, slot: Slot) -> Entry | None:
        """What is recorded of it, or what an earlier attempt's equal step gave."""
        found = self.recorded.get(slot.key)
        if found is not None:
            return found
        carried = self.carried.get(slot.key)
        if carried is None or carried.fingerprint == slot.fingerprint:
            return carried
        _say("warn", f"{slot.kind} {slot.label!r} ({slot.key}) is run again: the attempt before gave it other arguments")
        del self.carried[slot.key]
        return None

    def check(self, scope: str, slot: Slot, call: str) -> None:
        """An operation is asked for.

        Raises:
            JournalMismatch: the code does something else than it did when this was recorded, or that cannot be read any more.
            JournalTooLarge: there are too many already.
        """
        if self.mismatch is not None:
            raise self.mismatch  # whoever caught it the first time does not get any further
        found = self.recorded.get(slot.key)
        expected = self._expected.get((scope, slot.place)) if slot.place >= 0 else found
        if found is None and expected is None:
            return self._count(slot, call)
        # the same operation, though perhaps not the same object: it may have ended meanwhile
        if found is None or expected is None or found.key != expected.key or found.fingerprint != slot.fingerprint:
            self.mismatch = self._differs(scope, slot, call, expected or found)
            raise self.mismatch
        if not _is_readable(found):
            self.mismatch = JournalUnreadable(f"{call}: what was recorded of it ({found.key}) is damaged, or of a newer version of Outlast")
            raise self.mismatch
        self._open.pop(slot.key, None)
        if found.kind in LONG and found.status != "pending":
            self._replayed_wait()
        return self._look_if_caught_up()

    def skip(self, scope: str) -> None:
        """What was recorded there led to something that is recorded itself."""
        for key in [key for key in self.recorded if key.startswith(scope + "/")]:
            self.taken[key] = None
            self._open.pop(key, None)
        self._look_if_caught_up()

    def _look_if_caught_up(self) -> None:
        if not self._open:
            self._expected.clear()
            if (caught_up := self.on_caught_up) is not None:
                self.on_caught_up = None
                caught_up()

    def _differs(self, scope: str, slot: Slot, call: str, recorded: Entry | None) -> JournalMismatch:
        assert recorded is not None
        if recorded.key == slot.key and recorded.place == slot.place:
            why = "was recorded with other inputs"
        else:
            why = "stands where another operation was recorded"
        by = f", by version {recorded.version}" if recorded.version not in ("", self._version) else ""
        was = f"{recorded.kind} {recorded.label!r} ({recorded.key}){by} @ {recorded.location}"
        got = f"{slot.kind} {slot.label!r} ({slot.key}) @ {slot.location}"
        index = slot.place if slot.place >= 0 else recorded.place
        text = (
            f"{call} {why}: scope {scope}, operation {index}: recorded={was}, got={got}. What decides the way of the code, and its"
            " inputs, must come from a step, or from run.now, run.random and run.uuid4"
        )
        return JournalMismatch(text, is_other_version=bool(by))

    def unused(self) -> list[Entry]:
        """What was recorded and never asked for: the code took another way this time."""
        return [e for key in self._open if (e := self.recorded[key]).status == "ok"]

    def missed(self) -> JournalMismatch | None:
        """The function has ended without asking for something that is recorded."""
        unused = self.unused()
        if not unused:
            return None
        first = unused[0]
        by = f", by version {first.version}" if first.version not in ("", self._version) else ""
        text = (
            f"the function ended without asking for {len(unused)} recorded operations: recorded={first.kind} {first.label!r}"
            f" ({first.key}){by} @ {first.location}, got=the end of the function. It took another way than the execution before"
        )
        return JournalMismatch(text, is_other_version=bool(by))

    def kept(self) -> list[Entry]:
        """For the next attempt: the steps that went well, or all that did. The store's `journal.whole` chooses the same."""
        keeps = KEEP in self.recorded
        done = {**self.carried, **{e.key: e for e in self.recorded.values() if _is_kept(e, keeps)}}
        return [_carried(e) for e in done.values()]

    def _count(self, slot: Slot, call: str) -> None:
        if slot.kind == "continue":
            return  # the way out of a journal that is too large
        self._asked += 1
        if self._asked > MAX_ENTRIES:
            raise JournalTooLarge(f"{call}: the run has {MAX_ENTRIES} durable operations, its limit: {HINT}")
        if self._bytes > MAX_JOURNAL_BYTES:
            text = f"the results of the run's durable operations have {self._bytes} bytes, more than {MAX_JOURNAL_BYTES}"
            raise JournalTooLarge(f"{call}: {text}: {HINT}")
        if self._asked == MANY_ENTRIES:
            _say("warn", f"the run has {MANY_ENTRIES} durable operations, and each makes its replay longer (limit {MAX_ENTRIES}): {HINT}")

    def _replayed_wait(self) -> None:
        self._fast += 1
        if self._fast == FAST_WAITS + 1 and self.is_dev and time.monotonic() - self._began < 1:
            text = f"{self._fast} waits were replayed in less than a second: what the code does between them, it does again without a pause"
            _say("warn", f"{text}. Put what it asks the world in each round into a step")


def _say(level: str, text: str) -> None:
    attempt = current.attempt.get()
    if attempt is not None:
        attempt.emit(level, "system", text, None)


def _scope_of(entry: Entry) -> str:
    found = _SCOPE.match(entry.key)  # a scope is made of function names, which have no colon
    return found[1] if found is not None else ""


def _size(entry: Entry) -> int:
    return len(entry.value) if entry.value is not None else 0


def _is_carried(entry: Entry) -> bool:
    return entry.status == "ok" and entry.seq is None


def _is_kept(entry: Entry, keeps: bool) -> bool:
    if entry.status != "ok" or entry.kind == "step":
        return entry.status == "ok"
    return keeps and entry.key != KEEP and not (entry.label == TRIED and entry.kind in ("mark", "wait"))


def _carried(e: Entry) -> Entry:
    return Entry(e.key, e.kind, e.label, e.fingerprint, e.status, None, e.value, e.value_type, e.ref, e.location)


def _is_readable(entry: Entry) -> bool:
    kind = packets.JSON if entry.value_type in (None, REFUSED, TIMED_OUT) else entry.value_type
    try:
        packets.decode(entry.value, kind)
    except ValueError:
        return False
    return True
