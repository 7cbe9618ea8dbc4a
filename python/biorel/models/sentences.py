"""Checks of the sentences that are passed to a model. Errors name the entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from biorel import _biorel
from biorel.data.documents import encodable
from biorel.errors import CorpusError
from biorel.models.table_prediction import default_type

_Entity = tuple[str, str, int, int, str]


def checked_sentences(
    sentences: Sequence[Mapping[str, Any]] | pd.DataFrame, task: _biorel.Task
) -> list[tuple[str, str, list[_Entity]]]:
    """Sentences as tuples (id, text, entities as (id, type, start, end, concept)); an error names the wrong field.

    A type that is missing is that of the task, if all its types have the same tag. One that differs from a known type
    in case is that type.
    """
    usual = default_type(task)
    spelled = {one.casefold(): one for one in reversed(task.types)}
    if isinstance(sentences, pd.DataFrame):
        sentences = cast("list[dict[str, Any]]", sentences.to_dict("records"))
    if isinstance(sentences, (Mapping, str)):
        raise TypeError("sentences must be a list of dicts or a DataFrame; for one sentence write predict([sentence])")
    checked = []
    for number, sentence in enumerate(sentences):
        place = f"sentences[{number}]"
        text = encodable(_entry(sentence, "text", str, place), place)
        entities = []
        for index, entity in enumerate(_entry(sentence, "entities", (list, tuple), place)):
            inner = f"{place}.entities[{index}]"
            if usual is not None and isinstance(entity, Mapping) and "type" not in entity:
                kind = usual
            else:
                kind = encodable(_entry(entity, "type", str, inner), inner)
            if kind not in task.types:
                kind = spelled.get(kind.casefold(), kind)
            start = _offset(entity, "start", inner)
            end = _offset(entity, "end", inner)
            if not 0 <= start < end <= len(text):
                raise CorpusError(
                    f"{inner}: characters {start} to {end} are not in its text of {len(text)} characters (offsets "
                    "count characters from 0, the end is one past the last)",
                    inner,
                )
            stated = entity.get("text")
            if isinstance(stated, str) and stated != text[start:end]:
                raise CorpusError(
                    f"{inner}: its text is {stated!r}, but {start} to {end} is {text[start:end]!r}", inner
                )
            name, concept = str(entity.get("id", f"e{index}")), str(entity.get("concept") or "")
            entities.append((encodable(name, inner), kind, start, end, encodable(concept, inner)))
        checked.append((encodable(str(sentence.get("id", f"s{number}")), place), text, entities))
    return checked


def _entry(record: Any, key: str, kind: type | tuple[type, ...], place: str) -> Any:
    if not isinstance(record, Mapping):
        raise CorpusError(f"{place}: must be a dict, not {type(record).__name__}", place)
    if key not in record:
        raise CorpusError(f"{place}: has no {key!r}; it has {', '.join(map(repr, record)) or 'nothing'}", place)
    if not isinstance(record[key], kind):
        wanted = kind.__name__ if isinstance(kind, type) else "a list" if list in kind else "int"
        raise CorpusError(f"{place}: {key!r} must be {wanted}, not {type(record[key]).__name__}", place)
    return record[key]


def _offset(entity: Mapping[str, Any], key: str, place: str) -> int:
    value = _entry(entity, key, (int, np.integer), place) if not isinstance(entity.get(key), bool) else None
    if value is None:
        raise CorpusError(f"{place}: {key!r} must be int, not bool", place)
    return int(value)
