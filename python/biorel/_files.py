"""Files that are there complete or not at all, even if the machine stops."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from biorel.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows has no advisory locks of this kind; two runs in one directory are not noticed there.
    fcntl = None  # type: ignore[assignment]

LOCKS = fcntl is not None
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


@contextlib.contextmanager
def locked(file: Path, directory: Path) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends."""
    with file.open("ab") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"directory: another run is working in {directory}; wait for it, or give another directory"
                raise ConfigError(message, "directory") from None
        yield


def differences(found: Any, wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs, in words; nested mappings are named by their innermost key."""
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
