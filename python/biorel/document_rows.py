"""Documents as rows of one table, entities nested: the form for Parquet, Ray Data and Spark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from biorel import _biorel
from biorel.documents import Document, encodable
from biorel.errors import CorpusError


def documents_to_rows(documents: Iterable[Document]) -> pd.DataFrame:
    """One row per document.

    Parameters
    ----------
    documents : iterable of Document
        The documents.

    Returns
    -------
    pandas.DataFrame
        ``document`` (identifier), ``text``, ``passages`` (a list of dicts: ``type``, ``start``, ``end``,
        ``is_sentence``), ``entities`` (``id``, ``type``, ``concept``, ``segments``: ``start`` and ``end`` of each), and
        the ``file`` that it was read from. Relations that a file states are not in it. Parquet holds it as it is.

    Examples
    --------
    >>> text = pd.DataFrame({"document": ["d1"], "text": ["Aspirin helps."]})
    >>> entities = pd.DataFrame({"document": ["d1"], "start": [0], "end": [7], "type": ["drug"]})
    >>> rows = biorel.documents_to_rows(biorel.documents_from_tables(text, entities))
    >>> rows.loc[0, "entities"]
    [{'id': 'T1', 'type': 'drug', 'concept': '', 'segments': [{'start': 0, 'end': 7}]}]
    """
    rows = []
    for document in documents:
        passages = [
            {"type": kind, "start": start, "end": start + len(text), "is_sentence": is_sentence}
            for kind, start, text, is_sentence in document._core.passages
        ]
        entities = [
            {
                "id": name,
                "type": kind,
                "concept": ";".join(concepts),
                "segments": [{"start": start, "end": end} for start, end in segments],
            }
            for name, kind, concepts, segments, _ in document._core.mentions
        ]
        file = document._core.origin[0]
        rows.append((document.id, document.text, passages, entities, file))
    return pd.DataFrame(rows, columns=["document", "text", "passages", "entities", "file"])


def documents_from_rows(rows: pd.DataFrame) -> list[Document]:
    """Documents from a table with one row each.

    Parameters
    ----------
    rows : DataFrame
        As ``documents_to_rows`` makes it. Needed are ``document``, ``text`` and ``entities``; of an entity ``type`` and
        either ``segments`` or ``start`` and ``end``. Without ``passages`` the text is one.

    Returns
    -------
    list of Document
        In the order of the rows.

    Raises
    ------
    CorpusError
        For a missing column or an offset outside of the text; the message names the row.

    Examples
    --------
    >>> entity = {"start": 0, "end": 7, "type": "drug"}
    >>> rows = pd.DataFrame({"document": ["d1"], "text": ["Aspirin helps."], "entities": [[entity]]})
    >>> biorel.documents_from_rows(rows)
    [Document('d1', 14 characters, 1 entities, 0 relations)]
    """
    check_columns(rows.columns)
    return [document_of_row(row, f"rows: row {number}") for number, row in enumerate(rows.to_dict("records"))]


def check_columns(columns: Iterable[Any]) -> None:
    """Raise when something that every document needs is missing."""
    there = [str(name) for name in columns]
    for name in ("document", "text", "entities"):
        if name not in there:
            raise CorpusError(f"rows: no column `{name}`; the columns are {', '.join(there)}", "rows")


def document_of_row(row: Mapping[Any, Any], place: str) -> Document:
    """The document of a row; `place` is what an error calls the row."""
    name, text = str(row["document"]), row["text"]
    if not isinstance(text, str):
        raise CorpusError(f"{place}: `text` must be a string, not {type(text).__name__}", place)
    encodable(text, place)
    mentions = []
    for number, entity in enumerate(_items(row["entities"])):
        where = f"{place}: entities[{number}]"
        if not isinstance(entity, Mapping) or not isinstance(entity.get("type"), str):
            raise CorpusError(f"{where} must be a mapping with `type`, not {entity!r}", place)
        segments = _items(entity.get("segments")) or [entity]
        places = sorted(_span(segment, len(text), where) for segment in segments)
        concept = entity.get("concept") or ""
        identifier = entity.get("id") or f"T{number + 1}"
        mentions.append((str(identifier), entity["type"], [one for one in str(concept).split(";") if one], places))
    passages = []
    for number, passage in enumerate(_items(row.get("passages"))):
        start, end = _span(passage, len(text), f"{place}: passages[{number}]", empty=True)
        kind, is_sentence = passage.get("type") or "", bool(passage.get("is_sentence"))
        passages.append((kind, start, text[start:end], is_sentence))
    file = row.get("file")
    core = _biorel.Document(
        name, passages or [("", 0, text, False)], mentions, [], file=file if isinstance(file, str) and file else None
    )
    return Document(core)


def _items(values: Any) -> list[Any]:
    """Of a list as Parquet, Arrow or NumPy give it, which may be missing."""
    return [] if values is None or isinstance(values, float) else list(values)  # NaN is what pandas makes of nothing


def _span(segment: Any, length: int, where: str, *, empty: bool = False) -> tuple[int, int]:
    try:
        start, end = int(segment["start"]), int(segment["end"])
    except (KeyError, TypeError, ValueError, IndexError):
        raise CorpusError(f"{where} needs `start` and `end`, not {segment!r}", where) from None
    if not (0 <= start < end <= length or (empty and 0 <= start == end <= length)):
        raise CorpusError(f"{where}: characters {start} to {end} are not in the text of {length} characters", where)
    return start, end
