"""The output directory of a stream of predictions. A killed run resumes without losing or duplicating a row.

::

    manifest.json               the plan; at the end also the totals
    parts.jsonl                 one line per complete part, with the position where the next one starts
    errors.jsonl                one line per document that could not be used
    relations/part-000000.jsonl ...

A part is written atomically, then its errors are appended, then its line in `parts.jsonl`, which makes it complete. A
resumed run writes a part without a line again, under the same name, and removes errors after the last complete part.
Shards share the directory; each has its own files, with its number in their names.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from biorel._files import atomic_file, atomic_write, exclusive_lock
from biorel._journal import Journal, append_lines, truncate
from biorel._types import PathLike
from biorel.errors import ConfigError

if TYPE_CHECKING:
    from biorel import _biorel

FORMATS = (
    "jsonl", "tsv", "parquet", "pubtator", "pubtator-relations", "bioc-json", "bioc-xml", "prodigy", "bigbio",
    "label-studio",
)  # fmt: skip
_ENDINGS = {
    "pubtator-relations": "relations.pubtator",
    "bioc-json": "json",
    "bioc-xml": "xml",
    "prodigy": "jsonl",
    "bigbio": "jsonl",
    "label-studio": "json",
}
_FORMAT = 1


class PredictionDirectory:
    """The output directory of one shard; only one process at a time can lock it.

    Parameters
    ----------
    path : path
        A new or empty directory, or one of the same run.
    plan : mapping
        The settings that determine the rows, in types that JSON has.
    inputs : sequence of (path, format)
        The files, in order.
    shard : (int, int)
        Number of this shard, from 1, and count of shards.
    columns : mapping of str to str
        Columns of the table with their data types.
    """

    def __init__(
        self,
        path: PathLike,
        plan: Mapping[str, Any],
        inputs: Sequence[tuple[str, str]],
        shard: tuple[int, int],
        columns: Mapping[str, str],
    ) -> None:
        self.path = Path(path)
        self.shard = shard
        self.format: str = plan["format"]
        self._suffix = "" if shard[1] == 1 else f"-{shard[0]:04d}-of-{shard[1]:04d}"
        self._journal = Journal(
            self.path / f"manifest{self._suffix}.json",
            self.path / f"parts{self._suffix}.jsonl",
            field="output",
            remedy="give a new directory",
        )
        self._inputs = inputs
        self._columns = columns
        self._parts: list[dict[str, Any]] = []
        self.complete = False
        if self.format == "parquet":
            check_parquet()
        sizes = [Path(name).stat().st_size for name, _ in inputs]
        listing = hashlib.sha256()
        for (name, kind), size in zip(inputs, sizes, strict=True):
            listing.update(json.dumps([os.path.abspath(name), kind, size]).encode())
        self._sizes = sizes
        files = {"files": len(inputs), "first": inputs[0][0], "bytes": sum(sizes), "sha256": listing.hexdigest()}
        self.plan = json.loads(json.dumps({"version": _FORMAT, "shard": list(shard), **plan, "input": files}))

    @contextlib.contextmanager
    def locked(self) -> Iterator[PredictionDirectory]:
        """Lock this shard, check the plan, and read which parts are complete."""
        self._refuse_others()
        (self.path / "relations").mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self.path / f"lock{self._suffix}", self.path, "output"):
            self._check_plan()
            self._read()
            yield self

    @property
    def position(self) -> tuple[int, int]:
        """Where the next part starts: the number of the file, and of documents in it that are done."""
        if not self._parts:
            return (0, 0)
        file, record = self._parts[-1]["next"]
        return file, record

    def totals(self) -> dict[str, Any]:
        """Sums over the complete parts."""
        totals: dict[str, Any] = {"parts": len(self._parts), "bytes": 0, "counts": {}}
        for name in ("documents", "failed", "pairs", "rows"):
            totals[name] = sum(part[name] for part in self._parts)
        if self._parts:
            totals["bytes"] = self._parts[-1]["bytes"]
        for part in self._parts:
            for what, count in part["counts"].items():
                totals["counts"][what] = totals["counts"].get(what, 0) + count
        return totals

    def input_bytes(self) -> int:
        """Total size of the files that this shard reads."""
        number, shards = self.shard
        # The core assigns files to shards in the same way.
        if len(self._sizes) >= 8 * shards:
            return sum(self._sizes[number - 1 :: shards])
        return sum(self._sizes)

    def add(
        self,
        content: pd.DataFrame | str,
        part: _biorel.Part,
        failures: Sequence[tuple[str, int | None, str | None, str]],
    ) -> None:
        """Write a part; once this returns, it survives a crash."""
        number = len(self._parts)
        ending = _ENDINGS.get(self.format, self.format)
        file = self.path / "relations" / f"part{self._suffix}-{number:06d}.{ending}"
        size = _write(file, content, self.format)
        keys = ("file", "line", "document", "reason")
        lines = [json.dumps(dict(zip(keys, failure, strict=True)), ensure_ascii=False) for failure in failures]
        errors = append_lines(self._errors, lines)
        record = {
            "part": number,
            "file": file.name,
            "size": size,
            "documents": part.documents,
            "failed": len(failures),
            "pairs": part.pairs,
            "rows": len(content) if isinstance(content, pd.DataFrame) else part.pairs,
            "counts": part.counts,
            "next": part.next,
            "bytes": part.bytes,
            "errors": errors,
        }
        self._parts.append(self._journal.append(record))

    def finish(self, skipped: Sequence[str]) -> None:
        """Write the totals: the run is complete."""
        totals = self.totals() | {"skipped_files": len(skipped)}
        append_lines(self._errors, [])  # an empty file says that there were none
        self._journal.write_plan({**self.plan, "complete": True, "totals": totals})
        self.complete = True

    def table(self) -> pd.DataFrame:
        """All rows of this shard's parts."""
        if self.format not in ("jsonl", "tsv", "parquet"):
            message = f"format: {self.format} holds documents, not a table; read them with read_documents"
            raise ConfigError(message, "format")
        files = [self.path / "relations" / part["file"] for part in self._parts if part["rows"]]
        if not files:
            dtypes: dict[str, Any] = {"text": object, "offset": int, "number": float}
            types = {name: dtypes[dtype] for name, dtype in self._columns.items()}
            return pd.DataFrame(columns=list(types)).astype(types)
        table = pd.concat([_read_part(file, self.format) for file in files], ignore_index=True)
        for name in table.columns:
            if name.startswith("p_") or name == "probability":
                table[name] = table[name].astype(float)
        return table

    def errors(self) -> pd.DataFrame:
        """The documents that could not be used."""
        data = self._errors.read_bytes() if self._errors.exists() else b""
        try:
            # Split bytes, not text: a reason may contain characters that str.splitlines treats as line endings.
            lines = [json.loads(line) for line in data.splitlines() if line]
            table = pd.DataFrame(lines, columns=["file", "line", "document", "reason"])
            return table.astype({"line": "Int64"})
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ConfigError(f"output: {self._errors} is corrupt ({error})", "output") from None

    @property
    def _errors(self) -> Path:
        return self.path / f"errors{self._suffix}.jsonl"

    def _refuse_others(self) -> None:
        """Raise ConfigError if the directory contains other files, or another number of shards."""
        if not self.path.exists():
            return
        ours = re.compile(r"\.?(manifest|parts|errors|lock)(-\d{4}-of-(\d{4}))?(\.jsonl?(\.partial)?)?")
        others = []
        for entry in self.path.iterdir():
            if entry.name == "relations":
                continue
            match = ours.fullmatch(entry.name)
            if match is None:
                others.append(entry.name)
            elif int(match[3] or 1) != self.shard[1]:
                message = (
                    f"output: {self.path} was started with {int(match[3] or 1)} shards, not {self.shard[1]}; "
                    "give the same number, or a new directory"
                )
                raise ConfigError(message, "output")
        self._journal.check_others(others)

    def _check_plan(self) -> None:
        found = self._journal.read_plan()
        if found is None:
            if self._journal.lines.exists():
                raise ConfigError(f"output: {self._journal.plan} is missing; give a new directory", "output")
            self._journal.write_plan(self.plan)
            return
        self.complete = bool(found.pop("complete", False))
        found.pop("totals", None)
        self._journal.check_plan(found, self.plan)

    def _read(self) -> None:
        """Read which parts are complete, and remove what a killed run left unfinished."""
        self._parts, _ = self._journal.read(_check_part)
        for part in self._parts:
            file = self.path / "relations" / part["file"]
            if not file.exists() or file.stat().st_size != part["size"]:
                message = f"output: {file} is missing or has changed since it was written; give a new directory"
                raise ConfigError(message, "output")
        errors = self._parts[-1]["errors"] if self._parts else 0
        size = self._errors.stat().st_size if self._errors.exists() else 0
        if size < errors:
            message = f"output: {self._errors} is missing or was truncated since it was written; give a new directory"
            raise ConfigError(message, "output")
        if size > errors:
            truncate(self._errors, errors)
        known = {part["file"] for part in self._parts}
        own = re.compile(rf"\.?part{self._suffix}-\d{{6,}}\..*")
        for entry in (self.path / "relations").iterdir():
            if own.fullmatch(entry.name) and entry.name not in known:
                entry.unlink()


