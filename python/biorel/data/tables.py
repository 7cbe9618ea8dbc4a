"""A user's own table: from a DataFrame, dicts or a file to the columns that the core reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

import pandas as pd
from biorel._tables import text_of
from biorel._types import PathLike
from biorel.data.mentions import locate_mentions
from biorel.data.table_files import TAG, Headers, read_files
from biorel.errors import ConfigError, CorpusError

# How a table counts its offsets.
Offsets: TypeAlias = Literal["characters", "bytes"]
Source: TypeAlias = "PathLike | Sequence[PathLike] | Sequence[Mapping[str, Any]] | pd.DataFrame"

TEXT_COLUMNS = (
    "id", "document", "sentence", "text", "label", "entity1", "entity2", "entity1_type", "entity2_type", "split"
)  # fmt: skip
OFFSET_COLUMNS = ("entity1_start", "entity1_end", "entity2_start", "entity2_end")
OCCURRENCE_COLUMNS = ("entity1_occurrence", "entity2_occurrence")
COLUMNS = (*TEXT_COLUMNS, *OFFSET_COLUMNS, *OCCURRENCE_COLUMNS, "fold")
# A cell may be empty here.
_MAY_BE_EMPTY = {"id", "document", "sentence", "entity1_type", "entity2_type", "split", *OCCURRENCE_COLUMNS}
_LABEL_NAMES = ("relation", "class", "interaction", "relation_type", "target", "y", "gold", "category")
_NOT_FOUND = (
    "; `str.find` gives -1 for a mention that is not in the text: leave out the columns of offsets and give the "
    "mentions in entity1 and entity2, which biorel finds"
)
T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """The rows of a user's table, and how messages name them."""

    frame: pd.DataFrame
    # The file and line of each row; None for a table in memory.
    lines: list[tuple[str, int | None]] | None = None
    headers: Headers = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The table in messages."""
        return next(iter(self.headers), "table")

    def check_headers(self, names: Iterable[str]) -> None:
        """Raise CorpusError if a file lacks one of these columns that another one has."""
        for name in names:
            having = [path for path, header in self.headers.items() if name in header]
            lacking = [path for path in self.headers if path not in having]
            if having and lacking:
                message = f"has no column `{name}`, which {having[0]} has; give all files the same columns"
                raise CorpusError(f"{lacking[0]}: {message}", lacking[0])

    def error(self, position: int, message: str) -> CorpusError:
        """The error of a row."""
        if self.lines is None:
            return CorpusError(f"table: row {self.frame.index.tolist()[position]}: {message}", "table")
        path, line = self.lines[position]
        if line is None:  # Parquet and Excel have rows, but no lines
            return CorpusError(f"{path}: row {self.frame.index[position]}: {message}", path)
        return CorpusError(f"{path}:{line}: {message}", path, line)

    def places(self) -> list[str]:
        """Short names of the rows, for a list of them."""
        if self.lines is None:
            return [f"row {row}" for row in self.frame.index.tolist()]
        several = len({path for path, _ in self.lines}) > 1
        rows = zip(self.lines, self.frame.index, strict=True)
        return [
            f"{f'{path}, ' if several else ''}{f'row {row}' if line is None else f'line {line}'}"
            for (path, line), row in rows
        ]

    def named(self, read: Callable[[], T]) -> T:
        """What the core reads; it numbers the rows, and its errors then name them as `error` does."""
        try:
            return read()
        except CorpusError as error:
            message = re.match(r"table: row (\d+): (.*)", str(error), re.DOTALL)
            if message is None:
                raise
            raise self.error(int(message[1]), message[2]) from None


def read_table(source: Source) -> Table:
    """The table of a DataFrame, of dicts (one for each row), or of files."""
    if isinstance(source, pd.DataFrame):
        return Table(source)
    if isinstance(source, (list, tuple)) and source and all(isinstance(row, Mapping) for row in source):
        return Table(pd.DataFrame([dict(row) for row in source]))
    return Table(*read_files(source))  # type: ignore[arg-type]


def table_columns(
    table: Table, renamed: Mapping[str, str], *, offsets: Offsets = "characters", labelled: bool = True
) -> dict[str, list[Any]]:
    """The columns that the core reads: with our names and types, and with offsets in characters.

    Parameters
    ----------
    table : Table
        The user's table.
    renamed : mapping of str to str
        For a column whose name differs, our name and the user's.
    offsets : {"characters", "bytes"}
        How the table counts its offsets, if it has any.
    labelled : bool
        Whether the table needs labels.

    Returns
    -------
    dict of str to list
        The columns, and ``row`` with the position of each row.
    """
    frame = table.frame
    if "text" not in renamed and "text" not in frame.columns and _has_tags(frame, "sentence"):
        # This is the text and no identifier: GAD, EU-ADR, the files of the BLUE benchmark.
        renamed = {**renamed, "text": "sentence"}
    _check_names(frame, renamed)
    if not len(frame):
        hint = "; for plain text name the entities: --entities, or biorel.annotate" * table.source.endswith(".txt")
        raise CorpusError(f"{table.source}: has no rows{hint}", table.source)
    # A column `sentence` that is mapped to `text` is not the identifier of a sentence.
    taken = set(renamed.values())
    wanted = [name for name in COLUMNS if name in renamed or (name not in taken and name in frame.columns)]
    if not labelled:  # what prediction does not need may be anything
        wanted = [name for name in wanted if name not in ("id", "document", "sentence", "label", "split", "fold")]
    table.check_headers(renamed.get(ours, ours) for ours in wanted if ours != "split")
    for ours in ("text", "label") if labelled else ("text",):
        if ours not in wanted:
            raise _missing(table, ours, renamed, labelled)
    columns: dict[str, list[Any]] = {"row": [str(position) for position in range(len(frame))]}
    for ours in wanted:
        columns[ours] = _column(table, ours, renamed.get(ours, ours))
    given = [name for name in OFFSET_COLUMNS if name in wanted]
    if given and len(given) < len(OFFSET_COLUMNS):
        raise _missing(table, next(name for name in OFFSET_COLUMNS if name not in given), renamed, labelled)
    if given:
        _convert_offsets(table, columns, offsets)
    elif not all(map(TAG.search, columns["text"])):
        if not {"entity1", "entity2"} <= columns.keys():
            if any(map(TAG.search, columns["text"])):
                return columns  # the core names the row without tags
            missing = next(name for name in ("entity1", "entity2") if name not in columns)
            raise _missing(table, missing, renamed, labelled)
        columns |= locate_mentions(columns, renamed, table.places(), table.source)
        for number in (1, 2):  # from here on as in the text, where the case may differ
            spans = zip(columns["text"], columns[f"entity{number}_start"], columns[f"entity{number}_end"], strict=True)
            columns[f"entity{number}"] = [text[start:end] for text, start, end in spans]
    return {name: values for name, values in columns.items() if name not in OCCURRENCE_COLUMNS}


def _has_tags(frame: pd.DataFrame, name: str) -> bool:
    """Whether the first values of a column have tags such as @GENE$."""
    return list(frame.columns).count(name) == 1 and bool(frame[name].head(50).astype(str).str.contains(TAG).all())


def _check_names(frame: pd.DataFrame, renamed: Mapping[str, str]) -> None:
    for ours, theirs in renamed.items():
        if ours not in COLUMNS:
            message = f"columns: `{ours}` is not a column of a table; choose from {', '.join(COLUMNS)}"
            raise ConfigError(message, "columns")
        if theirs not in frame.columns:
            existing = ", ".join(map(str, frame.columns))
            raise ConfigError(f"columns: the table has no column `{theirs}`; it has {existing}", "columns")
    for name in {renamed.get(ours, ours) for ours in COLUMNS}:
        if list(frame.columns).count(name) > 1:
            raise ConfigError(f"columns: the table has the column `{name}` twice", "columns")


def _column(table: Table, ours: str, theirs: str) -> list[Any]:
    """The values of a column as strings or whole numbers."""
    values = table.frame[theirs]
    empty = (values.isna() | (values.astype(str).str.strip() == "")).to_numpy()
    if empty.any() and ours not in _MAY_BE_EMPTY:
        raise table.error(int(empty.argmax()), f"column `{theirs}` has no value")
    if ours == "split" and empty.any() and not empty.all():
        message = f"column `{theirs}` has no value, and other rows have one; name a split, or leave the row out"
        raise table.error(int(empty.argmax()), message)
    if ours in TEXT_COLUMNS:
        pairs = zip(values, empty, strict=True)
        return ["" if is_empty else text_of(value) for value, is_empty in pairs]
    numbers = pd.to_numeric(values.where(~empty), errors="coerce")
    wrong = (numbers.isna() | (numbers < 0) | (numbers % 1 != 0)).to_numpy() & ~empty
    if wrong.any():
        position = int(wrong.argmax())
        advice = _NOT_FOUND if numbers.iloc[position] == -1 and ours in OFFSET_COLUMNS else ""
        found = values.iloc[position]
        shown = repr(found) if isinstance(found, str) else found
        raise table.error(position, f"`{theirs}` must be a whole number from 0, not {shown}{advice}")
    return [None if is_empty else int(number) for number, is_empty in zip(numbers, empty, strict=True)]


def _convert_offsets(table: Table, columns: dict[str, list[Any]], offsets: Offsets) -> None:
    """Convert offsets in bytes to characters; explain stated mentions that fit only as bytes."""
    if offsets not in ("characters", "bytes"):
        raise ConfigError(f"offsets: `{offsets}` is unknown; choose characters or bytes", "offsets")
    for position, text in enumerate(columns["text"]):
        if text.isascii():
            continue
        encoded = text.encode(errors="surrogatepass")
        for number in (1, 2):
            start, end = (columns[f"entity{number}_{edge}"][position] for edge in ("start", "end"))
            if offsets == "bytes":
                try:
                    characters = [len(encoded[:edge].decode()) for edge in (start, end)]
                except UnicodeDecodeError:
                    message = f"entity{number}: bytes {start} to {end} cut a character of the text in two"
                    raise table.error(position, f"{message}; are they characters?") from None
                past = max(0, end - len(encoded))  # keep an end outside of the text there
                columns[f"entity{number}_start"][position] = characters[0]
                columns[f"entity{number}_end"][position] = characters[1] + past
            elif len(text) < end <= len(encoded) and (mention := bytes_at(text, start, end)):
                message = f"entity{number}_end {end} is outside of the text, which has {len(text)} characters"
                raise table.error(position, f'{message}; as bytes it is `{mention}`: give offsets="bytes"')
            elif f"entity{number}" in columns:
                stated, found = columns[f"entity{number}"][position], text[start:end]
                if stated != found and stated == bytes_at(text, start, end):
                    message = f"entity{number} is `{stated}`, but characters {start} to {end} are `{found}`"
                    raise table.error(position, f'{message}; they are bytes: give offsets="bytes"')


def bytes_at(text: str, start: int, end: int) -> str | None:
    """The part of a text from one byte to another; None if they cut a character in two."""
    try:
        return text.encode(errors="surrogatepass")[start:end].decode()
    except UnicodeDecodeError:
        return None


def _missing(table: Table, ours: str, renamed: Mapping[str, str], labelled: bool) -> CorpusError:
    """The error of a missing column, with a guess which of the existing ones is meant."""
    frame = table.frame
    guess = dict(renamed)
    for name, theirs in guess_columns(frame).items():
        if name not in renamed and name not in frame.columns and (labelled or name != "label"):
            guess[name] = theirs
    what = f"no column `{renamed.get(ours, ours)}`"
    if ours in ("entity1", "entity2"):
        what += ", neither offsets, nor tags such as @GENE$ in the text"
    message = f"{table.source}: {what}; the columns are {', '.join(map(str, frame.columns))}"
    if guess and guess != dict(renamed):
        names = ", ".join(f'"{name}": "{theirs}"' for name, theirs in guess.items())
        options = " ".join(f"{name}={theirs}" for name, theirs in guess.items())
        message += f"; name yours, perhaps columns={{{names}}} (--columns {options})"
    return CorpusError(message, table.source)


def guess_columns(frame: pd.DataFrame) -> dict[str, str]:
    """Which columns of a table probably are the text, the entities and the label, from the first rows."""
    head = frame.head(50)
    strings = {
        str(name): [value for value in head[name] if isinstance(value, str)]
        for name in frame.columns
        if list(frame.columns).count(name) == 1
    }
    strings = {name: values for name, values in strings.items() if len(values) == len(head) and values}
    if not strings:
        return {}
    text = max(strings, key=lambda name: sum(map(len, strings[name])))
    guess = {"text": text}
    texts = [value.casefold() for value in strings[text]]
    inside = [name for name, values in strings.items() if name != text and _mostly_inside(values, texts)]
    guess |= dict(zip(("entity1", "entity2"), inside, strict=False))
    labels = [name for name in frame.columns if str(name).casefold() in _LABEL_NAMES and name not in guess.values()]
    return guess | ({"label": str(labels[0])} if labels else {})


def _mostly_inside(values: Iterable[str], texts: Sequence[str]) -> bool:
    inside = [value.strip().casefold() in text for value, text in zip(values, texts, strict=True) if value.strip()]
    return bool(inside) and sum(inside) * 2 > len(texts)
