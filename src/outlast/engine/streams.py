"""Streams of runs: output that readers follow, input that runs wait for. A run's lock orders the writers of its streams."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from msgspec.structs import replace

from outlast.engine import tokens
from outlast.engine.operation import operation
from outlast.engine.rows import NeedsLock, Rows
from outlast.engine.view import View
from outlast.model.change import Change
from outlast.model.journal import Entry
from outlast.model.limits import MAX_STREAM_BYTES, MAX_STREAMS
from outlast.model.refusal import Refusal
from outlast.model.run import Run
from outlast.model.streams import Appended, AppendStream, CreateInputToken, Part
from outlast.model.token import TokenCreated
from outlast.store import journal, streams
from outlast.store.streams import Chunk, Id, Stream

INPUT = "$trigger.input:"  # what the keys of input streams begin with
BY_TOKEN = "token:"  # what the edge of a token begins with, in place of a journal's key
ROW_BYTES = 64 * 1024


def topic(run_id: str, key: str) -> str:
    """What readers of a stream are woken by."""
    return f"stream:{run_id}:{quote(key, safe='')}"


def _needs_run(a: AppendStream, wants: Rows) -> None:
    wants.light.add(a.run_id)
    wants.data.add(a.run_id)


@operation(needs=_needs_run)
def append(view: View, a: AppendStream) -> Appended | Refusal:
    """Those parts that are not there yet. Without parts the stream is only declared."""
    run = view.run(a.run_id, a.env_id)
    if run is None:
        return Refusal("not_found", "Run not found")
    return add(view, run, a.key, a.parts)


def add(view: View, run: Run, key: str, parts: Sequence[Part]) -> Appended | Refusal:
    if run.is_final:
        return Refusal("run_final", f"run {run.id} is over: nothing can be written to its streams")
    stream = _stream(view, (run.id, key)) or _declare(view, run, key)
    if isinstance(stream, Refusal):
        return stream
    new = _new(view, stream, parts)
    size = sum(len(part.body) for part in new)
    if stream.bytes + size > MAX_STREAM_BYTES:
        return Refusal("too_large", f"stream {key[:100]!r} of run {run.id} has {MAX_STREAM_BYTES} bytes, its limit")
    if new:
        _write(view, stream, new, size)
        if key.startswith(INPUT):
            _settle(view, run, stream)
    return Appended(next_seq=stream.next_seq)


def _stream(view: View, id: Id) -> Stream | None:
    known = view.streams.known
    if id not in known:
        known[id] = streams.find(view.tx, id)
    return known[id]


def _declare(view: View, run: Run, key: str) -> Stream | Refusal:
    data = view.data.get(run.id)
    if data is None:
        raise NeedsLock(Rows(light={run.id}, data={run.id}))
    stream = Stream(run_id=run.id, key=key, env_id=run.env_id, created_at=view.now)
    if not key.startswith(INPUT):
        if len(data.options.streams) >= MAX_STREAMS:
            return Refusal("limit_exceeded", f"run {run.id} has {MAX_STREAMS} streams, its limit")
        options = replace(data.options, streams=[*data.options.streams, key])
        view.data[run.id] = replace(data, options=options)
        view.writes.options[run.id] = options
        view.apply(Change(replace(run, updated_at=view.now), "stream"))  # subscribers of the run see that there is a stream to read
    view.streams.known[(run.id, key)] = stream
    view.streams.born.add((run.id, key))
    return stream


def _new(view: View, stream: Stream, parts: Sequence[Part]) -> list[Part]:
    """A writer numbers its parts; what it sends again is dropped."""
    id_ = (stream.run_id, stream.key)
    known = view.streams.writers.setdefault(id_, {})
    unknown = {part.writer for part in parts if part.writer is not None} - known.keys()
    known.update(dict.fromkeys(unknown, -1) | streams.writers(view.tx, id_, unknown))
    new: list[Part] = []
    for part in parts:
        if part.writer is not None:
            if part.index <= known[part.writer]:
                continue
            known[part.writer] = part.index
            view.streams.moved[(*id_, part.writer)] = part.index
        new.append(part)
    return new


def _write(view: View, stream: Stream, new: Sequence[Part], size: int) -> None:
    id_ = (stream.run_id, stream.key)
    chunks: list[Chunk] = []
    held = 0
    for part in [*new, None]:
        if chunks and (part is None or held + len(part.body) > ROW_BYTES):
            view.streams.rows.append(streams.row(id_, stream.next_seq, view.now, chunks))
            stream.next_seq += len(chunks)
            chunks, held = [], 0
        if part is not None:
            chunks.append((part.id, part.body))
            held += len(part.body)
    view.streams.new.setdefault(id_, []).extend((part.id, part.body) for part in new)
    stream.bytes += size
    view.streams.changed.add(id_)
    view.topics.add((stream.env_id, topic(*id_)))


# ---- input


def _waits(stream: Stream) -> str:
    return f"input:{stream.run_id}:{stream.key}"


def wait_for(view: View, run: Run, entry: Entry, key: str) -> Entry | Refusal:
    """The next record that this journal's waits have not been given; the run is woken by it when it comes."""
    stream = _stream(view, (run.id, key)) or _declare(view, run, key)
    if isinstance(stream, Refusal):
        return stream
    entry = replace(entry, ref=key)
    taken = _take(view, run, stream)
    if taken is not None:
        return view.record(run, replace(entry, status="ok", value=taken, value_type="application/json"))
    view.writes.waiters.append((_waits(stream), run.id, f"{run.journal}:{entry.key}"))
    return view.record(run, replace(entry, status="pending"))


