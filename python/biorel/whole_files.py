"""Files that are there complete or not at all, even if the machine stops."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

# How the name of a half-written file ends.
PARTIAL = ".partial"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, under a hidden name beside; it gets its name at the end, or, after an error, is removed."""
    beside = path.with_name(f".{path.name}{PARTIAL}")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:  # Ctrl-C too
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a whole file; bytes, or text in UTF-8 with the line ends it has."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sync_folder(folder: Path) -> None:
    """Make a renamed file survive a stop of the machine."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
