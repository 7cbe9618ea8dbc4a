"""The pairs of a user's table without labels, as a model classifies them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from biorel import _biorel
from biorel._warnings import warn
from biorel.data.tables import COLUMNS, OFFSET_COLUMNS, Offsets, Table, table_columns
from biorel.errors import CorpusError

# Columns that only training needs.
_OF_TRAINING = ("label", "split", "fold")
_NEEDED = ("text", "entity1", "entity2", *OFFSET_COLUMNS)


def is_table(rows: object, task: _biorel.Task) -> bool:
    """Whether rows are pairs, one in each row, and not sentences with a list of entities."""
    if isinstance(rows, pd.DataFrame):
        listed = "entities" in rows.columns and (not len(rows) or any(map(has_entities, rows["entities"])))
        return len(rows.columns) > 0 and not listed
    if not isinstance(rows, (list, tuple)) or not rows or not isinstance(rows[0], Mapping):
        return False
    if has_entities(rows[0].get("entities")):
        return False
    names = {task.columns.get(name, name) for name in _NEEDED if name != "text"} | set(_NEEDED[1:])
    return bool(names & rows[0].keys())


def has_entities(value: object) -> bool:
    """Whether this is the list of a sentence's entities; a column of a user's table may be called `entities` too."""
    return isinstance(value, (list, tuple))


def table_pairs(
    task: _biorel.Task, table: Table, columns: Mapping[str, str] | None, offsets: Offsets
) -> _biorel.Corpus:
    """A corpus of the pairs of a table, in its order, in the split ``all``; their labels mean nothing.

    Parameters
    ----------
    task : Task
        The model's task. Its columns are read unless `columns` are given.
    table : Table
        The table.
    columns : mapping of str to str, optional
        As in ``load_corpus``.
    offsets : {"characters", "bytes"}
        As in ``load_corpus``.
    """
    names = _trained_columns(task, table) if columns is None else columns
    values = table_columns(table, names, offsets=offsets, labelled=False)
    located = set(OFFSET_COLUMNS) <= values.keys()
    if located:
        _set_types(task, table, values)
    values["label"] = [task.labels[0]] * len(values["text"])
    options = _biorel.ReadOptions(labels=task.labels, negative=task.negative)
    core = table.named(lambda: _biorel.Corpus.from_columns(values, options))
    if not located:
        pairs = core.pairs("all")
        for position, types in enumerate(zip(pairs["type1"], pairs["type2"], strict=True)):
            if not _allowed(task.rules, *types):
                raise table.error(position, _refused(task, types))
    return core


def default_type(task: _biorel.Task) -> str | None:
    """The type of an entity without one: that of the model, if all its types have the same tag."""
    return _only(task, (one for rule in task.rules for side in rule for one in side)) if task.rules else "entity"


def _trained_columns(task: _biorel.Task, table: Table) -> dict[str, str]:
    """The columns that trained the model, as far as they are here; ours are taken where they are not."""
    known = {ours: task.columns[ours] for ours in COLUMNS if ours in task.columns and ours not in _OF_TRAINING}
    here = {ours: theirs for ours, theirs in known.items() if theirs in table.frame.columns}
    absent = [known[ours] for ours in _NEEDED if ours in known and ours not in here and ours not in table.frame.columns]
    if absent:
        message = (
            f"{table.source}: no column `{absent[0]}`; the model was trained on a table with the columns "
            f"{', '.join(known.values())}, and this one has {', '.join(map(str, table.frame.columns))}; give `columns` "
            "for other names"
        )
        raise CorpusError(message, table.source)
    return here


def _set_types(task: _biorel.Task, table: Table, values: dict[str, list[Any]]) -> None:
    """Fill in types that are missing, match those that differ in case, and put the first argument first."""
    if not task.rules:
        return
    defaults = [_only(task, (one for rule in task.rules for one in rule[side])) for side in (0, 1)]
    spelled = {one.casefold(): one for one in reversed(task.types)} | {one: one for one in task.types}
    count = len(values["text"])
    given = [values.get(f"entity{n}_type", [""] * count) for n in (1, 2)]
    types: list[list[str]] = [[], []]
    for position in range(count):
        both = []
        for side in (0, 1):
            stated = given[side][position] or defaults[side]
            if stated is None:
                what = f"entity{side + 1} has no type, and the model knows several: {', '.join(task.types)}"
                raise table.error(position, f"{what}; give a column `entity{side + 1}_type`")
            both.append(spelled.get(stated, spelled.get(stated.casefold(), stated)))
        if not _allowed(task.rules, both[0], both[1]):
            if not _allowed(task.rules, both[1], both[0]):
                raise table.error(position, _refused(task, both))
            for name in ("", "_start", "_end"):
                one, two = values.get(f"entity1{name}"), values.get(f"entity2{name}")
                if one is not None and two is not None:
                    one[position], two[position] = two[position], one[position]
            both.reverse()
        for side in (0, 1):
            types[side].append(both[side])
    values["entity1_type"], values["entity2_type"] = types
    untyped = [position for position in range(count) if not all(side[position] for side in given)]
    if untyped and task.name != "table" and len({task.tag(one) for one in defaults if one is not None}) == 2:
        assumed = ", ".join(f"entity{side + 1} is taken to be {defaults[side]}" for side in (0, 1))
        remedy = "if that is not so, give columns `entity1_type` and `entity2_type`"
        warn(f"{table.source}: {len(untyped):,} rows have no types of entities, so {assumed}; {remedy}")


def _only(task: _biorel.Task, types: Iterable[str]) -> str | None:
    known = list(types)
    return known[0] if len({task.tag(one) for one in known}) == 1 else None


def _allowed(rules: list[tuple[list[str], list[str]]], first: str, second: str) -> bool:
    return not rules or any(first in one and second in two for one, two in rules)


def _refused(task: _biorel.Task, types: Iterable[str]) -> str:
    known = "; ".join(f"{', '.join(one)} with {', '.join(two)}" for one, two in task.rules)
    return f"the model does not relate the types {' and '.join(types)}, only {known}"
