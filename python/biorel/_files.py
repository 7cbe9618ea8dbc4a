"""Atomic writes and locks. A file or directory appears complete or not at all, even after a power failure."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from biorel import _biorel
from biorel.errors import ConfigError
from filelock import FileLock, Timeout

# Suffix of files that are still being written.
PARTIAL = ".partial"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a hidden temporary file that is renamed to `path` at the end, or removed after an error."""
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
    """Write a file atomically: bytes, or text as UTF-8 with its line endings unchanged."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def atomic_write_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a directory of files atomically, replacing an earlier one.

    As for saved models, the core swaps the two directories in one step where the system supports it.
    """
    _biorel.write_directory(path, dict(files))


def sync_directory(directory: Path) -> None:
    """Sync a directory, so that a rename in it survives a power failure."""
    if os.name == "nt":  # a directory cannot be opened there
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive_lock(file: Path, directory: Path, field: str = "directory") -> Iterator[None]:
    """Lock a directory through a lock file; the lock is released however the process ends.

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
