"""Convert documents from and to tables: DataFrames, rows with nested entities (Parquet, Ray Data, Spark), spaCy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import pandas as pd
from biorel import _biorel
from biorel._tables import text_of
from biorel.data.documents import Document, checked_documents, encodable
from biorel.errors import ConfigError, CorpusError


def documents_to_rows(documents: Iterable[Document]) -> pd.DataFrame:
    """A table with one row per document.

    Parameters
    ----------
    documents : iterable of Document
        The documents.

    Returns
    -------
    pandas.DataFrame
        ``document`` (identifier), ``text``, ``passages`` (a list of dicts: ``type``, ``start``, ``end``,
        ``is_sentence``), ``entities`` (``id``, ``type``, ``concept``, ``segments``: ``start`` and ``end`` of each), and
        the ``file`` that the document was read from. Relations are not included. The table can be stored as Parquet.

    Examples
    --------
    >>> text = pd.DataFrame({"document": ["d1"], "text": ["Aspirin helps."]})
    >>> entities = pd.DataFrame({"document": ["d1"], "start": [0], "end": [7], "type": ["drug"]})
    >>> rows = biorel.documents_to_rows(biorel.documents_from_tables(text, entities))
    >>> rows.loc[0, "entities"]
    [{'id': 'T1', 'type': 'drug', 'concept': '', 'segments': [{'start': 0, 'end': 7}]}]
    """
    rows = []
    for document in checked_documents(documents):
        passages = [
            {"type": passage_type, "start": start, "end": start + len(text), "is_sentence": is_sentence}
            for passage_type, start, text, is_sentence in document._core.passages
        ]
        entities = [
            {
                "id": name,
                "type": entity_type,
                "concept": ";".join(concepts),
                "segments": [{"start": start, "end": end} for start, end in segments],
            }
            for name, entity_type, concepts, segments, _ in document._core.mentions
        ]
        file = document._core.origin[0]
        rows.append((document.id, document.text, passages, entities, file))
    return pd.DataFrame(rows, columns=["document", "text", "passages", "entities", "file"])


def documents_from_rows(rows: pd.DataFrame) -> list[Document]:
    """Documents from a table with one row per document.

    Parameters
    ----------
    rows : DataFrame
        The result of ``documents_to_rows``, or any table with ``document``, ``text`` and ``entities``. An entity needs
        ``type`` and either ``segments`` or ``start`` and ``end``. Without ``passages`` the whole text is one passage.

    Returns
    -------
    list of Document
        In the order of the rows.

    Raises
    ------
    CorpusError
        For a missing column or an offset outside the text; the message names the row.

    Examples
    --------
    >>> entity = {"start": 0, "end": 7, "type": "drug"}
    >>> rows = pd.DataFrame({"document": ["d1"], "text": ["Aspirin helps."], "entities": [[entity]]})
    >>> biorel.documents_from_rows(rows)
    [Document('d1', 14 characters, 1 entities, 0 relations)]
    """
    check_columns("rows", rows.columns)
    return [document_of_row(row, f"rows: row {number}") for number, row in enumerate(rows.to_dict("records"))]


def check_columns(
    table: str, columns: Iterable[object], needed: Iterable[str] = ("document", "text", "entities")
) -> None:
    """Raise CorpusError if a table lacks a column; by default one that every document needs."""
    existing = [str(name) for name in columns]
    for name in needed:
        if name not in existing:
            raise CorpusError(f"{table}: no column `{name}`; the columns are {', '.join(existing)}", table)


def document_of_row(row: Mapping[Any, Any], location: str) -> Document:
    """The document of a row; `location` names the row in errors."""
    name, text = text_of(row["document"]), row["text"]
    if not isinstance(text, str):
        raise CorpusError(f"{location}: `text` must be a string, not {type(text).__name__}", location)
    encodable(text, location)
    mentions = []
    for number, entity in enumerate(_items(row["entities"])):
        where = f"{location}: entities[{number}]"
        if not isinstance(entity, Mapping) or not isinstance(entity.get("type"), str):
            raise CorpusError(f"{where} must be a mapping with `type`, not {entity!r}", location)
        segments = _items(entity.get("segments")) or [entity]
        spans = sorted(_span(segment, len(text), where) for segment in segments)
        concept = entity.get("concept") or ""
        identifier = entity.get("id") or f"T{number + 1}"
        mentions.append((str(identifier), entity["type"], [str(concept)] if concept else [], spans))
    passages = []
    for number, passage in enumerate(_items(row.get("passages"))):
        start, end = _span(passage, len(text), f"{location}: passages[{number}]", empty=True)
        passage_type, is_sentence = passage.get("type") or "", bool(passage.get("is_sentence"))
        passages.append((passage_type, start, text[start:end], is_sentence))
    file = row.get("file")
    core = _biorel.Document(
        name, passages or [("", 0, text, False)], mentions, [], file=file if isinstance(file, str) and file else None
    )
    return Document(core)


def _items(values: Any) -> list[Any]:
    """The items of a list from Parquet, Arrow or NumPy; none if it is missing."""
    return [] if values is None or isinstance(values, float) else list(values)  # pandas stores a missing list as NaN


def _span(segment: Any, length: int, where: str, *, empty: bool = False) -> tuple[int, int]:
    try:
        start, end = int(segment["start"]), int(segment["end"])
    except (KeyError, TypeError, ValueError, IndexError):
        raise CorpusError(f"{where} needs `start` and `end`, not {segment!r}", where) from None
    if not (0 <= start < end <= length or (empty and 0 <= start == end <= length)):
        raise CorpusError(f"{where}: characters {start} to {end} are outside the text of {length} characters", where)
    return start, end


def documents_from_tables(
    documents: pd.DataFrame, entities: pd.DataFrame, relations: pd.DataFrame | None = None
) -> list[Document]:
    """Documents from DataFrames.

    Parameters
    ----------
    documents : DataFrame
        ``document`` (identifier) and ``text``, one row each.
    entities : DataFrame
        ``document``, ``start``, ``end`` (characters, end-exclusive), ``type``, and optionally ``id``, ``concept`` and
        ``text``, which is checked against the document. Rows with the same ``document`` and ``id`` are the segments of
        one entity.
    relations : DataFrame, optional
        Training labels: ``document``, ``entity1``, ``entity2`` (each the ``id`` of an entity), ``label``.

    Returns
    -------
    list of Document
        In the order of the rows.

    Raises
    ------
    CorpusError
        For a missing column, an offset outside the text, an unknown document or entity; the message names the row.

    Examples
    --------
    >>> texts = pd.DataFrame({"document": ["d1"], "text": ["Aspirin enhances warfarin."]})
    >>> spans = {"document": ["d1", "d1"], "start": [0, 17], "end": [7, 25], "type": ["drug", "drug"]}
    >>> biorel.documents_from_tables(texts, pd.DataFrame(spans))
    [Document('d1', 26 characters, 2 entities, 0 relations)]
    """
    texts: dict[str, str] = {}
    for location, row in _rows("documents", documents, ["document", "text"]):
        name, text = text_of(row["document"]), row["text"]
        if name in texts:
            raise CorpusError(f"{location}: document {name} appears twice", location)
        if not isinstance(text, str):
            raise CorpusError(f"{location}: `text` must be a string, not {type(text).__name__}", location)
        texts[name] = encodable(text, location)
    found: dict[str, dict[str, tuple[str, list[str], list[tuple[int, int]]]]] = {name: {} for name in texts}
    for location, row in _rows("entities", entities, ["document", "start", "end", "type"]):
        name = _document(row, texts, location)
        own = found[name]
        start, end = (_whole(row[key], key, location) for key in ("start", "end"))
        text = texts[name]
        if not 0 <= start < end <= len(text):
            raise CorpusError(
                f"{location}: characters {start} to {end} are outside the text of {len(text)} characters", location
            )
        stated = row.get("text")
        if isinstance(stated, str) and stated != text[start:end]:
            raise CorpusError(
                f"{location}: its text is {stated!r}, but {start} to {end} is {text[start:end]!r}", location
            )
        given = row.get("id")
        identifier = f"T{len(own) + 1}" if given is None or pd.isna(given) else text_of(given)
        concept = row.get("concept")
        concepts = [text_of(concept)] if concept is not None and not pd.isna(concept) and concept != "" else []
        _, _, segments = own.setdefault(identifier, (str(row["type"]), concepts, []))
        segments.append((start, end))
    related: dict[str, list[tuple[str, str, int, int, list[tuple[str, str]]]]] = {name: [] for name in texts}
    for location, row in _rows("relations", relations, ["document", "entity1", "entity2", "label"]):
        name = _document(row, texts, location)
        order = list(found[name])
        for key in ("entity1", "entity2"):
            if text_of(row[key]) not in order:
                raise CorpusError(f"{location}: document {name} has no entity {row[key]!r}", location)
        first, second = (order.index(text_of(row[key])) for key in ("entity1", "entity2"))
        related[name].append((f"R{len(related[name]) + 1}", str(row["label"]), first, second, []))
    result = []
    for name, text in texts.items():
        mentions = [(key, of_type, concepts, sorted(spans)) for key, (of_type, concepts, spans) in found[name].items()]
        result.append(Document(_biorel.Document(name, [("", 0, text, False)], mentions, related[name])))
    return result


def _rows(table: str, frame: pd.DataFrame | None, needed: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if frame is None or len(frame) == 0:
        return
    check_columns(table, frame.columns, needed)
    for number, row in enumerate(frame.to_dict("records")):
        location = f"{table}: row {number}"
        for name in needed:
            if pd.isna(row[name]):
                raise CorpusError(f"{location}: column `{name}` has no value", table)
        yield location, cast("dict[str, Any]", row)


def _document(row: Mapping[str, Any], texts: Mapping[str, str], location: str) -> str:
    name = text_of(row["document"])
    if name not in texts:
        raise CorpusError(f"{location}: document {name} is not in the table of documents", location)
    return name


def _whole(value: Any, name: str, location: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0 or number != value:
        raise CorpusError(f"{location}: `{name}` must be a whole number from 0, not {value!r}", location)
    return number


def documents_from_spacy(docs: Iterable[Any], *, spans: str | None = None) -> Iterator[Document]:
    """Documents from spaCy, with the sentences that spaCy has found, if any.

    Parameters
    ----------
    docs : iterable of spacy.tokens.Doc
        Entities are taken from ``doc.ents``: the label is the type, ``kb_id_`` the concept. ``doc.user_data["id"]`` is
        the identifier of the document, if set.
    spans : str, optional
        Take the entities from ``doc.spans[spans]``, which may overlap, instead of ``doc.ents``.

    Yields
    ------
    Document
        One per spaCy document, in order.

    Examples
    --------
    >>> import spacy
    >>> doc = spacy.blank("en")("Aspirin enhances warfarin.")
    >>> doc.ents = [doc.char_span(0, 7, label="drug"), doc.char_span(17, 25, label="drug")]
    >>> list(biorel.documents_from_spacy([doc]))
    [Document('doc0', 26 characters, 2 entities, 0 relations)]
    """
    for number, doc in enumerate(docs):
        if not hasattr(doc, "ents") or not hasattr(doc, "has_annotation"):
            raise TypeError(f"docs[{number}] must be a spaCy Doc, not {type(doc).__name__}")
        name = str(doc.user_data.get("id", f"doc{number}"))
        encodable(doc.text, f"docs[{number}]")
        if spans is not None and spans not in doc.spans:
            raise ConfigError(
                f"spans: docs[{number}] has no spans {spans!r}; it has {', '.join(doc.spans) or 'none'}", "spans"
            )
        entities = doc.ents if spans is None else doc.spans[spans]
        passages = [("", 0, doc.text, False)]
        if doc.has_annotation("SENT_START"):
            passages = [("", sentence.start_char, sentence.text, True) for sentence in doc.sents]
        mentions = [
            (
                f"T{index}",
                entity.label_,
                [entity.kb_id_] if entity.kb_id_ else [],
                [(entity.start_char, entity.end_char)],
            )
            for index, entity in enumerate(entities, start=1)
        ]
        yield Document(_biorel.Document(name, passages, mentions, []))
