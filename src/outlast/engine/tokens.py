"""Tokens: created and completed from anywhere, waited for by any number of runs."""

from __future__ import annotations

from msgspec.structs import replace

from outlast.engine.operation import operation
from outlast.engine.rows import Rows
from outlast.engine.view import View
from outlast.model.failure import Failure
from outlast.model.journal import Entry, EntryStatus
from outlast.model.refusal import Refusal
from outlast.model.result import encode_failure
from outlast.model.run import Run
from outlast.model.token import CompleteToken, CreateToken, TimeOutToken, TokenCreated
from outlast.store import journal
from outlast.store.waitpoints import Token, TokenStatus

KEYS = "waitpoint/token"  # no task's id: their keys share a table with those of runs
TIMER = "token"


def needs_key(c: CreateToken, wants: Rows) -> None:
    if c.idempotency_hash:
        wants.keys.add((c.env_id, KEYS, c.idempotency_hash))


@operation(needs=needs_key)
def create_token(view: View, c: CreateToken) -> TokenCreated:
    """The same idempotency key within its time gives the same token, completed or not."""
    key = (c.env_id, KEYS, c.idempotency_hash or "")
    holder = view.keys.get(key) if c.idempotency_hash else None
    if holder is not None and holder[1] > view.now:
        return TokenCreated(token_id=holder[0], is_cached=True)
    expires_at = view.now + c.idempotency_ttl_ms if c.idempotency_hash else None
    token = Token(
        id=view.new_id("waitpoint"), env_id=c.env_id, tags=c.tags, idempotency_key=c.idempotency_key, idempotency_expires_at=expires_at,
        timeout_at=c.timeout_at, created_at=view.now,
    )  # fmt: skip
    view.tokens[token.id] = token
    view.writes.born_tokens.add(token.id)
    if expires_at is not None:
        view.keys[key] = (token.id, expires_at)
        view.writes.keys.append((*key, token.id, expires_at, holder[0] if holder else None))
    if token.timeout_at is not None:
        view.writes.timers.add((token.timeout_at, TIMER, token.id))
    return TokenCreated(token_id=token.id)


def _needs_token(c: CompleteToken | TimeOutToken, wants: Rows) -> None:
    wants.tokens.add(c.token_id)


@operation(needs=_needs_token)
def complete_token(view: View, c: CompleteToken) -> bool | Refusal:
    """Whether this completed it: once it is over, another completion is a success that changes nothing."""
    token = view.token(c.token_id)
    if token is None or (c.env_id is not None and token.env_id != c.env_id):
        return Refusal("not_found", "Waitpoint not found")
    complete(view, token, c.value)
    return token.status == "WAITING"


def complete(view: View, token: Token, value: str | None) -> None:
    if token.status == "WAITING":
        if token.timeout_at is not None:
            view.writes.gone_timers.add((token.timeout_at, TIMER, token.id))
        _end(view, token, "COMPLETED", value)


@operation(needs=_needs_token)
def time_out_token(view: View, t: TimeOutToken) -> None:
    if t.due_at > view.now:
        return
    view.writes.gone_timers.add((t.due_at, TIMER, t.token_id))
    token = view.token(t.token_id)
    if token is not None and token.status == "WAITING":
        _end(view, token, "TIMED_OUT", None)


def _end(view: View, token: Token, status: TokenStatus, value: str | None) -> None:
    token = replace(token, status=status, value=value, completed_at=view.now)
    view.tokens[token.id] = token
    view.writes.tokens.add(token.id)
    outcome, waiters = entry_of(token), sorted({*journal.waiters(view.tx, [token.id])(), *view.new_waiters(token.id)})
    view.need(waiters)
    for run_id, journal_key in waiters:
        view.settle(run_id, journal_key, outcome[0], outcome[1], "application/json")
    view.writes.gone_waiters.append(token.id)


def entry_of(token: Token) -> tuple[EntryStatus, str | None]:
    """(status, value) of an entry that waited for it."""
    if token.status == "COMPLETED":
        return "ok", token.value
    return "error", encode_failure(Failure(name="WaitTimedOut", message=f"token {token.id} was not completed in time"))


def wait_for(view: View, run: Run, entry: Entry, token_id: str, journal_key: str) -> Entry | Refusal:
    token = view.token(token_id)
    if token is None or token.env_id != run.env_id:
        return Refusal("invalid", f"there is no token {token_id[:64]} in this environment")
    entry = replace(entry, ref=token_id)
    if token.status == "WAITING":
        view.writes.waiters.append((token_id, run.id, journal_key))
        return view.record(run, replace(entry, status="pending"))
    status, value = entry_of(token)
    return view.record(run, replace(entry, status=status, value=value, value_type="application/json"))
