"""Atomic writes, and locks: a file or directory is there complete or not at all, even if the machine stops."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from biorel import _biorel
from biorel.errors import ConfigError
from filelock import FileLock, Timeout

# How the name of a half-written file ends.
PARTIAL = ".partial"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, under a hidden name; it gets its name at the end, or, after an error, is removed."""
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:  # Ctrl-C too
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file atomically; bytes, or text in UTF-8 with the line ends it has."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def atomic_write_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a directory of files atomically, in the place of an earlier one.

    The core exchanges the two directories in one step where the system can, as for the models that it saves.
    """
    _biorel.write_directory(path, dict(files))


def sync_directory(directory: Path) -> None:
    """Make a renamed file survive a stop of the machine."""
    if os.name == "nt":  # a directory cannot be opened there
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive_lock(file: Path, directory: Path, field: str = "directory") -> Iterator[None]:
    """Lock a directory by a file; the lock ends with this process, however it ends.

    Raises
    ------
    ConfigError
        When another process, or another part of this one, holds the lock.
    """
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        message = f"{field}: another run is working in {directory}; wait for it, or give another directory"
        raise ConfigError(message, field) from None
    try:
        yield
    finally:
        lock.release()
