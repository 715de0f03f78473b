"""How values are shown, and what is sent to a browser."""

from __future__ import annotations

from outlast.server.dashboard import assets
from outlast.server.dashboard.look import duration, plain, pretty


def test_scripts_are_small_and_come_from_us_alone() -> None:
    scripts = {name: content for name, (content, _, _) in assets.all_files().items() if name.endswith(".js")}
    assert sum(len(content) for content in scripts.values()) < 25_000
    assert not any(b"://" in content for content in scripts.values())
    assert sum(content.count(b"innerHTML") for content in scripts.values()) == 1


def test_json_is_shown_as_it_was_written_and_cut_where_it_is_endless() -> None:
    text = str(pretty('{"n": 18446744073709551617, "f": 1.10, "s": "<b>"}'))
    assert "18446744073709551617" in text and "1.10" in text and "&lt;b&gt;" in text
    assert "…" in str(pretty("[" + "1," * 20_000 + "1]"))
    assert "cut:" in str(pretty('"' + "x" * 300_000 + '"'))
    assert str(pretty("[" * 2_000)) == "[" * 2_000


def test_characters_that_hide_or_reorder_are_made_visible() -> None:
    assert plain("a\u202eb\x1b[31m\x00c") == "a⟦202E⟧b␛[31m␀c"


def test_durations_are_short() -> None:
    assert [duration(ms) for ms in (None, 0, 302, 1_290, 59_999, 245_000, 183_600_000)] == [
        "–",
        "0ms",
        "302ms",
        "1.2s",
        "59.9s",
        "4m 5s",
        "2d 3h",
    ]
