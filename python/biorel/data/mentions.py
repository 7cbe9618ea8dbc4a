"""Find entities that a table gives as strings, such as ``aspirin`` in the column ``drug_a``, in their texts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from biorel.errors import CorpusError

# Problems that an error lists; it counts the others.
_LISTED = 20


def occurrences(text: str, mention: str) -> list[tuple[int, int]]:
    """The spans of a mention in a text, as whole words: in the case as given, else in any case."""
    return _whole_words(text, _spans(text, mention)) or _whole_words(text, _folded_spans(text, mention))


def locate_mentions(
    columns: Mapping[str, Sequence[Any]], names: Mapping[str, str], places: Sequence[str], source: str
) -> dict[str, list[int]]:
    """The four columns of offsets of a table whose entities are strings.

    Parameters
    ----------
    columns : mapping of str to sequence
        ``text``, ``entity1``, ``entity2``, and optionally ``entity1_occurrence`` and ``entity2_occurrence``: which of
        the occurrences is meant, from 1, or None.
    names : mapping of str to str
        The user's names for columns, where they differ.
    places : sequence of str
        Where each row is, for errors.
    source : str
        The name of the table, for errors.

    Returns
    -------
    dict of str to list of int
        ``entity1_start``, ``entity1_end``, ``entity2_start``, ``entity2_end``.

    Raises
    ------
    CorpusError
        With every row whose mentions are not in its text, or in more than one place.

    Examples
    --------
    >>> columns = {"text": ["Aspirin enhances warfarin."], "entity1": ["aspirin"], "entity2": ["warfarin"]}
    >>> locate_mentions(columns, {}, ["row 0"], "table")
    {'entity1_start': [0], 'entity1_end': [7], 'entity2_start': [17], 'entity2_end': [25]}
    """
    offsets: dict[str, list[int]] = {f"entity{n}_{edge}": [] for n in (1, 2) for edge in ("start", "end")}
    problems: list[str] = []
    wrong_rows = 0
    for row, (text, *mentions) in enumerate(zip(columns["text"], columns["entity1"], columns["entity2"], strict=True)):
        found = [occurrences(text, mention.strip()) for mention in mentions]
        wanted = [columns[key][row] if (key := f"entity{n}_occurrence") in columns else None for n in (1, 2)]
        if wanted == [None, None] and found[0] == found[1] and len(found[0]) == 2:
            wanted = [1, 2]  # the same word twice: the entities are in the order of the text
        reasons = []
        for n, (mention, spans, which) in enumerate(zip(mentions, found, wanted, strict=True), start=1):
            name, counter = (names.get(ours, ours) for ours in (f"entity{n}", f"entity{n}_occurrence"))
            if not spans:
                listed = len(problems) < _LISTED
                reasons.append(f"{name} `{mention}` is not in the text{_near(text, mention) if listed else ''}")
            elif which is None and len(spans) > 1:
                reasons.append(
                    f"{name} `{mention}` occurs {len(spans)} times; which one? ({counter} = 1 to {len(spans)})"
                )
            elif which is not None and not 1 <= which <= len(spans):
                reasons.append(f"{counter} is {which}, but `{mention}` occurs {len(spans)} times")
            else:
                start, end = spans[(which or 1) - 1]
                offsets[f"entity{n}_start"].append(start)
                offsets[f"entity{n}_end"].append(end)
        if not reasons and _last(offsets, 1) == _last(offsets, 2):
            reasons.append(f"both entities are the same mention `{mentions[0]}`")
        problems += [f"  {places[row]}: {reason}" for reason in reasons]
        wrong_rows += bool(reasons)
    if problems:
        raise CorpusError(_message(problems, wrong_rows, len(places), names, source), source)
    return offsets


def _last(offsets: Mapping[str, list[int]], number: int) -> tuple[int, int]:
    return offsets[f"entity{number}_start"][-1], offsets[f"entity{number}_end"][-1]


def inside_words(text: str, start: int, end: int) -> bool:
    """Whether a span starts or ends inside a word."""
    return _joined(text, start) or _joined(text, end)


def _joined(text: str, position: int) -> bool:
    """Whether the characters before and after a position belong to one word."""
    return 0 < position < len(text) and text[position - 1].isalnum() and text[position].isalnum()


def _whole_words(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [span for span in spans if not inside_words(text, *span)]


def _spans(text: str, mention: str) -> list[tuple[int, int]]:
    """The spans of a mention; its white space is any white space of the text."""
    pattern = r"\s+".join(map(re.escape, mention.split()))
    return [match.span(1) for match in re.finditer(f"(?=({pattern}))", text)] if pattern else []


def _folded_spans(text: str, mention: str) -> list[tuple[int, int]]:
    """Spans in any case. Folding can change the length of a text (`ß` becomes `ss`), so positions are kept with it."""
    pieces = [character.casefold() for character in text]
    starts: dict[int, int] = {}
    length = 0
    for position, piece in enumerate(pieces):
        starts[length] = position
        length += len(piece)
    starts[length] = len(text)
    found = _spans("".join(pieces), mention.casefold())
    return [(starts[start], starts[end]) for start, end in found if start in starts and end in starts]


def _near(text: str, mention: str) -> str:
    """What the text has instead, to be added to a message."""
    inside = _spans(text.casefold(), mention.strip().casefold())
    words = re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", text)
    if inside and len(text.casefold()) == len(text):
        around = [word for word in words if mention.strip().casefold() in word.casefold()]
        return f" as a word, only inside `{around[0]}`" if around else " as a word"
    count = len(mention.split()) or 1
    phrases = [" ".join(words[at : at + count]) for at in range(len(words) - count + 1)]
    close = difflib.get_close_matches(mention, phrases, n=1, cutoff=0.75)
    return f" (it has `{close[0]}`)" if close else ""


def _message(problems: list[str], rows: int, total: int, names: Mapping[str, str], source: str) -> str:
    """List the rows whose mentions were not found, with what to do."""
    first, second, one, two = (
        names.get(ours, ours) for ours in ("entity1", "entity2", "entity1_occurrence", "entity2_occurrence")
    )
    lines = [f"{source}: the entities of {rows:,} of {total:,} rows cannot be located in their texts:"]
    lines += problems[:_LISTED]
    if len(problems) > _LISTED:
        lines.append(f"  ... and {len(problems) - _LISTED:,} more")
    lines.append(
        f"write {first} and {second} as in the text (upper and lower case may differ), or leave the row out; of a "
        f"mention that occurs several times, columns {one} and {two} say which occurrence is meant, from 1"
    )
    return "\n".join(lines)
