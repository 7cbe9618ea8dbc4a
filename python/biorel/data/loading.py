"""Read corpora: published ones, documents, and people's own tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

import pandas as pd
from biorel import _biorel
from biorel._tables import text_of
from biorel._types import PathLike, Scope
from biorel._warnings import warn
from biorel.data.checks import check_data
from biorel.data.corpus import Corpus
from biorel.data.documents import Document, check_errors, checked_documents
from biorel.data.tables import Offsets, Source, read_table, table_columns
from biorel.errors import ConfigError


def load_corpus(
    name: str,
    source: Source | Iterable[Document],
    *,
    splits: str | None = None,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str | int] | None = None,
    negative: str | int | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    offsets: Offsets = "characters",
    errors: Literal["raise", "skip"] = "raise",
    scope: Scope = "sentence",
    max_mentions: int | None = None,
    attribute: str | None = None,
) -> Corpus:
    """Read a corpus from its original files.

    Parameters
    ----------
    name : str
        The corpus or the format. Published corpora: ``aimed`` (the unified PPI XML form, or the flat
        ``aimed_pairs.tsv``), ``bioinfer``, ``hprd50``, ``iepa``, ``lll`` (unified XML), ``ppi`` (all of these at once;
        each is a split, see ``cross_validate(by="split")``), ``ddi`` (DDIExtraction 2013), ``chemprot`` (the tables of
        BioCreative VI track 5), ``biored`` and ``bc5cdr`` (PubTator or BioC), ``drugprot`` (the tables of BioCreative
        VII track 1). ``table``: your own pairs, one row each; the columns ``text``, ``label``, and the entities as
        strings (``entity1``, ``entity2``), as offsets (``entity1_start``, ``entity1_end``, ...), or as two tags such
        as ``@GENE$`` in each text; see `columns`. Whole documents, whose relations become the labels: ``pubtator``,
        ``bioc`` (XML or JSON), ``brat``, ``bionlp`` (``.a1``, ``.a2``), ``prodigy``, ``bigbio``, ``label-studio``,
        ``inception``; ``documents``: the same from ``Document`` objects.
    source : path, sequence of paths, DataFrame, list of dict, or iterable of Document
        A folder, a file, several files, or a ``.zip``, which is read without unpacking it (documents: gzip only). A
        table is CSV (also with semicolons), TSV, JSON lines, Parquet (needs pyarrow), Excel (needs openpyxl), a
        DataFrame, or a list with a dict for each row. For documents the words ``train``, ``dev`` and ``test`` in names
        of files or folders give the split. Files of a folder that contain no documents are skipped and listed in
        ``Corpus.findings``.
    splits : {"full", "blue"}, optional
        DDI only: the release's own train and test (default), or the train / dev / test of the BLUE benchmark.
    columns : mapping of str to str, optional
        Table only: for a column whose name differs, our name and yours, as in ``{"text": "sentence", "entity1":
        "drug_a", "entity2": "drug_b"}``. Entities that are strings are located in the text, as whole words, in their
        case or else in any case. For a mention that occurs several times, ``entity1_occurrence`` or
        ``entity2_occurrence`` says which one is meant, from 1. Optional: ``id``, ``document``, ``sentence``,
        ``entity1_type``, ``entity2_type``, ``split``, ``fold``.
    labels : sequence of str or int, optional
        Table and documents: all labels in order; by default they are collected from the data. A number is a label by
        its text: 0 is ``"0"``.
    negative : str or int, optional
        Table and documents: the label that means "no relation"; ``none`` for documents without such a label.
    pairs : sequence of (str, str), optional
        Documents only: the types of the first and second argument of candidate pairs, as in
        ``[("Chemical", "Gene")]``; by default those of the relations in the data.
    offsets : {"characters", "bytes"}
        Table only: what the offsets count, from 0, the end exclusive: characters, as in Python, or bytes of UTF-8.
    errors : {"raise", "skip"}
        Document files only: what to do with a document that cannot be read. ``skip`` leaves it out and lists it, with
        the reason, in ``Corpus.findings``.
    scope : {"sentence", "document"}
        Documents only: what a pair joins. ``sentence``: two mentions in one sentence. ``document``: two concepts (the
        identifiers of the mentions; a mention without one is its own concept) anywhere in the document. A model
        classifies at the scope of its training; at document scope it needs levitated markers.
    max_mentions : int, optional
        Document scope only: how many mentions of each concept a pair has at most, the nearest ones; 4 by default.

    attribute : str, optional
        Documents only: an attribute of the relations whose value is the label, in place of their type:
        ``attribute="novelty"`` for BioRED's ``Novel`` and ``No``. Pairs without a relation are negative as before.

    Returns
    -------
    Corpus
        The corpus; ``Corpus.findings`` lists what could not be read as it is.

    Raises
    ------
    FileNotFoundError
        When a path does not exist.
    CorpusError
        When a file does not follow its format; the message names file and line.
    ConfigError
        For an unknown name or a setting that does not apply.

    Warns
    -----
    UserWarning
        For a table whose offsets seem to count bytes, whose labels differ only in case or blanks or look like a missing
        value, or that lacks some types; ``Corpus.check`` has more. For an Excel file with several sheets: the first one
        is read.

    Examples
    --------
    >>> corpus = biorel.load_corpus("ddi", biorel.sample_path("ddi"))
    >>> corpus.labels
    ['false', 'mechanism', 'effect', 'advise', 'int']
    >>> table = pd.DataFrame({"sentence": ["Aspirin enhances warfarin.", "Aspirin is not warfarin."]})
    >>> table = table.assign(drug_a="aspirin", drug_b="warfarin", label=["effect", "none"])
    >>> columns = {"text": "sentence", "entity1": "drug_a", "entity2": "drug_b"}
    >>> biorel.load_corpus("table", table, columns=columns).instances("all")["text"][0]
    '@ENTITY$ enhances @ENTITY$.'
    """
    check_errors(errors)
    if not isinstance(name, str):
        message = (
            f'name: must be that of a corpus or format, as in load_corpus("table", ...), not {type(name).__name__}'
        )
        raise ConfigError(message, "name")
    if isinstance(labels, str):
        raise ConfigError(f"labels: must be a list of labels, not the text {labels!r}", "labels")
    if columns is not None and not isinstance(columns, Mapping):
        message = f'columns: must be a dict of our names and yours, as in {{"text": "sentence"}}, not {columns!r}'
        raise ConfigError(message, "columns")
    if max_mentions is not None and max_mentions < 1:
        raise ConfigError(f"max_mentions: must be at least 1, not {max_mentions}", "max_mentions")
    if offsets != "characters" and name != "table":
        raise ConfigError("offsets: applies only to a table; other formats define how they count", "offsets")
    options = _biorel.ReadOptions(
        splits=splits,
        columns={ours: str(theirs) for ours, theirs in (columns or {}).items()},
        labels=None if labels is None else [text_of(label) for label in labels],
        negative=None if negative is None else text_of(negative),
        pairs=None if pairs is None else _pairs(pairs),
        skip_errors=errors == "skip",
        scope=scope,
        max_mentions=max_mentions,
        attribute=attribute,
    )
    named = negative is not None
    if name == "documents":
        if isinstance(source, (str, os.PathLike, pd.DataFrame)):
            message = 'source: "documents" takes Document objects; for files choose pubtator, bioc or brat'
            raise ConfigError(message, "source")
        documents = cast("Iterable[Document]", source)
        core = _biorel.Corpus.from_documents([document._core for document in checked_documents(documents)], options)
        return Corpus(core, negative_named=named)
    if name == "table":
        unfit: dict[str, object] = {"splits": splits, "pairs": pairs, "errors": errors == "skip" or None}
        unfit |= {"scope": scope == "document" or None, "max_mentions": max_mentions, "attribute": attribute}
        for field, given in unfit.items():
            if given is not None:
                raise ConfigError(f"{field}: does not apply to a table", field)
        core, rows = _read_table(source, options, columns or {}, offsets, labels)  # type: ignore[arg-type]
        return Corpus(core, rows, negative_named=named)
    if isinstance(source, pd.DataFrame):
        raise ConfigError(f'source: a DataFrame can only be read as "table", not as "{name}"', "source")
    paths = [source] if isinstance(source, (str, os.PathLike)) else cast("list[PathLike]", list(source))
    return Corpus(_biorel.Corpus.read(name, [os.fspath(path) for path in paths], options), negative_named=named)


def _pairs(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    for pair in [pairs] if isinstance(pairs, str) else pairs:
        if not isinstance(pair, (list, tuple)) or [type(one) for one in pair] != [str, str]:
            message = f'pairs: a list of two types each, as in [("Chemical", "Gene")], not {pair!r}'
            raise ConfigError(message, "pairs")
    return [(first, second) for first, second in pairs]


def _read_table(
    source: Source,
    options: _biorel.ReadOptions,
    columns: Mapping[str, str],
    offsets: Offsets,
    labels: Sequence[str | int] | None,
) -> tuple[_biorel.Corpus, pd.Index]:
    """A corpus from a user's table, and the table's index."""
    table = read_table(source)
    values = table_columns(table, columns, offsets=offsets)
    if labels is None and len(only := set(values["label"])) == 1:
        message = (
            f"labels: all {len(table.frame):,} rows have the label `{only.pop()}`, and a task needs two or more: "
            "add pairs of another one (such as none, for no relation), or list all of them in `labels`"
        )
        raise ConfigError(message, "labels")
    core = table.named(lambda: _biorel.Corpus.from_columns(values, options))
    for name in ("entity1_type", "entity2_type"):
        if untyped := [position for position, given in enumerate(values.get(name, [])) if not given]:
            if len(untyped) == len(values[name]):
                continue
            message = (
                f"{columns.get(name, name)} is empty in {len(untyped):,} rows, such as {table.places()[untyped[0]]}"
            )
            remedy = "their entities become @ENTITY$, a type of its own; give them a type if that is not meant"
            warn(f"{table.source}: {message}; {remedy}")
    for finding in check_data(core):
        if finding.severity == "error":
            warn(f"{table.source}: {finding.finding}; {finding.remedy}")
    return core, table.frame.index.copy()
