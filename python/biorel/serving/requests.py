"""What a request asks: the checks of its body, the job for the model, and the rows of the answer.

Everything is checked before the job waits in the queue: an error names the field or row, as in
``RelationModel.predict``, and reaches only its own request.
"""

from __future__ import annotations

import functools
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from biorel import _biorel
from biorel.data.tables import Table, read_table
from biorel.errors import ConfigError, CorpusError
from biorel.interpretation.heatmap import shades
from biorel.models.relation_model import RelationModel
from biorel.models.sentences import checked_sentences
from biorel.models.table_prediction import is_table, table_pairs
from biorel.prediction.unknown_types import describe_unknown_types
from biorel.serving.batching import Decisions, Job
from biorel.serving.limits import Limits, TooLargeError

# The endings with which the reader of each format is content.
_INPUT_FORMATS = {"pubtator": "pubtator", "bioc-json": "json", "bioc-xml": "xml"}
TABLE_FORMATS = ("json", "jsonl")
DOCUMENT_FORMATS = ("pubtator", "pubtator-relations", "bioc-json", "bioc-xml")
KINDS = ("head", "encoder", "gradient")
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Prepared:
    """A checked request."""

    job: Job
    # From the job's result to the answer.
    answer: Callable[[Any], Any]


def read_json(body: bytes) -> Any:
    """The value of a JSON body."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"body: is not JSON: {error}", "body") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def read_sentences(model: RelationModel, body: bytes, limits: Limits) -> Prepared:
    """The request of ``/predict``: what ``RelationModel.predict`` takes, without DataFrames.

    Parameters
    ----------
    model : RelationModel
        The model.
    body : bytes
        A JSON object with ``sentences`` and perhaps ``columns`` and ``offsets``, or the list of sentences alone.
    limits : Limits
        What is accepted.
    """
    given = read_json(body)
    if isinstance(given, list):
        given = {"sentences": given}
    _check_fields(given, ("sentences", "columns", "offsets"), ("sentences",))
    sentences = given["sentences"]
    if not isinstance(sentences, list):
        raise CorpusError(f"sentences: must be a list, not {_json_name(sentences)}", "sentences")
    if len(sentences) > limits.max_sentences:
        raise TooLargeError(
            f"sentences: {len(sentences):,} in one request, where {limits.max_sentences:,} are allowed; send several"
        )
    columns, offsets = given.get("columns"), given.get("offsets", "characters")
    if is_table(sentences, model._core.task):
        # `read_table` takes a list of paths, too: a service must never read files that a request names.
        for number, row in enumerate(sentences):
            if not isinstance(row, dict):
                raise CorpusError(f"table: row {number}: must be an object, not {_json_name(row)}", "table")
            try:
                json.dumps(row, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                raise CorpusError(f"table: row {number}: has a lone surrogate, not a character", "table") from None
        return _of_table(model, sentences, columns, offsets, limits)
    if columns is not None or offsets != "characters":
        field = "offsets" if columns is None else "columns"
        raise ConfigError(f"{field}: applies to a table with one row per pair, not to sentences", field)
    checked = checked_sentences(sentences, model._core.task)
    for number, sentence in enumerate(checked):
        _check_types(model, sentence[2], f"sentences[{number}]")
    count = sum(_count_pairs(model, [entity[1] for entity in sentence[2]]) for sentence in checked)
    _check_pairs(count, limits)
    pairs = model._core.pairs(checked)
    return _classified(model, pairs.instances, _rows(pairs.columns()))


def _of_table(model: RelationModel, rows: list[dict[str, Any]], columns: Any, offsets: Any, limits: Limits) -> Prepared:
    if columns is not None and not (
        isinstance(columns, dict) and all(isinstance(theirs, str) for theirs in columns.values())
    ):
        raise ConfigError('columns: must be an object of names, such as {"text": "sentence"}', "columns")
    if offsets not in ("characters", "bytes"):
        raise ConfigError(f"offsets: {offsets!r} is unknown; choose characters or bytes", "offsets")
    _check_pairs(len(rows), limits)
    table: Table = read_table(rows)
    instances = model._core.instances(table_pairs(model._core.task, table, columns, offsets), ["all"])
    decided = {"relation", "probability", *(f"p_{label}" for label in model.labels)}
    named = [{f"given_{name}" if name in decided else name: value for name, value in row.items()} for row in rows]
    return _classified(model, instances, named)


def read_pair(model: RelationModel, body: bytes, limits: Limits, kinds: tuple[str, ...]) -> Prepared:
    """The request of ``/explain``: the weights of the words for one pair of a sentence.

    Parameters
    ----------
    model : RelationModel
        The model.
    body : bytes
        A JSON object with ``text`` and ``entities`` as in ``/predict``; ``pair``, the positions of two of the entities;
        and perhaps ``kind``.
    limits : Limits
        What is accepted.
    kinds : tuple of str
        The kinds of weights that the model has, the default first.
    """
    given = read_json(body)
    _check_fields(given, ("text", "entities", "pair", "kind", "id"), ("text", "entities", "pair"))
    pair, kind = given["pair"], given.get("kind", kinds[0])
    if kind not in kinds:
        known = ", ".join(kinds)
        raise ConfigError(f"kind: {kind!r} is not among the weights of this model's words ({known})", "kind")
    try:
        ((name, text, entities),) = checked_sentences([given], model._core.task)
    except CorpusError as error:
        raise CorpusError(_of_one_sentence(str(error)), _of_one_sentence(error.path or "")) from None
    _check_types(model, entities, "")
    _check_pairs(_count_pairs(model, [entity[1] for entity in entities]), limits)
    positions = range(len(entities))
    right = isinstance(pair, list) and len(pair) == 2 and all(type(one) is int and one in positions for one in pair)
    if not right or pair[0] == pair[1]:
        raise ConfigError(f"pair: must be the positions of two of the {len(entities)} entities, from 0", "pair")
    if not model.marking.startswith("levitated"):
        # Only these markings read the sentence's other entities.
        entities, pair = [entities[one] for one in sorted(pair)], [0, 1]
    pairs = model._core.pairs([(name, text, entities)])
    rows = _rows(pairs.columns())
    both = sorted(entities[one][1:4] for one in pair)
    for position, row in enumerate(rows):
        sides = [(row[f"type{side}"], row[f"start{side}"], row[f"end{side}"]) for side in (1, 2)]
        if sorted(sides) == both:
            return _explained(model, pairs.instances.only(position), row, kind)
    raise CorpusError(f"pair: the model does not relate the types {' and '.join(one[0] for one in both)}", "pair")


def _rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a table of the core, with Python's own numbers."""
    values = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
    return [dict(zip(columns, map(_finite, row), strict=True)) for row in zip(*values, strict=True)]


