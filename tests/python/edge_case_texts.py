"""Texts that are hard to read, split and count, each with two entities."""

from __future__ import annotations

from typing import Any

LONG = 1_000_000


def sentence(before: str = "", between: str = " binds ", after: str = ".") -> dict[str, Any]:
    """Two entities, with these texts around them."""
    start = len(before)
    second = start + 3 + len(between)
    entities = [
        {"start": start, "end": start + 3, "type": "drug"},
        {"start": second, "end": second + 3, "type": "drug"},
    ]
    return {"text": f"{before}aaa{between}bbb{after}", "entities": entities}


EDGE_CASES = {
    "astral": sentence("\U0001f9ec\U0001d6c3 ", " \U0001f9ea\U0001f9ea "),
    "combining": sentence("e\u0301\u0323 n\u0303o ", " a\u0300" * 40),
    "right to left": sentence(
        "\u202e\u05d0\u05e1\u05e4\u05d9\u05e8\u05d9\u05df ", " \u0623\u0633\u0628\u0631\u064a\u0646 \u200f"
    ),
    "nul": sentence("a\x00b ", " \x00 ", "\x00"),
    "crlf": sentence("One.\r\n", "\r\nbinds\r\n", "\r\n"),
    "controls": sentence("\x01\x1b[31m\x7f\x85\u2028\u2029\ufeff ", " \u200b\u00ad "),
    "unassigned": sentence("\ufffe\uffff\U0010ffff ", " \ue000 "),
    "only entities": sentence("", " ", ""),
    "touching": sentence("", "", ""),
    "zero width": sentence("\u200d" * 200, "\u200d" * 200),
    "tabs": sentence("a\tb ", "\t"),
    "bare returns": sentence("a\rb ", "\r"),
}
