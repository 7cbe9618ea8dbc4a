"""Files that are there complete or not at all, even if the machine stops."""

from __future__ import annotations

import os
from pathlib import Path

# How the name of a half-written file ends.
PARTIAL = ".partial"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a hidden name beside, and rename it; bytes, or text in UTF-8 with the line ends it has."""
    beside = path.with_name(f".{path.name}{PARTIAL}")
    with beside.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a renamed file survive a stop of the machine."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
