"""The journal of a long run: one JSON object per finished part, so that a killed run resumes where it stopped.

A plan file next to it describes the run; a journal with another plan is refused. Each line is synced to disk before
`append` returns, so that it survives a crash of the process. A kill can leave at most an incomplete last line, which
`read` removes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from biorel._files import atomic_write, sync_directory
from biorel._types import Row
from biorel.errors import ConfigError


class Journal:
    """The journal and the plan of one run; the caller locks the directory.

    Parameters
    ----------
    plan, lines : Path
        The two files.
    field : str
        The setting that names the directory, for errors.
    remedy : str
        What to do about a corrupt line, for errors.
    """

    def __init__(self, plan: Path, lines: Path, *, field: str, remedy: str) -> None:
        self.plan = plan
        self.lines = lines
        self._field = field
        self._remedy = remedy

    def read_plan(self) -> Row | None:
        """The stored plan, or None if there is none yet."""
        if not self.plan.exists():
            return None
        try:
            found = json.loads(self.plan.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("not a JSON object")
        except (ValueError, RecursionError) as error:
            raise self._error(f"{self.plan} is corrupt ({error}); give a new directory") from None
        return found

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Write the plan, or replace it."""
        atomic_write(self.plan, json.dumps(plan, indent=1, ensure_ascii=False) + "\n")

    def check_plan(self, found: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        """Raise ConfigError, listing the differences, if the stored plan is not this one."""
        if different := differences(found, plan):
            started = f"{self.plan.parent} was started with {'; '.join(different)}"
            raise self._error(f"{started}. Give the same settings, or a new directory")

    def check_others(self, others: Iterable[str]) -> None:
        """Raise ConfigError if there are files in the directory that no run writes."""
        if names := ", ".join(sorted(others)[:3]):
            raise self._error(f"{self.plan.parent} contains other files ({names}); give a new directory")

    def read(self, check: Callable[[Any, int], None]) -> tuple[list[Row], bool]:
        """Read the records; also returns whether an incomplete last line was removed.

        Parameters
        ----------
        check : function of (record, number from 0)
            Raises ValueError for a malformed record.
        """
        data = self.lines.read_bytes() if self.lines.exists() else b""
        end = data.rfind(b"\n") + 1
        if end < len(data):
            truncate(self.lines, end)
        records = []
        for number, line in enumerate(data[:end].splitlines()):
            try:
                record = json.loads(line)
                check(record, number)
            except (ValueError, RecursionError) as error:
                raise self._error(f"{self.lines}:{number + 1} is corrupt ({error}); {self._remedy}") from None
            records.append(record)
        return records, end < len(data)

    def append(self, record: Mapping[str, Any]) -> Row:
        """Append a record; returns it as `read` will."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False)
        append_lines(self.lines, [line])
        return json.loads(line)  # type: ignore[no-any-return]

    def _error(self, message: str) -> ConfigError:
        return ConfigError(f"{self._field}: {message}", self._field)


def append_lines(path: Path, lines: Sequence[str]) -> int:
    """Append lines and sync; returns the size of the file, which is created if it does not exist."""
    new = not path.exists()
    with path.open("ab", buffering=0) as file:
        data = memoryview("".join(f"{line}\n" for line in lines).encode())
        while data:  # usually one call writes everything
            data = data[file.write(data) :]
        os.fsync(file.fileno())
        size = file.tell()
    if new:
        sync_directory(path.parent)
    return size


def truncate(path: Path, size: int) -> None:
    """Truncate a file to a size and sync."""
    with path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Describe the differences between two plans; nested entries are named by their innermost key."""
    lines = []
    for key in sorted({*found, *wanted}):
        before, now = found.get(key), wanted.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            lines += differences(before, now)
        elif before != now:
            lines.append(f"{key} {before!r}, not {now!r}")
    return lines
