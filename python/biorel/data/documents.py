"""Whole documents with marked entities: PubTator, BioC, brat."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd
from biorel import _biorel
from biorel._files import atomic_write
from biorel._types import DocumentFormat, PathLike
from biorel.errors import ConfigError, CorpusError


class Document:
    """A document with its entities and, where the file states some, relations.

    Made by ``read_documents``, ``documents_from_tables`` or ``documents_from_spacy``. Offsets count characters from the
    start of the document; an end is one past the last character.
    """

    def __init__(self, core: _biorel.Document) -> None:
        self._core = core

    @property
    def id(self) -> str:
        """Its identifier."""
        return self._core.id

    @property
    def text(self) -> str:
        """Its text, all passages together, as the offsets index it."""
        return self._core.text

    @property
    def passages(self) -> pd.DataFrame:
        """One row per passage: ``type``, ``start``, ``text``, ``is_sentence``."""
        return pd.DataFrame(self._core.passages, columns=["type", "start", "text", "is_sentence"])

    @property
    def entities(self) -> pd.DataFrame:
        """One row per entity: ``id``, ``type``, ``concept``, ``start``, ``end``, ``segments``, ``text``."""
        rows = [
            (name, kind, ";".join(concepts), segments[0][0], segments[-1][1], segments, text)
            for name, kind, concepts, segments, text in self._core.mentions
        ]
        return pd.DataFrame(rows, columns=["id", "type", "concept", "start", "end", "segments", "text"])

    @property
    def relations(self) -> pd.DataFrame:
        """One row per relation that the file states: ``id``, ``type``, and the arguments ``entity1`` and ``entity2``.

        An argument is the ``id`` of an entity, or, where the file relates concepts, a ``concept``.
        """
        names = [mention[0] for mention in self._core.mentions]
        rows = [
            (name, kind, *(names[side] if isinstance(side, int) else side for side in (first, second)))
            for name, kind, first, second in self._core.relations
        ]
        return pd.DataFrame(rows, columns=["id", "type", "entity1", "entity2"])

    @property
    def sentences(self) -> pd.DataFrame:
        """One row per sentence: ``start``, ``text``, ``entities`` (their ``id``)."""
        names = [mention[0] for mention in self._core.mentions]
        rows = [(start, text, [names[index] for index in inside]) for start, text, inside in self._core.sentences()]
        return pd.DataFrame(rows, columns=["start", "text", "entities"])

    @property
    def findings(self) -> pd.DataFrame:
        """What was left out or read otherwise than the file says: ``kind``, ``id``, ``reason``."""
        return pd.DataFrame(self._core.findings, columns=["kind", "id", "reason"])

    @property
    def format(self) -> str | None:
        """The format it was read in."""
        return self._core.origin[2]

    def __eq__(self, other: object) -> bool:
        """Equal in all but where it was read and how its file spells it."""
        return isinstance(other, Document) and _content(self) == _content(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Identifier and sizes."""
        entities, relations = len(self._core.mentions), len(self._core.relations)
        return f"Document({self.id!r}, {len(self.text)} characters, {entities} entities, {relations} relations)"


def _content(document: Document) -> tuple[Any, ...]:
    core = document._core
    return core.id, core.passages, core.mentions, core.relations