def _check_part(part: Any, number: int) -> None:
    """Raise ValueError unless a line has all that the next part and the totals need."""
    if not isinstance(part, dict) or part.get("part") != number:
        raise ValueError(f"it is not part {number}")
    counts = part.get("counts")
    position = part.get("next")
    if not isinstance(part.get("file"), str) or os.path.basename(part["file"]) != part["file"]:
        raise ValueError("`file` is not a file name")
    if not isinstance(counts, dict) or not isinstance(position, list) or len(position) != 2:
        raise ValueError("`counts` or `next` is missing")
    numbers = {name: part.get(name) for name in ("size", "documents", "failed", "pairs", "rows", "bytes", "errors")}
    for name, value in [*numbers.items(), *counts.items(), *(("next", one) for one in position)]:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise ValueError(f"`{name}` is not a whole number from 0")


def _read_part(path: Path, format: str) -> pd.DataFrame:
    """Read a part; identifiers that look like numbers stay text."""
    if format == "parquet":
        return pd.read_parquet(path)
    if format == "jsonl":
        with path.open(encoding="utf-8") as file:
            return pd.DataFrame([json.loads(line) for line in file])
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    table["relation"] = table["relation"].where(table["relation"] != "", None)
    for name in table.columns:
        if name.startswith(("start", "end")):
            table[name] = table[name].astype(int)
        elif name.startswith("p_") or name == "probability":
            # Python's parser, unlike pandas' default, is exact.
            table[name] = [float(value or "nan") for value in table[name]]
    return table


