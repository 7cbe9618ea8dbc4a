"""From documents to a table of relations: in memory, or in a stream of any length."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import pandas as pd
from biorel import _biorel
from biorel._types import DocumentFormat, PathLike
from biorel.data.document_tables import documents_from_spacy
from biorel.data.documents import Document, list_inputs, read_documents
from biorel.errors import ConfigError
from biorel.models.relation_model import RelationModel
from biorel.prediction.output_directory import FORMATS, PredictionDirectory
from tqdm.auto import tqdm

OutputFormat: TypeAlias = Literal[
    "jsonl", "tsv", "parquet", "pubtator", "pubtator-relations", "bioc-json", "bioc-xml", "same"
]
# Documents that are classified together where the result stays in memory.
_TOGETHER = 256


class DocumentPredictions:
    """What ``predict_documents`` wrote to a directory.

    Attributes
    ----------
    directory : Path
        Where it lies: ``relations/`` with the parts, ``errors.jsonl``, ``manifest.json``, ``parts.jsonl``.
    documents, failed, pairs : int
        Documents that were used, documents that could not be, and pairs; of this shard.
    counts : dict of str to int
        How often something was left out or read otherwise, by what it was.
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
        """All rows of this shard, for formats that are tables (``jsonl``, ``tsv``, ``parquet``)."""
        return self._directory.table()

    def errors(self) -> pd.DataFrame:
        """One row per document that could not be used: ``file``, ``line``, ``document``, ``reason``."""
        return self._directory.errors()

    def __repr__(self) -> str:
        """Sizes and place."""
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
    progress: bool = True,
) -> pd.DataFrame | DocumentPredictions:
    r"""Classify every pair of entities of documents whose types can stand in a relation.

    With `output` the documents are read, classified and written in a stream: memory is bounded by the size of a part,
    whatever the number of documents. Parts are written atomically; killed at any moment and called again, the run
    resumes behind the last complete part, and no row is lost or doubled. A document that cannot be used is a line of
    ``errors.jsonl`` and stops nothing.

    Parameters
    ----------
    model : RelationModel
        A fine-tuned model.
    source : path, sequence of paths, or iterable of Document or spaCy Doc
        Files or folders, or documents in memory (without `output`).
    output : path, optional
        A directory, new or of the same run. Without it the table is returned.
    input_format : {"pubtator", "bioc-json", "bioc-xml", "brat"}, optional
        Format of the files; told from their names by default.
    format : {"jsonl", "tsv", "parquet", "pubtator", "pubtator-relations", "bioc-json", "bioc-xml", "same"}
        What is written. The first three are tables (Parquet needs pyarrow). The others are the documents with the
        relations found, ``same`` in the format they were read in; ``pubtator-relations`` are only their lines.
    types : mapping of str to str, optional
        The model's name for a type of the files, as in ``{"Gene": "protein"}``. Types that differ in capitals alone
        need none.
    related_only : bool
        Leave out pairs that are predicted not to be related.
    threshold : float
        Leave out relations with a smaller probability, where `related_only` is set or documents are written.
    shard : (int, int)
        Do the first of two shares with ``(1, 2)``, and so on, all with the same `output`.
    part_documents, part_pairs : int
        Where a part ends: at so many documents or before more pairs, whichever comes first.
    max_pairs : int
        A document with more pairs is not used.
    progress : bool
        Show a bar with the rate and the time left.

    Returns
    -------
    pandas.DataFrame or DocumentPredictions
        One row per pair: ``file``, ``document``, ``sentence``; ``entity1``, ``type1``, ``id1``, ``concept1``,
        ``start1``, ``end1`` (characters of the document) and the same for the second; ``relation``, its
        ``probability``, one column ``p_<label>`` per label (all missing for a pair that does not fit into the model's
        length), ``model`` (name and hash). ``attrs["counts"]`` tells what was left out. With `output`, where it was
        written.

    Raises
    ------
    ConfigError
        For settings that do not apply, and for a directory of another run.
    CorpusError
        Without `output`, for a document that cannot be used.

    Warns
    -----
    UserWarning
        With `output`, for files that are not read, by their names.

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
    from_files = isinstance(source, (str, os.PathLike)) or _are_paths(source)
    settings = {"types": dict(types or {}), "max_pairs": _positive("max_pairs", max_pairs)}
    if output is None:
        given = {"shard": shard != (1, 1), "format": format != "jsonl"}
        if wrong := [name for name, there in given.items() if there]:
            raise ConfigError(f"{wrong[0]}: it is for runs with an output directory", wrong[0])
        documents = read_documents(source, input_format) if from_files else documents_of(source)  # type: ignore[arg-type]
        return table_of(model, documents, settings, related=related_only, threshold=threshold)
    if not from_files:
        message = "source: a stream that can resume reads files; leave `output` out and write the table yourself"
        raise ConfigError(message, "source")
    if format not in (*FORMATS, "same"):
        raise ConfigError(f"format: `{format}` is unknown; choose one of {', '.join(FORMATS)}, same", "format")
    if not 0.0 <= threshold <= 1.0:
        raise ConfigError(f"threshold: must be from 0 to 1, not {threshold}", "threshold")
    number, shards = shard
    if not 1 <= number <= shards:
        raise ConfigError(f"shard: {number} of {shards} does not exist", "shard")
    inputs, skipped = list_inputs(source, input_format)  # type: ignore[arg-type]
    if skipped:
        path, why = skipped[0]
        warnings.warn(f"{len(skipped)} files are not read, such as {path} ({why})", stacklevel=2)
    if format == "same":
        format = _same(inputs)
    settings |= {"part_documents": _positive("part_documents", part_documents)}
    settings |= {"part_pairs": _positive("part_pairs", part_pairs)}
    plan = {**settings, "model": model.identity, "model_hash": model.hash, "format": format}
    plan |= {"precision": model._compute.precision, "related_only": related_only, "threshold": threshold}
    directory = PredictionDirectory(output, plan, inputs, (number, shards), relation_columns(model.labels))
    with directory.locked():
        if not directory.complete:
            _stream(model, directory, inputs, settings, progress=progress)
            directory.finish([path for path, _ in skipped])
    return DocumentPredictions(directory)


def relation_columns(labels: Iterable[str]) -> dict[str, str]:
    """The columns of a table of relations, and of what kind each is."""
    sides = [f"{name}{number}" for number in (1, 2) for name in ("entity", "type", "id", "concept", "start", "end")]
    columns = dict.fromkeys(("file", "document", "sentence", *sides, "relation"), "text")
    columns |= dict.fromkeys(("start1", "end1", "start2", "end2"), "offset")
    columns |= dict.fromkeys(("probability", *(f"p_{label}" for label in labels)), "number")
    return {**columns, "model": "text"}


def _stream(
    model: RelationModel,
    directory: PredictionDirectory,
    inputs: list[tuple[str, str]],
    settings: dict[str, Any],
    *,
    progress: bool,
) -> None:
    number, shards = directory.shard
    tables = directory.format in ("jsonl", "tsv", "parquet")
    stream = _biorel.Stream(
        model._core,
        inputs,
        directory.position,
        shard=(number - 1, shards),
        keep_raw=not tables,
        compute=model._compute,
        **settings,
    )
    plan = directory.plan
    done = directory.totals()
    bar = tqdm(
        total=directory.input_bytes(),
        initial=done["bytes"],
        unit="B",
        unit_scale=True,
        desc="documents",
        disable=not progress,
        smoothing=0.1,
    )
    new = {"documents": 0, "pairs": 0}
    try:
        while (part := stream.next_part()) is not None:
            failures = part.failures
            if tables:
                columns = part.columns(related=plan["related_only"], threshold=plan["threshold"])
                content: pd.DataFrame | str = pd.DataFrame(columns).assign(model=plan["model"])
            else:
                content, unwritten = part.text(directory.format, plan["model"], plan["threshold"])
                failures = failures + unwritten
            directory.add(content, part, failures)
            new["documents"] += part.documents
            new["pairs"] += part.pairs
            bar.update(part.bytes - bar.n)
            seconds = max(bar.format_dict["elapsed"], 1e-9)
            rates = {f"{name}/s": f"{count / seconds:,.1f}" for name, count in new.items()}
            bar.set_postfix(rates | {"failed": directory.totals()["failed"]})
    finally:
        # After Ctrl-C too: a later run can resume.
        stream.close()
        bar.close()


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ConfigError(f"{name}: must be at least 1, not {value}", name)
    return value


def _are_paths(source: object) -> bool:
    return (
        isinstance(source, Sequence) and len(source) > 0 and all(isinstance(one, (str, os.PathLike)) for one in source)
    )


def _same(inputs: list[tuple[str, str]]) -> OutputFormat:
    formats = {name for _, name in inputs}
    if len(formats) > 1:
        raise ConfigError(f"format: the files are in {', '.join(sorted(formats))}; choose one to write", "format")
    (only,) = formats
    if only == "brat":
        message = "format: brat has two files for each document, which cannot be written in parts; choose another"
        raise ConfigError(message, "format")
    return only  # type: ignore[return-value]


def documents_of(source: Iterable[Any]) -> Iterator[Document]:
    """Documents as they are, spaCy's converted."""
    for number, one in enumerate(source):
        if isinstance(one, Document):
            yield one
        elif hasattr(one, "ents"):
            (document,) = documents_from_spacy([one])
            yield document if "id" in one.user_data else Document(_renamed(document._core, f"doc{number}"))
        else:
            kind = type(one).__name__
            raise TypeError(f"source must be paths, or hold Document or spaCy Doc objects, not {kind}")


def _renamed(core: _biorel.Document, name: str) -> _biorel.Document:
    mentions = [mention[:4] for mention in core.mentions]
    return _biorel.Document(name, core.passages, mentions, core.relations)


def table_of(
    model: RelationModel, documents: Iterator[Document], settings: dict[str, Any], *, related: bool, threshold: float
) -> pd.DataFrame:
    """The pairs of documents in memory, `_TOGETHER` documents at a time."""
    tables: list[pd.DataFrame] = []
    counts: dict[str, int] = {}
    while True:
        chunk = [document._core for document in itertools.islice(documents, _TOGETHER)]
        if not chunk and tables:
            break
        part = _biorel.predict_documents(model._core, chunk, keep_failures=False, compute=model._compute, **settings)
        tables.append(pd.DataFrame(part.columns(related=related, threshold=threshold)))
        for what, count in part.counts.items():
            counts[what] = counts.get(what, 0) + count
        if not chunk:
            break
    filled = [table for table in tables if len(table)] or tables[:1]
    table = pd.concat(filled, ignore_index=True).assign(model=model.identity)
    table.attrs["counts"] = counts
    return table