def read_documents(
    source: PathLike | Sequence[PathLike],
    format: DocumentFormat | None = None,
    *,
    errors: Literal["raise", "warn"] = "raise",
) -> Iterator[Document]:
    r"""Read documents one after the other, in bounded memory.

    Parameters
    ----------
    source : path or sequence of paths
        Files or folders; gzip is unpacked.
    format : {"pubtator", "bioc-json", "bioc-xml", "brat"}, optional
        Told from the files' names by default: ``.txt`` and ``.pubtator``, ``.json`` and ``.jsonl``, ``.xml``, ``.ann``.
    errors : {"raise", "warn"}
        What happens with a document that cannot be read; after a warning the next one is read.

    Yields
    ------
    Document
        In the order of the files' names and of the files.

    Raises
    ------
    CorpusError
        For a document that is not what its format promises; the message names file and line.

    Examples
    --------
    >>> text = "1|t|Aspirin.\n1|a|It helps.\n1\t0\t7\tAspirin\tChemical\tMESH:D001241\n"
    >>> _ = (folder / "one.txt").write_text(text)
    >>> [document] = biorel.read_documents(folder)
    >>> document.entities[["type", "concept", "start", "end"]].values.tolist()
    [['Chemical', 'MESH:D001241', 0, 7]]
    """
    if errors not in ("raise", "warn"):
        raise ConfigError(f"errors: `{errors}` is unknown; choose raise or warn", "errors")
    inputs, _ = list_inputs(source, format)
    return _read(_biorel.DocumentReader(inputs), errors)


def list_inputs(
    source: PathLike | Sequence[PathLike], format: str | None
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Files as (path, format), and (path, reason) of those that are not read; an error where there is none to read."""
    paths = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    inputs, skipped = _biorel.list_inputs([os.fspath(path) for path in paths], format)
    if not inputs:
        more = f"; {len(skipped)} files are of no known format, such as {skipped[0][0]}" if skipped else ""
        raise CorpusError(f"{paths[0]}: no file of documents was found{more}", os.fspath(paths[0]))
    return [(os.fspath(path), name) for path, name in inputs], [(os.fspath(path), why) for path, why in skipped]


def _read(reader: _biorel.DocumentReader, errors: str) -> Iterator[Document]:
    while True:
        try:
            core = next(reader, None)
        except (CorpusError, OSError) as error:
            if errors == "raise":
                raise
            warnings.warn(f"left out: {error}", stacklevel=3)
            continue
        if core is None:
            return
        yield Document(core)


def write_documents(documents: Iterable[Document], path: PathLike, format: DocumentFormat | None = None) -> None:
    """Write documents: in the format they were read in without any loss, else what biorel knows of them.

    Parameters
    ----------
    documents : iterable of Document
        The documents.
    path : path
        The file, which appears complete or not at all; for brat a folder, with two files for each document.
    format : {"pubtator", "bioc-json", "bioc-xml", "brat"}, optional
        Told from the file's name by default.

    Raises
    ------
    CorpusError
        For a document that the format cannot hold; the message names it.

    Examples
    --------
    >>> tables = pd.DataFrame({"document": ["d1"], "text": ["Aspirin helps."]}), pd.DataFrame(columns=["document"])
    >>> biorel.write_documents(biorel.documents_from_tables(*tables), folder / "all.json")
    >>> [document.text for document in biorel.read_documents(folder / "all.json")]
    ['Aspirin helps.']
    """
    path = Path(path)
    documents = list(documents)
    if format is None:
        known = {".txt": "pubtator", ".pubtator": "pubtator", ".json": "bioc-json", ".xml": "bioc-xml"}
        found = known.get(path.suffix.lower())
        if found is None:
            message = (
                f"format: it cannot be told from the name {path.name}; choose pubtator, bioc-json, bioc-xml or brat"
            )
            raise ConfigError(message, "format")
        format = cast("DocumentFormat", found)
    if format != "brat":
        atomic_write(path, _biorel.write_documents([document._core for document in documents], format))
        return
    path.mkdir(parents=True, exist_ok=True)
    for document in documents:
        if not document.id or "/" in document.id or "\\" in document.id or document.id.startswith("."):
            raise CorpusError(f"document {document.id!r}: its identifier cannot be the name of a file", document.id)
        # Bytes, so that no line end is changed.
        atomic_write(path / f"{document.id}.txt", document.text)
        atomic_write(path / f"{document.id}.ann", _biorel.write_documents([document._core], "brat"))


def encodable(text: str, place: str) -> str:
    """The text, unless it holds halves of characters, which no file can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(f"{place}: character {error.start} is a lone surrogate, not a character", place) from None
    return text
