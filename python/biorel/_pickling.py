"""How encoders and models travel to other processes: as the files that they are saved as.

What arrives is read and checked like files from anywhere else; nothing in it is executed. Both sides need the same
version.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from biorel import _biorel
from biorel.errors import ConfigError

T = TypeVar("T")
VERSION = _biorel.__version__


def files_of(save: Callable[[Path], None]) -> dict[str, bytes]:
    """What `save` writes into a directory, by name."""
    with tempfile.TemporaryDirectory(prefix="biorel-") as folder:
        place = Path(folder) / "saved"
        save(place)
        return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


def opened(files: Mapping[str, bytes], open_directory: Callable[[Path], T]) -> T:
    """What `open_directory` makes of a directory with these files."""
    with tempfile.TemporaryDirectory(prefix="biorel-") as folder:
        place = Path(folder) / "saved"
        place.mkdir()
        for name, content in files.items():
            (place / name).write_bytes(content)
        return open_directory(place)


def check_version(version: str) -> None:
    """Raise where the other process has another biorel."""
    if version != VERSION:
        message = f"version: it was sent by biorel {version}, and this process has {VERSION}; install the same"
        raise ConfigError(message, "version")
