"""The page of what works names every method the official client has."""

from __future__ import annotations

import re

from tests.conformance.npm import HERE
from tests.conformance.official import Official

PAGE = HERE.parents[1] / "docs" / "reference" / "trigger-compatibility.md"
NOT_NAMESPACES = {"webhookSources", "providerProducers"}  # makers of sources for webhooks


def test_every_method_is_on_the_page(official: Official) -> None:
    found: list[str] = official("""
        const names = [];
        for (const [space, value] of Object.entries(sdk)) {
            if (!value || typeof value !== "object") continue;
            for (const [name, member] of Object.entries(value)) {
                if (typeof member === "function") names.push(`${space}.${name}`);
                else if (member && typeof member === "object") for (const inner of Object.keys(member)) names.push(`${space}.${name}.${inner}`);
            }
        }
        return names;
        """)
    named = set(re.findall(r"`([\w.]+(?:\.\*)?)`", PAGE.read_text()))
    missing = [
        name for name in found
        if name not in named and name.split(".")[0] not in NOT_NAMESPACES
        and not any(f"{name.rsplit('.', n)[0]}.*" in named for n in (1, 2))
    ]  # fmt: skip
    assert len(found) > 100 and missing == []