def check_parquet() -> None:
    """Raise ConfigError before the run, and not after its first part, if pyarrow is missing."""
    try:
        import pyarrow  # noqa: F401, PLC0415
    except ImportError:
        raise ConfigError("format: Parquet needs pyarrow: pip install pyarrow, or choose jsonl", "format") from None


def json_lines(table: pd.DataFrame) -> str:
    """One JSON line per row; missing values are null.

    ``to_json`` is not used: pandas' encoder, written in C, crashes with a segmentation fault if Ctrl-C interrupts it.
    """
    values = table.astype(object)
    values = values.where(table.notna() & ~table.isin([math.inf, -math.inf]), None)
    columns = [values[name].tolist() for name in values.columns]
    encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
    names = [str(name) for name in values.columns]
    return "".join(encoder.encode(dict(zip(names, row, strict=True))) + "\n" for row in zip(*columns, strict=True))


def _write(path: Path, content: pd.DataFrame | str, format: str) -> int:
    """Write a part atomically; returns its size."""
    if isinstance(content, str):
        atomic_write(path, content)
    elif format == "jsonl":
        atomic_write(path, json_lines(content))
    elif format == "tsv":
        text = content.to_csv(index=False, sep="\t")
        if "\r" in text:
            # Readers take an unquoted carriage return as a line ending, and pandas does not quote it by itself.
            text = content.to_csv(index=False, sep="\t", quoting=csv.QUOTE_NONNUMERIC)
        atomic_write(path, text)
    else:
        with atomic_file(path) as file:
            content.to_parquet(file, index=False)
    return path.stat().st_size
