"""Operations on metadata: what each does, and what is refused with a reason while the others are applied."""

from __future__ import annotations

from typing import Any

import pytest

from outlast.model.metadata import MAX_INDEX, AnyOp, Append, Delete, Increment, Remove, Set, Unfit, Update, apply, path_of


@pytest.mark.parametrize(
    ("before", "op", "after"),
    [
        ({}, Set("a", 1), {"a": 1}),
        ({"a": {"b": 1}}, Set("$.a.c[1].d", 2), {"a": {"b": 1, "c": [None, {"d": 2}]}}),
        ({"a": [1, 2]}, Set("$.a.1", 5), {"a": [1, 5]}),
        ({"a": "x"}, Set("$.a.b", 1), {"a": {"b": 1}}),
        ({"$.a": 1, "a.b": 2}, Set("a.b", 3), {"$.a": 1, "a.b": 3}),
        ({"a": 1, "b": 2}, Delete("a"), {"b": 2}),
        ({"a": {"b": 1, "c": 2}}, Delete("$.a.b"), {"a": {"c": 2}}),
        ({"a": [1, 2, 3]}, Delete("$.a[1]"), {"a": [1, 3]}),
        ({"a": 1}, Delete("none"), {"a": 1}),
        ({}, Append("log", "x"), {"log": ["x"]}),
        ({"log": ["x"]}, Append("log", "y"), {"log": ["x", "y"]}),
        ({"log": "x"}, Append("log", "y"), {"log": ["x", "y"]}),
        ({"a": [1, {"b": 2}, 1]}, Remove("a", 1), {"a": [{"b": 2}]}),
        ({"a": [{"b": 1, "c": 2}]}, Remove("a", {"c": 2, "b": 1}), {"a": []}),
        ({"a": [True, 1]}, Remove("a", 1), {"a": [True]}),
        ({}, Increment("n", 2), {"n": 2}),
        ({"a": {"n": 1.5}}, Increment("$.a.n", -1), {"a": {"n": 0.5}}),
        ({"a": 1}, Update({"b": 2}), {"b": 2}),
        ({"a": {}}, Set("$.a.__class__", 1), {"a": {"__class__": 1}}),
    ],
)
def test_an_operation_does_what_it_says(before: dict[str, Any], op: AnyOp, after: dict[str, Any]) -> None:
    assert apply(before, [op]) == (after, [])


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (Increment("text", 1), "there is a str, not a number"),
        (Increment("yes", 1), "there is a bool, not a number"),
        (Remove("text", 1), "no list"),
        (Set(f"$.list[{MAX_INDEX + 1}]", 1), "above the limit"),
        (Set("$.list[9999999999]", 1), "above the limit"),
        (Set("$.list.x", 1), "no place in a list"),
        (Set("__proto__", 1), "not a safe key"),
        (Set("$.a.constructor", 1), "not a safe key"),
        (Set("", 1), "1 to 1024 characters"),
        (Set("k" * 1_025, 1), "1 to 1024 characters"),
        (Set("$." + "a." * 101 + "a", 1), "at most 100 steps"),
        (Set("$.a[b]", 1), "not a path"),
        (Increment("big", 1e308), "too large"),
    ],
)
def test_what_cannot_be_applied_is_left_out_with_a_reason(op: AnyOp, reason: str) -> None:
    """Rows 33 and 48 of the bad inputs."""
    before: dict[str, Any] = {"text": "x", "yes": True, "list": [1], "a": {}, "big": 1e308}
    after, [said] = apply({**before}, [op, Set("other", 1)])
    assert reason in said
    assert after == {**before, "other": 1}


def test_paths_are_read_step_by_step() -> None:
    assert path_of("a.b") == ["a.b"]
    assert path_of("$.a.b[2].c") == ["a", "b", 2, "c"]
    assert path_of(r"$.a\.b.c") == ["a.b", "c"]
    with pytest.raises(Unfit):
        path_of("$.")
