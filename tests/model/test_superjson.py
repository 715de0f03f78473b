"""superjson as the official client writes it, and as somebody else might."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from outlast.model import payload


def read(value: Any, values: Any = None, equal: Any = None) -> Any:
    meta = {name: found for name, found in (("values", values), ("referentialEqualities", equal)) if found is not None}
    return payload.decode(json.dumps({"json": value, "meta": meta} if meta else {"json": value}), payload.SUPERJSON)


@pytest.mark.parametrize(
    ("value", "values", "expected"),
    [
        ("2026-01-01T00:00:00.000Z", ["Date"], datetime(2026, 1, 1, tzinfo=UTC)),
        (None, ["undefined"], None),
        ("123456789012345678901234567890", ["bigint"], 123456789012345678901234567890),
        ([["a", 1], ["b", "9"]], ["map", {"1.1": ["bigint"]}], {"a": 1, "b": 9}),
        ([[{"k": 1}, 2]], ["map"], [[{"k": 1}, 2]]),  # a key that Python cannot have
        ([1, 2, 2], ["set"], {1, 2}),
        ([{"a": 1}], ["set"], [{"a": 1}]),
        ({"name": "TypeError", "message": "m"}, ["Error"], {"name": "TypeError", "message": "m"}),
        ("/a+/gi", ["regexp"], "/a+/gi"),
        ("https://a.example/", ["URL"], "https://a.example/"),
        ("-Infinity", ["number"], -math.inf),
        ("-0", ["number"], -0.0),
        ([1, 2], [["typed-array", "Uint8Array"]], [1, 2]),
        ({"x": 1}, [["class", "Point"]], {"x": 1}),
        ({"a": {"b.c": "5"}}, {"a.b\\.c": ["bigint"]}, {"a": {"b.c": 5}}),
        ({"__proto__": {"polluted": 1}}, {"__class__.x": ["Date"]}, {"__proto__": {"polluted": 1}}),
        ({"a": 1}, {"a": ["Date"], "nowhere.at.all": ["Date"], "a.b": ["set"]}, {"a": 1}),
        ([], "nonsense", []),
    ],
)
def test_a_value_is_what_javascript_had(value: Any, values: Any, expected: Any) -> None:
    assert read(value, values) == expected


def test_one_object_in_two_places_is_one_again() -> None:
    found = read({"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}]}, None, {"a": ["b", "c.0"]})
    assert found["a"] is found["b"] is found["c"][0]


def test_a_circle_is_closed() -> None:
    found = read({"self": None, "child": {"parent": None}}, None, [["self", "child.parent"]])
    assert found["self"] is found and found["child"]["parent"] is found
    both = read({"self": None, "a": {"x": 1}, "b": None}, None, [["self"], {"a": ["b"]}])
    assert both["self"] is both and both["b"] is both["a"]


@pytest.mark.parametrize("equal", [5, [], [5], {"a": 5}, {"a": ["nowhere.x"]}, [["nowhere.x"]], {"nowhere": ["a"]}])
def test_equalities_that_lead_nowhere_say_nothing(equal: Any) -> None:
    assert read({"a": 1}, None, equal) == {"a": 1}
