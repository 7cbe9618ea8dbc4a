"""A journal: what a long run has finished, a JSON object per line, so that a killed run resumes where it stopped.

A plan stands beside it, which says what is being done; a journal of another plan is refused. A line is appended and
synced as a whole: once `append` returns, it survives whatever happens to the process. A kill can only leave a torn last
line, which `read` cuts off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from biorel._files import atomic_write, sync_directory
from biorel._types import Row
from biorel.errors import ConfigError


class Journal:
    """The lines and the plan of one run; the caller locks the directory.

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
        """The plan as it was written; None where there is none yet."""
        if not self.plan.exists():
            return None
        try:
            found = json.loads(self.plan.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("it is no object")
        except (ValueError, RecursionError) as error:
            raise self._error(f"{self.plan} is corrupt ({error}); give a new directory") from None
        return found

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Write the plan, with what the run adds to it at its end."""
        atomic_write(self.plan, json.dumps(plan, indent=1, ensure_ascii=False) + "\n")

    def check_plan(self, found: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        """Raise ConfigError where the plan that was found is not this one, and say in what they differ."""
        if different := differences(found, plan):
            started = f"{self.plan.parent} was started with {'; '.join(different)}"
            raise self._error(f"{started}. Give the same again, or a new directory")

    def read(self, check: Callable[[Any, int], None]) -> tuple[list[Row], bool]:
        """The records, and whether a torn last line was cut off.

        Parameters
        ----------
        check : function of (record, number from 0)
            Raises ValueError for a record that is not of the form that the caller wrote.
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
        """Append a record; returns it as it will be read."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False)
        append_lines(self.lines, [line])
        return json.loads(line)  # type: ignore[no-any-return]

    def _error(self, message: str) -> ConfigError:
        return ConfigError(f"{self._field}: {message}", self._field)


def append_lines(path: Path, lines: Sequence[str]) -> int:
    """Append lines, synced; returns the size of the file, which is made if it is not there."""
    new = not path.exists()
    with path.open("ab", buffering=0) as file:
        data = memoryview("".join(f"{line}\n" for line in lines).encode())
        while data:  # one call usually writes all
            data = data[file.write(data) :]
        os.fsync(file.fileno())
        size = file.tell()
    if new:
        sync_directory(path.parent)
    return size


def truncate(path: Path, size: int) -> None:
    """Cut a file off at a size, synced."""
    with path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())


def differences(found: Any, wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Describe what differs; nested mappings are named by their innermost key."""
    if not isinstance(found, dict):
        return [f"{prefix or 'another plan'} of another form"]
    lines = []
    for key in sorted({*found, *wanted}):
        before, now = found.get(key), wanted.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            lines += differences(before, now, key)
        elif before != now:
            lines.append(f"{key} {before!r}, not {now!r}")
    return lines
