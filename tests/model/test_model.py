"""Pure rules: durations, back-off, ids, values, lanes, transitions."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.model import payload
from outlast.model.duration import format_duration, parse_duration
from outlast.model.ids import IdFactory, made_at
from outlast.model.lane import Candidate, share
from outlast.model.lifecycle import TRANSITIONS
from outlast.model.retry import Retry, backoff_ms
from outlast.model.run import Execution


@pytest.mark.parametrize(
    ("text", "ms"), [("1h52m18s", 6_738_000), ("2d", 172_800_000), ("1w", 604_800_000), ("90s", 90_000), ("1hr", 3_600_000)]
)
def test_durations_are_read(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "abc", "-1s", "1.5h", "P1Y", "1", "1y", "9" * 101 + "s", "99999999d", "１s"])
def test_bad_durations_name_the_accepted_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|longer"):
        parse_duration(text)


@given(st.integers(0, 300_000_000))
def test_formatted_durations_read_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds * 1_000)) == seconds * 1_000


def test_back_off_is_the_documented_formula() -> None:
    policy = Retry(max_attempts=10, factor=2, min_timeout=1, max_timeout=60, randomize=False)
    assert [backoff_ms(policy, n, 0.0) for n in range(1, 8)] == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]
    assert backoff_ms(policy, 10, 0.0) is None
    assert backoff_ms(Retry(), 1, 0.5) == 1_500


@given(st.floats(0.001, 1e6), st.integers(1, 249), st.floats(0, 0.999))
def test_back_off_never_overflows_and_keeps_its_ceiling(factor: float, attempt: int, chance: float) -> None:
    pause = backoff_ms(Retry(max_attempts=250, factor=factor), attempt, chance)
    assert pause is not None
    assert 0 <= pause <= 60_000


@pytest.mark.parametrize(
    "bad", [{"factor": 0}, {"factor": float("nan")}, {"min_timeout": -1}, {"min_timeout": 5, "max_timeout": 1}, {"max_attempts": 251}]
)
def test_a_policy_that_makes_no_sense_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Retry"):
        Retry(**bad)


def test_ids_sort_by_time_also_within_a_millisecond_and_when_the_clock_goes_back() -> None:
    ids = IdFactory(random.Random(1).getrandbits)
    times = [1_800_000_000_000] * 500 + [1_800_000_000_005, 1_800_000_000_001, 1_800_000_000_009]
    made = [ids.new("run", at) for at in times]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {len(i) for i in made} == {30}
    assert made_at(made[-1]) == 1_800_000_000_009


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_plain_values_travel_unchanged(value: Any) -> None:
    assert payload.decode(*payload.encode(value)) == value


def test_dates_and_sets_travel_as_superjson() -> None:
    value = {"at": datetime(2026, 11, 24, 9, 30, tzinfo=UTC), "tags": {"a"}, "a.b": [datetime(2026, 1, 1, tzinfo=UTC)]}
    data, kind = payload.encode(value)
    assert kind == "application/super+json"
    assert payload.decode(data, kind) == value


@pytest.mark.parametrize("value", [b"bytes", float("nan"), {"a": [object()]}, "\ud800", open])
def test_what_cannot_travel_is_named(value: Any) -> None:
    with pytest.raises(payload.NotSerializable, match="the value"):
        payload.encode(value)


def test_a_value_that_contains_itself_is_named() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(payload.NotSerializable, match="contains itself"):
        payload.encode(loop)


def test_unknown_codecs_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown_codec"):
        payload.decode("gASVBQ", "application/x-pickle")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=12), st.integers(0, 30))
def test_shares_keep_every_limit_and_waste_no_room(pairs: list[tuple[int, int]], room: int) -> None:
    free = dict(pairs)
    lanes = [Candidate(n, base, free[base]) for n, (base, _) in enumerate(pairs)]
    take = share(lanes, room)
    by_base = {base: sum(take[lane.lane_id] for lane in lanes if lane.base_id == base) for base in free}
    assert all(by_base[base] <= free[base] for base in free)
    assert sum(take.values()) == min(room, sum(free[base] for base in {lane.base_id for lane in lanes}))


def test_nothing_follows_the_end() -> None:
    assert TRANSITIONS[Execution.FINISHED] == frozenset()
    assert set(TRANSITIONS) == set(Execution)


def test_a_larger_machine_for_a_retry_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"out_of_memory is not built yet"):
        Retry(out_of_memory="large-1x")
