"""Pickle encoders and models as the files that they are saved as.

The receiving process reads and checks them like files from any other source; nothing in them is executed. Both
processes need the same version of biorel.
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
    """The files that `save` writes to a directory, by name."""
    with tempfile.TemporaryDirectory(prefix="biorel-") as folder:
        directory = Path(folder) / "saved"
        save(directory)
        return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def opened(files: Mapping[str, bytes], open_directory: Callable[[Path], T]) -> T:
    """The result of `open_directory` on a directory with these files."""
    with tempfile.TemporaryDirectory(prefix="biorel-") as folder:
        directory = Path(folder) / "saved"
        directory.mkdir()
        for name, content in files.items():
            (directory / name).write_bytes(content)
        return open_directory(directory)


def check_version(version: str) -> None:
    """Raise ConfigError if the sending process has another version of biorel."""
    if version != VERSION:
        message = f"version: it was pickled by biorel {version}, but this process has {VERSION}; install the same"
        raise ConfigError(message, "version")