def _of_one_sentence(place: str) -> str:
    """A place in the list of sentences as one in a request that has one sentence and no list."""
    return place.replace("sentences[0].", "").replace("sentences[0]", "body")


def _explained(model: RelationModel, instances: _biorel.Instances, row: dict[str, Any], kind: str) -> Prepared:
    def run() -> dict[str, Any]:
        words = _biorel.attention(model._core, instances, kind, model._compute)
        return {**_decided(model, [row], _alone(model, instances))[0], "kind": kind, "words": _words(words, row)}

    return Prepared(Job(1, run), lambda answer: answer)


def _words(columns: Mapping[str, Any], row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The words of one instance; a tag has the place of the mention for which it stands."""
    words = []
    rows = _rows(columns)
    for one, shade in zip(rows, shades(word["weight"] for word in rows), strict=True):
        sides = [side for side in (1, 2) if one["is_entity"] and one[f"distance{side}"] == 0]
        start, end = one["original_start"], one["original_end"]
        if start is None and sides:
            start, end = min(row[f"start{side}"] for side in sides), max(row[f"end{side}"] for side in sides)
        word = {name: one[name] for name in ("word", "stem", "weight")}
        words.append({**word, "shade": shade, "entities": sides, "start": start, "end": end})
    return words


def read_documents(
    model: RelationModel,
    body: bytes,
    limits: Limits,
    *,
    input_format: str | None,
    format: str,
    types: Mapping[str, str],
    related_only: bool,
    threshold: float,
) -> Prepared:
    """The request of ``/documents``: whole documents in a body.

    Parameters
    ----------
    model : RelationModel
        The model.
    body : bytes
        The documents.
    limits : Limits
        What is accepted.
    input_format : str or None
        ``pubtator``, ``bioc-json`` or ``bioc-xml``; None to tell it from the first character.
    format : str
        The format of the answer: ``json``, ``jsonl``, or a format of documents.
    types : mapping of str to str
        The model's name for a type of the documents.
    related_only, threshold
        As in ``predict_documents``.
    """
    if format not in (*TABLE_FORMATS, *DOCUMENT_FORMATS):
        known = ", ".join((*TABLE_FORMATS, *DOCUMENT_FORMATS))
        raise ConfigError(f"format: `{format}` is unknown; choose one of {known}", "format")
    if not 0.0 <= threshold <= 1.0:
        raise ConfigError(f"threshold: must be from 0 to 1, not {threshold}", "threshold")
    for theirs, ours in types.items():
        if model._core.task.types and ours not in model._core.task.types:
            known = ", ".join(model._core.task.types)
            raise ConfigError(f"type: `{theirs}` is to be `{ours}`, which the model does not know ({known})", "type")
    if body.startswith(_GZIP):
        raise CorpusError("body: is compressed with gzip; send it uncompressed", "body")
    documents = _read_documents(body, input_format or _guess_format(body))
    resolve = _resolver(model, types)
    count = 0
    for document in documents:
        kinds = [resolve(mention[1]) for mention in document.mentions]
        count += sum(_count_pairs(model, [kinds[one] for one in inside]) for _, _, inside in document.sentences())
    _check_pairs(count, limits)

    def run() -> _biorel.Part:
        return _biorel.predict_documents(
            model._core,
            documents,
            types=dict(types),
            max_pairs=limits.max_pairs,
            keep_failures=False,
            compute=model._compute,
        )

    def answer(part: _biorel.Part) -> Any:
        if problem := describe_unknown_types(model._core.task, part.counts, part.pairs):
            raise ConfigError(problem.replace("types={", "type={"), "type")
        if format in DOCUMENT_FORMATS:
            text, unwritten = part.text(format, model.identity, threshold)
            if unwritten:
                _, line, name, reason = unwritten[0]
                place = "body" if line is None else f"body:{line}"
                raise CorpusError(f"{place}: document {name}: cannot be written as {format}: {reason}", "body", line)
            return text
        columns = part.columns(related=related_only, threshold=threshold)
        del columns["file"]  # a temporary one
        rows = _rows(columns)
        named = {row["sentence"] for row in rows}
        sentences = [
            {"sentence": name, "start": start, "text": text}
            for document in documents
            for number, (start, text, _) in enumerate(document.sentences())
            if (name := f"{document.id}.s{number}") in named
        ]
        return {"documents": part.documents, "counts": part.counts, "sentences": sentences, "pairs": rows}

    return Prepared(Job(count, run), answer)


def _read_documents(body: bytes, format: str) -> list[_biorel.Document]:
    ending = _INPUT_FORMATS.get(format)
    if ending is None:
        known = ", ".join(_INPUT_FORMATS)
        raise ConfigError(f"input_format: `{format}` is unknown; choose one of {known}", "input_format")
    with tempfile.TemporaryDirectory(prefix="biorel-") as folder:
        path = Path(folder) / f"body.{ending}"
        path.write_bytes(body)
        try:
            documents = list(_biorel.DocumentReader([(str(path), format)]))
        except CorpusError as error:
            raise CorpusError(str(error).replace(str(path), "body"), "body", error.line) from None
    if not documents:
        raise CorpusError(f"body: has no document in the format {format}", "body")
    return documents


def _guess_format(body: bytes) -> str:
    start = body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    return "bioc-json" if start in (b"{", b"[") else "bioc-xml" if start == b"<" else "pubtator"


def _resolver(model: RelationModel, types: Mapping[str, str]) -> Callable[[str], str]:
    known = model._core.task.types

    @functools.cache
    def resolve(entity_type: str) -> str:
        if entity_type in types:
            return types[entity_type]
        alike = [one for one in known if one.casefold() == entity_type.casefold()]
        return alike[0] if len(alike) == 1 and entity_type not in known else entity_type

    return resolve


def _classified(model: RelationModel, instances: _biorel.Instances, rows: list[dict[str, Any]]) -> Prepared:
    """The pairs of a request, which can be classified together with those of others."""
    job = Job(len(instances), lambda: _alone(model, instances), instances)
    return Prepared(job, lambda decisions: {"pairs": _decided(model, rows, decisions)})


def _alone(model: RelationModel, instances: _biorel.Instances) -> Decisions:
    predicted = model._core.predict(instances, model._compute)
    return Decisions(predicted.kept, predicted.probabilities)


def _decided(model: RelationModel, rows: list[dict[str, Any]], decisions: Decisions) -> list[dict[str, Any]]:
    """The rows with the columns of ``predict``; null for pairs that exceed the model's maximum length."""
    labels = model.labels
    names = [f"p_{label}" for label in labels]
    nothing = dict.fromkeys(("relation", "probability", *names))
    answer = [{**row, **nothing} for row in rows]
    best = decisions.probabilities.argmax(axis=1).tolist()
    for position, values, label in zip(decisions.kept, decisions.probabilities.tolist(), best, strict=True):
        answer[position].update(zip(names, values, strict=True))
        answer[position] |= {"relation": labels[label], "probability": values[label]}
    return answer


def _check_fields(given: Any, known: tuple[str, ...], needed: tuple[str, ...]) -> None:
    if not isinstance(given, dict):
        raise CorpusError(f"body: must be a JSON object with {', '.join(needed)}, not {_json_name(given)}", "body")
    for name in given:
        if name not in known:
            raise CorpusError(f"body: has an unknown field {name!r}; the fields are {', '.join(known)}", "body")
    for name in needed:
        if name not in given:
            raise CorpusError(f"body: has no {name!r}", "body")


def _check_types(model: RelationModel, entities: list[tuple[str, str, int, int, str]], place: str) -> None:
    known = model._core.task.types
    for number, (_, entity_type, *_) in enumerate(entities):
        if known and entity_type not in known:
            inner = f"{place}.entities[{number}]".lstrip(".")
            message = f"{inner}: the model does not know the type {entity_type!r}; it knows {', '.join(known)}"
            raise CorpusError(message, inner)


def _count_pairs(model: RelationModel, types: list[str]) -> int:
    return model._core.task.count_pairs(types)


def _check_pairs(count: int, limits: Limits) -> None:
    if count > limits.max_pairs:
        raise TooLargeError(
            f"body: {count:,} pairs in one request, where {limits.max_pairs:,} are allowed; send several"
        )


def _json_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(cast("Any", type(value)), "a number")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
