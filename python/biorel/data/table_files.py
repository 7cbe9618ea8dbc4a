"""Read a user's table from files: CSV, TSV, JSON lines, Parquet, Excel."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd
from biorel._types import PathLike
from biorel._warnings import warn
from biorel.data.relation_rows import is_relation_row, relation_rows
from biorel.errors import ConfigError, CorpusError

# A tag such as @GENE$, which stands for an entity.
TAG = re.compile(r"@[A-Z0-9_-]+\$")
# The columns of an anonymised file without a header, by their number.
_HEADERS = {2: ["sentence", "label"], 3: ["index", "sentence", "label"]}
SUFFIXES = (".tsv", ".csv", ".txt", ".jsonl", ".ndjson", ".parquet", ".xlsx", ".xls")
_Lines: TypeAlias = "list[tuple[str, int | None]]"
# The columns of each file.
Headers: TypeAlias = "dict[str, list[str]]"


def read_files(source: PathLike | Sequence[PathLike]) -> tuple[pd.DataFrame, _Lines, Headers]:
    """The rows of one or several files, the file and line of each, and the columns of the files.

    Of several files, one without a column ``split`` is a split with the name of the file.
    """
    if isinstance(source, (str, os.PathLike)):
        source = [source]
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        remedy = "; for a dict of columns write pd.DataFrame(source)" if isinstance(source, Mapping) else ""
        message = "a table is a path, a list of paths, a DataFrame or a list of dicts"
        raise ConfigError(f"source: {message}, not {type(source).__name__}{remedy}", "source")
    paths = list(source)
    if not paths:
        raise ConfigError("source: an empty list has no table", "source")
    unfit = next((path for path in paths if not isinstance(path, (str, os.PathLike))), None)
    if unfit is not None:
        raise ConfigError(f"source: {unfit!r} is neither a path nor a row; rows are a list of dicts", "source")
    files = [file for path in paths for file in _files(Path(path))]
    frames, lines, headers = [], [], {}
    for name, content in files:
        frame, own = _read(name, content)
        headers[name] = list(map(str, frame.columns))
        if len(files) > 1 and "split" not in frame.columns:
            frame["split"] = Path(name).stem
        frames.append(frame)
        lines += [(name, line) for line in own]
    if not frames:
        raise CorpusError(f"{paths[0]}: has no table ({', '.join(SUFFIXES)})", os.fspath(paths[0]))
    return (frames[0] if len(frames) == 1 else pd.concat(frames)), lines, headers


def is_table_file(path: PathLike) -> bool:
    """Whether a path is that of a table, by its name."""
    return Path(path).suffix.lower() in SUFFIXES


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """The tables of a path: a file, or those in a folder or an archive."""
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if file.is_file() and is_table_file(file)]
        if not found:
            raise CorpusError(f"{path}: has no table ({', '.join(SUFFIXES)})", str(path))
        yield from ((str(file), file.read_bytes()) for file in found)
    elif path.suffix.lower() == ".zip" and path.exists():
        try:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if is_table_file(name):
                        yield f"{path}/{name}", archive.read(name)
        except zipfile.BadZipFile as error:
            raise CorpusError(f"{path}: is not an archive that can be read ({error})", str(path)) from None
    else:
        yield str(path), path.read_bytes()


def _read(name: str, content: bytes) -> tuple[pd.DataFrame, list[int | None]]:
    suffix = Path(name).suffix.lower()
    if suffix in (".parquet", ".xlsx", ".xls"):
        frame = _read_binary(name, content, suffix)
        return frame, [None] * len(frame)
    if suffix not in SUFFIXES:
        message = f"{name}: is not a table; its name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise CorpusError(message, name)
    text = decode(name, content)
    if suffix in (".jsonl", ".ndjson"):
        rows = list(json_lines(name, text))
        if rows and is_relation_row(rows[0][1]):
            rows = list(relation_rows(name, rows))
        return pd.DataFrame([row for _, row in rows], dtype=object), [line for line, _ in rows]
    return _delimited(name, text, "," if suffix == ".csv" else "\t")


def decode(name: str, content: bytes) -> str:
    """The text of a file, without a byte order mark; an error names the encoding that it probably has."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CorpusError(f"{name}: is UTF-16, not UTF-8; save it as UTF-8 (in Excel: CSV UTF-8)", name)
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        at = error.start
    line = content[:at].count(b"\n") + 1
    message = f"{name}:{line}: is not UTF-8 (byte 0x{content[at]:02X})"
    begin, end = content.rfind(b"\n", 0, at) + 1, (content + b"\n").find(b"\n", at)
    try:
        around = content[max(begin, at - 20) : min(end, at + 20)].decode("windows-1252").strip()
    except UnicodeDecodeError:  # Windows-1252 has no such byte
        raise CorpusError(f"{message}; convert it to UTF-8 first", name, line) from None
    command = f'iconv -f WINDOWS-1252 -t UTF-8 "{Path(name).name}"'
    message += (
        f"; in Windows-1252 it reads `{around}`: save it as UTF-8 (in Excel: CSV UTF-8), or convert it: {command}"
    )
    raise CorpusError(message, name, line)


