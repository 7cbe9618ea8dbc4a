"""Whole documents with marked entities: reading and writing files in any format of documents."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd
from biorel import _biorel
from biorel._files import atomic_write
from biorel._types import DocumentFormat, PathLike
from biorel._warnings import warn
from biorel.errors import ConfigError, CorpusError

# The formats with several files for each document, or for all of them.
_SEVERAL_FILES = ("brat", "bionlp", "drugprot")


class Document:
    """A document with its entities and, where the file states some, relations.

    Returned by ``read_documents``, ``documents_from_tables``, ``documents_from_spacy``. Offsets count characters from
    the start of the document; ends are exclusive.
    """

    def __init__(self, core: _biorel.Document) -> None:
        self._core = core

    @property
    def id(self) -> str:
        """The identifier."""
        return self._core.id

    @property
    def text(self) -> str:
        """The whole text, all passages together, which the offsets index."""
        return self._core.text

    @property
    def passages(self) -> pd.DataFrame:
        """One row per passage: ``type``, ``start``, ``text``, ``is_sentence``."""
        return pd.DataFrame(self._core.passages, columns=["type", "start", "text", "is_sentence"])

    @property
    def entities(self) -> pd.DataFrame:
        """One row per entity: ``id``, ``type``, ``concept``, ``start``, ``end``, ``segments``, ``text``."""
        rows = [
            (name, entity_type, ";".join(concepts), segments[0][0], segments[-1][1], segments, text)
            for name, entity_type, concepts, segments, text in self._core.mentions
        ]
        return pd.DataFrame(rows, columns=["id", "type", "concept", "start", "end", "segments", "text"])

    @property
    def relations(self) -> pd.DataFrame:
        """One row per relation in the file: ``id``, ``type``, and the arguments ``entity1`` and ``entity2``.

        An argument is the ``id`` of an entity, or a ``concept`` if the file relates concepts. There is a further column
        for each attribute that the file states about relations, such as BioRED's ``novelty`` (``Novel`` or ``No``).
        """
        names = [mention[0] for mention in self._core.mentions]
        rows, attributes = [], []
        for name, relation_type, first, second, stated in self._core.relations:
            sides = (names[side] if isinstance(side, int) else side for side in (first, second))
            rows.append((name, relation_type, *sides))
            attributes.append(dict(stated))
        table = pd.DataFrame(rows, columns=["id", "type", "entity1", "entity2"])
        for attribute in dict.fromkeys(itertools.chain.from_iterable(attributes)):
            table[attribute] = [own.get(attribute) for own in attributes]
        return table

    @property
    def sentences(self) -> pd.DataFrame:
        """One row per sentence: ``start``, ``text``, ``entities`` (a list of their ``id``)."""
        names = [mention[0] for mention in self._core.mentions]
        rows = [(start, text, [names[index] for index in inside]) for start, text, inside in self._core.sentences()]
        return pd.DataFrame(rows, columns=["start", "text", "entities"])

    @property
    def findings(self) -> pd.DataFrame:
        """One row per item that was left out or repaired: ``kind``, ``id``, ``reason``."""
        return pd.DataFrame(self._core.findings, columns=["kind", "id", "reason"])

    @property
    def format(self) -> str | None:
        """The format of the file, or None if the document was not read from one."""
        return self._core.origin[2]

    def __eq__(self, other: object) -> bool:
        """Equal in content; the file and its formatting are not compared."""
        return isinstance(other, Document) and _content(self) == _content(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Show the identifier and the sizes."""
        entities, relations = len(self._core.mentions), len(self._core.relations)
        return f"Document({self.id!r}, {len(self.text)} characters, {entities} entities, {relations} relations)"


def _content(document: Document) -> tuple[Any, ...]:
    core = document._core
    return core.id, core.passages, core.mentions, core.relations


def read_documents(
    source: PathLike | Sequence[PathLike],
    format: DocumentFormat | None = None,
    *,
    errors: Literal["raise", "skip"] = "raise",
) -> Iterator[Document]:
    r"""Read documents one by one, in bounded memory.

    Parameters
    ----------
    source : path or sequence of paths
        Files or folders; gzip files are decompressed.
    format : str, optional
        ``pubtator``, ``bioc-json``, ``bioc-xml``, ``brat``, ``bionlp``, ``drugprot``, ``prodigy``, ``bigbio``,
        ``label-studio``, ``inception`` or ``text``. By default inferred from names and first bytes of the files.
        ``text`` must be stated: each ``.txt`` file is then a document of plain text without entities.
    errors : {"raise", "skip"}
        What to do with a document that cannot be read: stop, or skip it with a warning.

    Yields
    ------
    Document
        Sorted by file name, then in the order of the file.

    Raises
    ------
    CorpusError
        For a document that does not follow its format; the message names file and line.

    Examples
    --------
    >>> text = "1|t|Aspirin.\n1|a|It helps.\n1\t0\t7\tAspirin\tChemical\tMESH:D001241\n"
    >>> _ = (folder / "one.txt").write_text(text)
    >>> [document] = biorel.read_documents(folder)
    >>> document.entities[["type", "concept", "start", "end"]].values.tolist()
    [['Chemical', 'MESH:D001241', 0, 7]]
    """
    check_errors(errors)
    inputs, _ = list_inputs(source, format)
    return read_inputs(inputs, errors)


