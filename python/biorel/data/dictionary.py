"""A user's own list of terms, as entities of documents that have none."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd
from biorel import _biorel
from biorel._tables import text_of
from biorel._types import PathLike
from biorel.data.table_files import decode
from biorel.errors import ConfigError, CorpusError

Case: TypeAlias = Literal["auto", "sensitive", "insensitive"]
Terms: TypeAlias = "PathLike | Mapping[str, str | tuple[str, str]] | pd.DataFrame"
_COLUMNS = ("term", "type", "identifier")


class Dictionary:
    """Terms that are found in texts: a list of names with their types.

    A match starts and ends at the border of a word. Of overlapping matches the leftmost counts, and of those that start
    together the longest. White space in a term matches any white space. All terms are searched at once (Aho and
    Corasick), so that a list may be long.

    Parameters
    ----------
    terms : path, mapping, or DataFrame
        A file of tab-separated (``.tsv``, ``.txt``) or comma-separated (``.csv``) rows ``term``, ``type`` and, if
        known, ``identifier`` (a database concept), with or without these names as header; a mapping from term to type
        or to (type, identifier); or a DataFrame with these columns. A term may have several identifiers, in several
        rows, but only one type.
    case : {"auto", "sensitive", "insensitive"}
        Which upper and lower case a term matches. ``auto``: its own for a term of at most three characters or without a
        lower-case letter (``CAT``, ``p53``, ``BRCA1``), any for others (``Aspirin``).

    Raises
    ------
    CorpusError
        For an empty list, a row without a type, or a term with two types; the message names file and line.

    Examples
    --------
    >>> dictionary = biorel.Dictionary({"aspirin": ("Chemical", "MESH:D001241"), "COX-2": "Gene"})
    >>> dictionary.find("Aspirin inhibits COX-2, cox-2 and COX-20.")
       start  end      type    concept     text
    0      0    7  Chemical  MESH:D001241  Aspirin
    1     17   22      Gene               COX-2
    """

    def __init__(self, terms: Terms, *, case: Case = "auto") -> None:
        if case not in ("auto", "sensitive", "insensitive"):
            raise ConfigError(f"case: `{case}` is unknown; choose auto, sensitive or insensitive", "case")
        self._core = _biorel.Dictionary(list(_rows(terms)), case)
        self.case: Case = case

    @property
    def hash(self) -> str:
        """SHA-256 of the terms and of how case counts."""
        return self._core.hash

    def find(self, text: str) -> pd.DataFrame:
        """One row per mention in a text: ``start``, ``end`` (exclusive), ``type``, ``concept``, ``text``."""
        rows = [
            (start, end, entity_type, ";".join(concepts), text[start:end])
            for start, end, entity_type, concepts in self._core.find(text)
        ]
        return pd.DataFrame(rows, columns=["start", "end", "type", "concept", "text"])

    def __len__(self) -> int:
        """How many different terms there are."""
        return len(self._core)

    def __repr__(self) -> str:
        """Show the number of terms."""
        return f"Dictionary({len(self):,} terms, case={self.case!r})"


def _rows(terms: Terms) -> Iterable[tuple[str, str, str, str]]:
    """Term, type, identifier, and where the list states it."""
    if isinstance(terms, pd.DataFrame):
        return _of_frame(terms)
    if isinstance(terms, Mapping):
        return [_of_item(term, value) for term, value in terms.items()]
    if isinstance(terms, (str, os.PathLike)):
        return _of_file(Path(terms))
    given = type(terms).__name__
    raise TypeError(f"terms must be a path, a mapping or a DataFrame, not {given}")


def _of_item(term: Any, value: Any) -> tuple[str, str, str, str]:
    entity_type, identifier = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, "")
    if not all(isinstance(one, str) for one in (term, entity_type, identifier)):
        message = f"terms[{term!r}] must be a type, or a tuple of a type and an identifier, not {value!r}"
        raise CorpusError(message, "terms")
    return term, entity_type, identifier, f"terms[{term!r}]"


def _of_frame(frame: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    for name in _COLUMNS[:2]:
        if name not in frame.columns:
            existing = ", ".join(map(str, frame.columns))
            raise CorpusError(f"terms: no column `{name}`; the columns are {existing}", "terms")
    identifiers = frame["identifier"] if "identifier" in frame.columns else [""] * len(frame)
    rows = []
    for row, *cells in zip(frame.index, frame["term"], frame["type"], identifiers, strict=True):
        term, entity_type, identifier = ("" if pd.isna(cell) else text_of(cell) for cell in cells)
        rows.append((term, entity_type, identifier, f"terms: row {row}"))
    return rows


def _of_file(path: Path) -> list[tuple[str, str, str, str]]:
    """The rows of a file; quotation marks count as in CSV for commas, and as characters for tabs."""
    name = str(path)
    text = decode(name, path.read_bytes())
    comma = path.suffix.lower() == ".csv"
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter="," if comma else "\t",
        quoting=csv.QUOTE_MINIMAL if comma else csv.QUOTE_NONE,
        strict=True,
    )
    order: list[int] | None = None
    rows = []
    try:
        for cells in reader:
            line = reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if order is None:
                names = [cell.strip().lower() for cell in cells]
                if {"term", "type"} <= set(names):
                    order = [names.index(one) for one in _COLUMNS if one in names]
                    continue
                order = [0, 1, 2]
            if len(cells) < 2:
                expected = "a term and its type, separated by a " + ("comma" if comma else "tab")
                raise CorpusError(f"{name}:{line}: `{cells[0]}` must be {expected}", name, line)
            found = [cells[column].strip() if column < len(cells) else "" for column in order]
            term, entity_type, identifier = (*found, "")[:3]
            rows.append((term, entity_type, identifier, f"{name}:{line}"))
    except csv.Error as error:
        raise CorpusError(f"{name}:{reader.line_num}: {error}", name, reader.line_num) from None
    return rows