def json_lines(name: str, text: str) -> Iterator[tuple[int, Any]]:
    """The objects of a text of JSON lines, each with its line."""
    # Not splitlines, which also splits at characters that a text may contain.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{name}:{number}: not a line of JSON ({error})", name, number) from None
        if not isinstance(row, dict):
            raise CorpusError(f"{name}:{number}: is not a JSON object", name, number)
        yield number, {key: str(value).lower() if isinstance(value, bool) else value for key, value in row.items()}


def _delimited(name: str, text: str, usual: str) -> tuple[pd.DataFrame, list[int | None]]:
    """The rows of CSV or TSV; the first line shows whether another delimiter is used."""
    first = text.split("\n", 1)[0]
    delimiter = next((one for one in (usual, ";", "\t", ",") if one in first), usual)
    # GAD and EU-ADR as BioBERT has them: no header, and texts with tags.
    header = _HEADERS.get(first.count("\t") + 1) if delimiter == "\t" and TAG.search(first) else None
    try:
        frame, lines = _cells(name, text, delimiter, header, csv.QUOTE_MINIMAL)
        quoted = not frame.astype(str).apply(lambda column: column.str.contains("\n")).any(axis=None)
    except CorpusError:
        quoted = False
        if delimiter != "\t" or not TAG.search(text):
            raise
    # There a quotation mark is part of the text.
    if not quoted and delimiter == "\t" and TAG.search(text):
        return _cells(name, text, delimiter, header, csv.QUOTE_NONE)
    return frame, lines


def _cells(
    name: str, text: str, delimiter: str, header: list[str] | None, quoting: Literal[0, 3]
) -> tuple[pd.DataFrame, list[int | None]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
    rows: list[list[str]] = []
    lines: list[int | None] = []
    end = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise CorpusError(f"{name}:{end + 1}: {error}", name, end + 1) from None
        start, end = end + 1, reader.line_num
        if not any(map(str.strip, cells)):  # spreadsheets write rows without any value
            continue
        if header is None:
            header = cells
            if twice := next((one for index, one in enumerate(cells) if one in cells[:index]), None):
                raise CorpusError(f"{name}:{start}: column `{twice}` appears twice", name, start)
            continue
        if len(cells) != len(header):
            message = (
                f"has {len(cells)} columns where the header has {len(header)}; is a quote or a delimiter misplaced?"
            )
            raise CorpusError(f"{name}:{start}: {message}", name, start)
        rows.append(cells)
        lines.append(start)
    return pd.DataFrame(rows, columns=header or [], dtype=object), lines


def _read_binary(name: str, content: bytes, suffix: str) -> pd.DataFrame:
    needed = "pyarrow" if suffix == ".parquet" else "openpyxl" if suffix == ".xlsx" else "xlrd"
    try:
        if suffix == ".parquet":
            return pd.read_parquet(io.BytesIO(content)).reset_index(drop=True)
        # Words such as None and NA are text; an empty cell is an empty text.
        sheets = pd.read_excel(io.BytesIO(content), sheet_name=None, dtype=object, keep_default_na=False)
        (first, frame), *others = sheets.items()
        if left := ", ".join(f"`{sheet}`" for sheet, other in others if len(other.columns)):
            remedy = f"only the sheet `{first}` is read, not {left}; save each as a file of its own"
            warn(f"{name}: {remedy}")
        return frame
    except ImportError:
        message = f'source: reading {Path(name).name} needs {needed}: pip install "{needed}"'
        if suffix != ".parquet":
            message += "; or save the sheet as CSV UTF-8"
        raise ConfigError(message, "source") from None
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise CorpusError(f"{name}: cannot be read as {suffix[1:]} ({error})", name) from None