def checked_documents(documents: Iterable[Document], field: str = "documents") -> Iterator[Document]:
    """The documents one by one; raises TypeError for anything else, such as the path of their file."""
    remedy = "read them with biorel.read_documents(path)"
    if isinstance(documents, (str, os.PathLike, Document)) or not isinstance(documents, Iterable):
        raise TypeError(f"{field} must be a list of Document, not {type(documents).__name__}; {remedy}")
    for number, document in enumerate(documents):
        if not isinstance(document, Document):
            raise TypeError(f"{field}[{number}] must be a Document, not {type(document).__name__}; {remedy}")
        yield document


def check_errors(errors: str) -> None:
    """Raise ConfigError unless `errors` says what to do with a document that cannot be used."""
    if errors not in ("raise", "skip"):
        raise ConfigError(f"errors: `{errors}` is unknown; choose raise or skip", "errors")


def list_inputs(
    source: PathLike | Sequence[PathLike], format: str | None, *, plain_text: bool = False
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The files to read as (path, format), and the others as (path, reason); an error if there is none to read.

    With `plain_text` a ``.txt`` file that is not PubTator's is plain text.
    """
    paths = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    inputs, skipped = _biorel.list_inputs([os.fspath(path) for path in paths], format, plain_text=plain_text)
    if not inputs:
        more = f"; {len(skipped)} files are of no known format, such as {skipped[0][0]}" if skipped else ""
        raise CorpusError(f"{paths[0]}: no file of documents was found{more}", os.fspath(paths[0]))
    return [(os.fspath(path), name) for path, name in inputs], [(os.fspath(path), why) for path, why in skipped]


def read_inputs(inputs: list[tuple[str, str]], errors: str) -> Iterator[Document]:
    """The documents of files, given as (path, format)."""
    reader = _biorel.DocumentReader(inputs)
    while True:
        try:
            core = next(reader, None)
        except (CorpusError, OSError) as error:
            if errors == "raise":
                raise
            warn(f"skipped: {error}")
            continue
        if core is None:
            return
        yield Document(core)


def write_documents(documents: Iterable[Document], path: PathLike, format: DocumentFormat | None = None) -> None:
    """Write documents: without loss in the format that they were read from, else the content that biorel models.

    Parameters
    ----------
    documents : iterable of Document
        The documents.
    path : path
        The file, which is written atomically. A folder for brat (``.txt`` and ``.ann`` for each document), BioNLP
        (``.txt``, ``.a1``, ``.a2``) and DrugProt (``drugprot_abstracs.tsv``, ``_entities.tsv``, ``_relations.tsv``).
    format : str, optional
        ``pubtator``, ``bioc-json``, ``bioc-xml``, ``brat``, ``bionlp``, ``drugprot``, ``prodigy``, ``bigbio`` or
        ``label-studio``; by default ``pubtator``, ``bioc-json`` or ``bioc-xml``, inferred from the file name.

    Raises
    ------
    CorpusError
        For a document that the format cannot represent; the message names it.
    ConfigError
        For a format that is only read (``inception``, ``text``).

    Examples
    --------
    >>> tables = pd.DataFrame({"document": ["d1"], "text": ["Aspirin helps."]}), pd.DataFrame(columns=["document"])
    >>> biorel.write_documents(biorel.documents_from_tables(*tables), folder / "all.json")
    >>> [document.text for document in biorel.read_documents(folder / "all.json")]
    ['Aspirin helps.']
    """
    path = Path(path)
    documents = list(checked_documents(documents))
    if format is None:
        known = {".txt": "pubtator", ".pubtator": "pubtator", ".json": "bioc-json", ".xml": "bioc-xml"}
        found = known.get(path.suffix.lower())
        if found is None:
            message = f"format: cannot be inferred from the name {path.name}; state it, such as bioc-json or brat"
            raise ConfigError(message, "format")
        format = cast("DocumentFormat", found)
    cores = [document._core for document in documents]
    if format not in _SEVERAL_FILES:
        atomic_write(path, _biorel.write_documents(cores, format))
        return
    files = _biorel.write_files(cores, format)
    path.mkdir(parents=True, exist_ok=True)
    if format == "drugprot":
        for rows in zip(*files, strict=True):
            atomic_write(path / f"drugprot{rows[0][0]}", "".join(content for _, content in rows))
        return
    for document, parts in zip(documents, files, strict=True):
        if not document.id or "/" in document.id or "\\" in document.id or document.id.startswith("."):
            raise CorpusError(f"document {document.id!r}: its identifier cannot be the name of a file", document.id)
        for ending, content in parts:
            atomic_write(path / f"{document.id}{ending}", content)


def encodable(text: str, location: str) -> str:
    """The text; raises CorpusError for a lone surrogate, which no file can contain."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{location}: character {error.start} is a lone surrogate, not a character", location
        ) from None
    return text
