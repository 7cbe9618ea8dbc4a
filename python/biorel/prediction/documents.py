"""Predict the relations of documents, in memory or as a stream of any length."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, Literal, TypeAlias

import pandas as pd
from biorel import _biorel
from biorel._numbers import whole_number
from biorel._progress import Progress
from biorel._types import DocumentFormat, PathLike
from biorel._warnings import warn
from biorel.data.annotation import add_entities, annotator_of
from biorel.data.dictionary import Dictionary
from biorel.data.document_tables import documents_from_spacy
from biorel.data.documents import Document, check_errors, list_inputs, read_inputs
from biorel.errors import ConfigError, CorpusError
from biorel.models.relation_model import RelationModel, check_model
from biorel.prediction.output_directory import FORMATS, PredictionDirectory
from biorel.prediction.unknown_types import describe_unknown_types

OutputFormat: TypeAlias = Literal[
    "jsonl", "tsv", "parquet", "pubtator", "pubtator-relations", "bioc-json", "bioc-xml", "prodigy", "bigbio",
    "label-studio", "same",
]  # fmt: skip
# File, line, document, reason.
Failure: TypeAlias = tuple[str, int | None, str | None, str]
# The formats with a row for each pair.
_TABLES = ("table", "jsonl", "tsv", "parquet")
# Documents that are classified together if the result stays in memory.
_DOCUMENTS_PER_CALL = 256


class DocumentPredictions:
    """The predictions that ``predict_documents`` wrote to a directory.

    Attributes
    ----------
    directory : Path
        The output directory: ``relations/`` with the parts, ``errors.jsonl``, ``manifest.json``, ``parts.jsonl``.
    documents, failed, pairs : int
        Numbers of documents classified, documents that could not be used, and pairs, in this shard.
    counts : dict of str to int
        Counts of what was left out or repaired, by description.
    """

    def __init__(self, directory: PredictionDirectory) -> None:
        self._directory = directory
        self.directory = directory.path
        totals = directory.totals()
        self.documents: int = totals["documents"]
        self.failed: int = totals["failed"]
        self.pairs: int = totals["pairs"]
        self.counts: dict[str, int] = totals["counts"]

    def table(self) -> pd.DataFrame:
        """All rows of this shard, for the table formats (``jsonl``, ``tsv``, ``parquet``)."""
        return self._directory.table()

    def errors(self) -> pd.DataFrame:
        """One row per document that could not be used: ``file``, ``line``, ``document``, ``reason``."""
        return self._directory.errors()

    def __repr__(self) -> str:
        """Show the directory and the counts."""
        return (
            f"DocumentPredictions({str(self.directory)!r}, {self.documents:,} documents, {self.pairs:,} pairs, "
            f"{self.failed:,} failed)"
        )


def predict_documents(
    model: RelationModel,
    source: PathLike | Sequence[PathLike] | Iterable[Any],
    output: PathLike | None = None,
    *,
    input_format: DocumentFormat | None = None,
    format: OutputFormat = "jsonl",
    types: Mapping[str, str] | None = None,
    related_only: bool = False,
    threshold: float = 0.0,
    shard: tuple[int, int] = (1, 1),
    part_documents: int = 1000,
    part_pairs: int = 16_384,
    max_pairs: int = 100_000,
    entities: Any = None,
    errors: Literal["raise", "skip"] | None = None,
    progress: bool = True,
) -> pd.DataFrame | DocumentPredictions:
    r"""Classify every pair of entities in documents whose types can be related, at the scope of the model.

    With `output` the documents are read, classified and written as a stream: memory is bounded by the size of a part,
    whatever the number of documents. Parts are written atomically; if the run is killed, calling it again resumes after
    the last complete part, and no row is lost or duplicated.

    Parameters
    ----------
    model : RelationModel
        A fine-tuned model.
    source : path, sequence of paths, or iterable of Document or spaCy Doc
        Files or folders, or documents in memory (without `output`).
    output : path, optional
        A new directory, or that of the run to resume. By default the table is returned.
    input_format : str, optional
        Format of the files, as in ``read_documents``; by default inferred from their names and first bytes.
    format : str
        The output format: a table (``jsonl``, ``tsv``, ``parquet``, which needs pyarrow), or the documents with the
        predicted relations (``pubtator``, ``bioc-json``, ``bioc-xml``, ``prodigy``, ``bigbio``, ``label-studio``, or
        ``same`` for their input format); ``pubtator-relations`` has only the relation lines.
    types : mapping of str to str, optional
        The model's name for an entity type of the files, as in ``{"Gene": "protein"}``. Types that differ only in case
        are matched automatically.
    related_only : bool
        Leave out pairs that are predicted to be unrelated.
    threshold : float
        Leave out relations with a lower probability, where documents are written, or with `related_only`.
    shard : (int, int)
        Which shard to process, as in ``(1, 2)`` for the first of two; all shards have the same `output`.
    part_documents, part_pairs : int
        The maximum size of a part, in documents and in pairs.
    max_pairs : int
        Documents with more pairs are not used.
    entities : path, mapping, Dictionary, str or callable, optional
        Where entities come from that the documents lack, as in ``annotate``: a list of terms, or without `output` also
        scispaCy or any function. A ``.txt`` file that is not PubTator's is then plain text.
    errors : {"raise", "skip"}, optional
        What to do with a document that cannot be used. ``raise`` (the default without `output`) stops; ``skip`` (the
        default with `output`) leaves it out, with a warning or, with `output`, a line in ``errors.jsonl``.
    progress : bool
        Show a progress bar with the rate and the remaining time.

    Returns
    -------
    pandas.DataFrame or DocumentPredictions
        One row per pair: ``file``, ``document``, ``sentence``; ``entity1``, ``type1``, ``id1``, ``concept1``,
        ``start1``, ``end1`` (characters of the document) and the same for the second (at document scope, a pair of
        concepts with its nearest two mentions, and ``sentence`` is the document's identifier); ``relation``, its
        ``probability``, one column ``p_<label>`` per label (all missing for a pair that exceeds the model's maximum
        length), ``model`` (name and hash). ``attrs["counts"]`` counts what was left out, ``attrs["negative"]`` is the
        label that means "no relation". With `output`, an object that gives access to the files. ``concept_scores``
        scores the table.

    Raises
    ------
    ConfigError
        For settings that do not apply, and for the directory of another run.
    CorpusError
        With ``errors="raise"``, for a document that cannot be used.

    Warns
    -----
    UserWarning
        When no pair was formed because the model does not know the documents' types, with the types that are probably
        the same; and with `output`, for files that are skipped because of their names.

    Examples
    --------
    >>> text = "1|t|Velotrazine and nalexpidol.\n1|a|\n"
    >>> text += "1\t0\t11\tVelotrazine\tDrug\n1\t16\t26\tnalexpidol\tDrug\n"
    >>> _ = (folder / "one.txt").write_text(text)
    >>> table = biorel.predict_documents(model, folder / "one.txt")
    >>> table[["document", "entity1", "start1", "entity2", "start2"]].values.tolist()
    [['1', 'Velotrazine', 0, 'nalexpidol', 16]]
    >>> found = biorel.predict_documents(model, folder / "one.txt", folder / "relations", progress=False)
    >>> len(found.table()), found.failed
    (1, 0)
    """
    check_model(model)
    from_files = isinstance(source, (str, os.PathLike)) or _are_paths(source)
    settings = {"types": _types(types), "max_pairs": whole_number(max_pairs, "max_pairs", 1)}
    check_threshold(threshold)
    if errors is not None:
        check_errors(errors)
    add = None if entities is None else annotator_of(entities)
    if output is None:
        errors = errors or "raise"
        _check_filter(threshold, related=related_only, tables=True)
        given = {"shard": shard != (1, 1), "format": format != "jsonl"}
        if wrong := [name for name, is_given in given.items() if is_given]:
            raise ConfigError(f"{wrong[0]}: needs an output directory; give `output`", wrong[0])
        if from_files:
            inputs, _ = list_inputs(source, input_format, plain_text=add is not None)  # type: ignore[arg-type]
            documents = read_inputs(inputs, errors)
        else:
            documents = documents_of(source)  # type: ignore[arg-type]
        if add is not None:
            documents = add_entities(documents, add)
        table, pairs = table_of(model, documents, settings, related=related_only, threshold=threshold, errors=errors)
        if problem := describe_unknown_types(model._core.task, table.attrs["counts"], pairs):
            warn(problem)
        return table
    if not from_files:
        message = "source: only files can be streamed to `output`; leave it out and write the returned table yourself"
        raise ConfigError(message, "source")
    if format not in (*FORMATS, "same"):
        raise ConfigError(f"format: `{format}` is unknown; choose one of {', '.join(FORMATS)}, same", "format")
    _check_filter(threshold, related=related_only, tables=format in _TABLES)
    number, shards = (whole_number(one, "shard", 1) for one in shard)
    if not 1 <= number <= shards:
        raise ConfigError(f"shard: there is no shard {number} of {shards}; number them from 1", "shard")
    if add is not None and not isinstance(add, Dictionary):
        message = "entities: only a list of terms can be searched in a stream; leave `output` out for other annotators"
        raise ConfigError(message, "entities")
    inputs, skipped = list_inputs(source, input_format, plain_text=add is not None)  # type: ignore[arg-type]
    _warn_of_skipped(skipped)
    if format == "same":
        format = _same(inputs)
    settings |= {"part_documents": whole_number(part_documents, "part_documents", 1)}
    settings |= {"part_pairs": whole_number(part_pairs, "part_pairs", 1)}
    plan = {**settings, "model": model.identity, "model_hash": model.hash, "format": format}
    plan |= {"precision": model._compute.precision, "related_only": related_only, "threshold": float(threshold)}
    if add is not None:
        plan["entities"] = add.hash
    directory = PredictionDirectory(output, plan, inputs, (number, shards), relation_columns(model.labels))
    with directory.locked():
        if not directory.complete:
            settings["dictionary"] = None if add is None else add._core
            _stream(model, directory, inputs, settings, stops=errors == "raise", progress=progress)
            directory.finish([path for path, _ in skipped])
    predictions = DocumentPredictions(directory)
    if problem := describe_unknown_types(model._core.task, predictions.counts, predictions.pairs):
        warn(problem)
    return predictions


def relation_columns(labels: Iterable[str]) -> dict[str, str]:
    """The columns of a table of relations, with their data types."""
    sides = [f"{name}{number}" for number in (1, 2) for name in ("entity", "type", "id", "concept", "start", "end")]
    columns = dict.fromkeys(("file", "document", "sentence", *sides, "relation"), "text")
    columns |= dict.fromkeys(("start1", "end1", "start2", "end2"), "offset")
    columns |= dict.fromkeys(("probability", *(f"p_{label}" for label in labels)), "number")
    return {**columns, "model": "text"}


def stream_documents(
    model: RelationModel,
    source: PathLike | Sequence[PathLike],
    *,
    input_format: DocumentFormat | None = None,
    format: Literal["table", "pubtator", "pubtator-relations"] = "table",
    types: Mapping[str, str] | None = None,
    related_only: bool = False,
    threshold: float = 0.0,
    part_documents: int = 1000,
    part_pairs: int = 16_384,
    max_pairs: int = 100_000,
    dictionary: Dictionary | None = None,
) -> Iterator[tuple[pd.DataFrame | str, list[str]]]:
    r"""The predictions of a stream of documents, part by part and in bounded memory, without an output directory.

    Parameters
    ----------
    model, source, input_format, types, related_only, threshold, part_documents, part_pairs, max_pairs
        As ``predict_documents`` takes them.
    format : {"table", "pubtator", "pubtator-relations"}
        What a part is: a table, or the text of a file.
    dictionary : Dictionary, optional
        Terms that become entities.

    Yields
    ------
    (pandas.DataFrame or str, list of str)
        A part, and one message per document that could not be used.

    Raises
    ------
    ConfigError
        At the end, when no pair was formed because the model does not know the documents' types.

    Examples
    --------
    >>> from biorel.prediction.documents import stream_documents
    >>> text = "1|t|Velotrazine and nalexpidol.\n1|a|\n"
    >>> text += "1\t0\t11\tVelotrazine\tDrug\n1\t16\t26\tnalexpidol\tDrug\n"
    >>> _ = (folder / "one.txt").write_text(text)
    >>> [(len(part), failures) for part, failures in stream_documents(model, folder / "one.txt")]
    [(1, [])]
    """
    settings = {"types": _types(types), "max_pairs": whole_number(max_pairs, "max_pairs", 1)}
    settings |= {"part_documents": whole_number(part_documents, "part_documents", 1)}
    settings |= {"part_pairs": whole_number(part_pairs, "part_pairs", 1)}
    settings |= {"dictionary": None if dictionary is None else dictionary._core}
    check_threshold(threshold)
    _check_filter(threshold, related=related_only, tables=format in _TABLES)
    inputs, skipped = list_inputs(source, input_format, plain_text=dictionary is not None)
    _warn_of_skipped(skipped)
    plan = {"format": format, "model": model.identity, "related_only": related_only, "threshold": threshold}
    with contextlib.closing(_parts(model, inputs, settings, plan)) as parts:
        counts: dict[str, int] = {}
        pairs = 0
        for content, part, failures in parts:
            pairs += part.pairs
            _add_counts(counts, part.counts)
            yield content, [_describe_failure(*failure) for failure in failures]
    if problem := describe_unknown_types(model._core.task, counts, pairs):
        raise ConfigError(problem, "types")


def _stream(
    model: RelationModel,
    directory: PredictionDirectory,
    inputs: list[tuple[str, str]],
    settings: dict[str, Any],
    *,
    stops: bool,
    progress: bool,
) -> None:
    done = directory.totals()
    total = directory.input_bytes()
    bar = Progress(total, "documents", "B", show=progress, initial=done["bytes"], scaled=True, estimated=True)
    new = {"documents": 0, "pairs": 0}
    parts = _parts(model, inputs, settings, directory.plan, shard=directory.shard, position=directory.position)
    # The generator is closed also after Ctrl-C.
    with contextlib.closing(parts), bar:
        for content, part, failures in parts:
            if stops and failures:
                raise CorpusError(_describe_failure(*failures[0]), *failures[0][:2])
            directory.add(content, part, failures)
            new["documents"] += part.documents
            new["pairs"] += part.pairs
            rates = [f"{count / bar.elapsed:,.1f} {name}/s" for name, count in new.items()]
            bar.advance(part.bytes, ", ".join([*rates, f"{directory.totals()['failed']:,} failed"]))


def _parts(
    model: RelationModel,
    inputs: list[tuple[str, str]],
    settings: dict[str, Any],
    plan: Mapping[str, Any],
    *,
    shard: tuple[int, int] = (1, 1),
    position: tuple[int, int] = (0, 0),
) -> Generator[tuple[pd.DataFrame | str, _biorel.Part, list[Failure]]]:
    """Each part with its content, in the format of the plan, and the documents that could not be used or written."""
    tables = plan["format"] in _TABLES
    stream = _biorel.Stream(
        model._core,
        inputs,
        position,
        shard=(shard[0] - 1, shard[1]),
        keep_raw=not tables,
        compute=model._compute,
        **settings,
    )
    try:
        while (part := stream.next_part()) is not None:
            failures = part.failures
            if tables:
                columns = part.columns(related=plan["related_only"], threshold=plan["threshold"])
                content: pd.DataFrame | str = pd.DataFrame(columns).assign(model=plan["model"])
            else:
                content, unwritten = part.text(plan["format"], plan["model"], plan["threshold"])
                failures = failures + unwritten
            yield content, part, failures
    finally:
        stream.close()


def _describe_failure(file: str, line: int | None, document: str | None, reason: str) -> str:
    named = "" if document is None or document in reason else f"document {document}: "
    return f"{file}{'' if line is None else f':{line}'}: {named}{reason}"


def check_threshold(threshold: float) -> None:
    """Raise ConfigError unless `threshold` is a probability."""
    if not isinstance(threshold, Real) or not 0.0 <= threshold <= 1.0:
        raise ConfigError(f"threshold: must be from 0 to 1, not {threshold!r}", "threshold")


def _check_filter(threshold: float, *, related: bool, tables: bool) -> None:
    """Refuse a threshold that would be ignored."""
    if tables and threshold > 0 and not related:
        message = "threshold: leaves out relations only with related_only=True (--related-only); set both"
        raise ConfigError(message, "threshold")


def _types(types: Mapping[str, str] | None) -> dict[str, str]:
    if not isinstance(types, (Mapping, type(None))):
        message = f'types: must be a dict of their names and the model\'s, as in {{"Gene": "protein"}}, not {types!r}'
        raise ConfigError(message, "types")
    known = dict(types or {})
    for theirs, ours in known.items():
        if not isinstance(theirs, str) or not isinstance(ours, str):
            message = f'types: names of types are str, as in {{"Gene": "protein"}}, not {theirs!r}: {ours!r}'
            raise ConfigError(message, "types")
    return known


def _warn_of_skipped(skipped: list[tuple[str, str]]) -> None:
    if skipped:
        path, why = skipped[0]
        warn(f"{len(skipped)} files are skipped, such as {path} ({why})")


def _are_paths(source: object) -> bool:
    return (
        isinstance(source, Sequence) and len(source) > 0 and all(isinstance(one, (str, os.PathLike)) for one in source)
    )


def _same(inputs: list[tuple[str, str]]) -> OutputFormat:
    formats = {name for _, name in inputs}
    if len(formats) > 1:
        raise ConfigError(f"format: the files are {', '.join(sorted(formats))}; choose one format to write", "format")
    (only,) = formats
    if only not in FORMATS:
        message = f"format: {only} cannot be written in parts; choose one of {', '.join(FORMATS)}"
        raise ConfigError(message, "format")
    return only  # type: ignore[return-value]


def documents_of(source: Iterable[Any]) -> Iterator[Document]:
    """The documents; spaCy Docs are converted."""
    for number, one in enumerate(source):
        if isinstance(one, Document):
            yield one
        elif hasattr(one, "ents"):
            (document,) = documents_from_spacy([one])
            yield document if "id" in one.user_data else Document(_renamed(document._core, f"doc{number}"))
        else:
            given = type(one).__name__
            raise TypeError(f"source must be paths, or contain Document or spaCy Doc objects, not {given}")


def _renamed(core: _biorel.Document, name: str) -> _biorel.Document:
    mentions = [mention[:4] for mention in core.mentions]
    return _biorel.Document(name, core.passages, mentions, core.relations)


def _add_counts(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for what, count in more.items():
        counts[what] = counts.get(what, 0) + count


def table_of(
    model: RelationModel,
    documents: Iterator[Document],
    settings: dict[str, Any],
    *,
    related: bool,
    threshold: float,
    errors: str = "raise",
) -> tuple[pd.DataFrame, int]:
    """The table for documents in memory, `_DOCUMENTS_PER_CALL` documents at a time, and the number of their pairs.

    A document that cannot be used is an error, or with ``errors="skip"`` a warning.
    """
    tables: list[pd.DataFrame] = []
    counts: dict[str, int] = {}
    pairs = 0
    while True:
        chunk = [document._core for document in itertools.islice(documents, _DOCUMENTS_PER_CALL)]
        if not chunk and tables:
            break
        skips = errors == "skip"
        part = _biorel.predict_documents(model._core, chunk, keep_failures=skips, compute=model._compute, **settings)
        for failure in part.failures:
            warn(f"skipped: {_describe_failure(*failure)}")
        tables.append(pd.DataFrame(part.columns(related=related, threshold=threshold)))
        pairs += part.pairs
        _add_counts(counts, part.counts)
        if not chunk:
            break
    filled = [table for table in tables if len(table)] or tables[:1]
    table = pd.concat(filled, ignore_index=True).assign(model=model.identity)
    table.attrs |= {"counts": counts, "negative": model.negative}
    return table, pairs
