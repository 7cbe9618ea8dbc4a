"""JSON lines that list the relations of a sentence, as files made from BLURB and BioRED have them.

::

    {"id": "d1.s0", "text": "MKP-1 ...", "directed": false, "reverse": false,
     "relation": [{"relation_type": "Phosphorylation", "entity_1": "STAT1", "entity_1_idx": [12, 17],
                   "entity_1_type": "GENE", "entity_2": "MKP-1", "entity_2_idx": [57, 62], "entity_2_type": "GENE"}]}

Offsets count characters; an entity in several segments has a list of pairs. A row with ``reverse`` repeats another one
with the entities exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from biorel._warnings import warn
from biorel.errors import CorpusError

_TYPE_NAMES = ("relation_type", "rel_type")


def is_relation_row(row: Mapping[str, Any]) -> bool:
    """Whether a row lists relations with the offsets of their entities."""
    relations = row.get("relation")
    return isinstance(relations, list) and all(isinstance(one, dict) and "entity_1_idx" in one for one in relations)


def relation_rows(name: str, rows: Sequence[tuple[int, dict[str, Any]]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """A row of a user's table for each relation, with its line."""
    copies = 0
    for line, row in rows:
        if not is_relation_row(row):
            raise CorpusError(
                f"{name}:{line}: has no list `relation` with `entity_1_idx`, as the first line has", name, line
            )
        if "text" not in row:
            hint = "; offsets of `tokens` cannot be read" if "tokens" in row else ""
            raise CorpusError(f"{name}:{line}: has no `text`{hint}", name, line)
        if row.get("reverse") == "true":
            copies += 1
            continue
        several = len(row["relation"]) > 1
        for number, relation in enumerate(row["relation"]):
            yield line, _pair(name, line, row, relation, f".{number}" if several else "")
    if copies:
        warn(f"{name}: {copies} rows that repeat others with the entities exchanged are left out")


def _pair(name: str, line: int, row: Mapping[str, Any], relation: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    label = next((relation[key] for key in _TYPE_NAMES if key in relation), None)
    if label is None:
        raise CorpusError(f"{name}:{line}: a relation has no `relation_type`", name, line)
    pair = {"text": row["text"], "label": label}
    if row.get("id") is not None:
        pair["id"] = f"{row['id']}{suffix}"
    for number in (1, 2):
        places = relation.get(f"entity_{number}_idx")
        segments = [places] if places and not isinstance(places[0], list) else places
        if not segments or any(not isinstance(one, list) or len(one) != 2 for one in segments):
            message = f"`entity_{number}_idx` must be [start, end] or a list of such pairs, not {places!r}"
            raise CorpusError(f"{name}:{line}: {message}", name, line)
        pair |= {f"entity{number}_start": segments[0][0], f"entity{number}_end": segments[-1][1]}
        if len(segments) == 1 and f"entity_{number}" in relation:
            pair[f"entity{number}"] = relation[f"entity_{number}"]
        else:  # the stated text of an entity in several segments lacks what is between them
            pair[f"entity{number}"] = row["text"][segments[0][0] : segments[-1][1]]
        if f"entity_{number}_type" in relation:
            pair[f"entity{number}_type"] = relation[f"entity_{number}_type"]
    return pair