def _take(view: View, run: Run, stream: Stream) -> str | None:
    id_ = (stream.run_id, stream.key)
    if stream.journal != run.journal:  # a new attempt is given everything from the start
        stream.journal, stream.taken = run.journal, 0
    body = _record(view, stream, stream.taken)
    if body is not None:
        stream.taken += 1
        view.streams.changed.add(id_)
    return body


def _record(view: View, stream: Stream, seq: int) -> str | None:
    if seq >= stream.next_seq:
        return None
    id_ = (stream.run_id, stream.key)
    written = view.streams.new.get(id_, [])
    at = seq - (stream.next_seq - len(written))
    return written[at][1] if at >= 0 else streams.read(view.tx, id_, seq, 1)[0].body


def _settle(view: View, run: Run, stream: Stream) -> None:
    """Records go to the waits that began first, one to each. A wait whose time is over takes none."""
    waiters = {*journal.waiters(view.tx, [_waits(stream)])(), *view.new_waiters(_waits(stream))}
    by_token = sorted(key for _, key in waiters if key.startswith(BY_TOKEN))
    waiters -= {(run.id, key) for key in by_token}
    view.need(sorted(waiters))
    _complete_tokens(view, stream, by_token)
    # of those that began in one millisecond: by their numbers in the code, which are at the end of their keys
    waiting = [
        (entry.began_at or 0, len(key), key) for _, key in waiters if (entry := view.entry(f"{run.id}:{key}")) and entry.status == "pending"
    ]
    for *_, journal_key in sorted(waiting):
        if journal_key.partition(":")[0] != str(run.journal):
            continue
        taken = _take(view, run, stream)
        if taken is None:
            return
        view.settle(run.id, journal_key, "ok", taken, "application/json")
        view.writes.gone_edges.append((_waits(stream), run.id, journal_key))


# ---- input, waited for by a token


def _needs_input_token(c: CreateInputToken, wants: Rows) -> None:
    wants.light.add(c.run_id)
    wants.data.add(c.run_id)
    tokens.needs_key(c.token, wants)


@operation(needs=_needs_input_token)
def create_input_token(view: View, c: CreateInputToken) -> TokenCreated | Refusal:
    run = view.run(c.run_id, c.token.env_id)
    if run is None:
        return Refusal("not_found", "Run not found")
    if run.is_final:
        return Refusal("run_final", f"run {run.id} is over: nothing will be sent to it any more")
    stream = _stream(view, (run.id, c.key)) or _declare(view, run, c.key)
    if isinstance(stream, Refusal):
        return stream
    made = tokens.create_token.decide(view, c.token)
    if made.is_cached:
        return made
    edge = f"{BY_TOKEN}{made.token_id}:{c.after}"
    view.writes.waiters.append((_waits(stream), run.id, edge))
    _complete_tokens(view, stream, [edge])
    return made


def _complete_tokens(view: View, stream: Stream, edges: Sequence[str]) -> None:
    """Each by the first record after the one it names; it takes none away from the run's own waits."""
    named = [(edge, *edge.removeprefix(BY_TOKEN).split(":")) for edge in edges]
    if missing := {id for _, id, _ in named} - view.loaded.tokens - view.tokens.keys():
        raise NeedsLock(Rows(tokens=missing))
    for edge, id, after in named:
        body, token = _record(view, stream, int(after) + 1), view.token(id)
        if body is not None and token is not None:
            tokens.complete(view, token, body)
            view.writes.gone_edges.append((_waits(stream), stream.run_id, edge))
