"""What the command line writes: tables to standard output or a file, messages to standard error."""

from __future__ import annotations

import contextvars
import io
import itertools
import os
import re
import sys
from pathlib import Path

import pandas as pd
from biorel._biorel import check_replaceable
from biorel._files import atomic_write
from biorel._tables import without_na
from biorel.errors import ConfigError
from biorel.evaluation.scores import Scores
from biorel.models.encoder import is_replaceable
from biorel.prediction.output_directory import json_lines

# From the most important messages on; progress is part of `info`.
LOG_LEVELS = ("error", "warning", "info", "debug")
_log_level = contextvars.ContextVar("log_level", default="info")


def print_table(table: pd.DataFrame, style: str, *, header: bool = True) -> None:
    """Print a table: aligned, or as ``tsv``, ``csv`` or ``jsonl``; scores come with their protocol."""
    if style == "table":
        print(without_na(table).to_string(index=False, na_rep=""))
        if isinstance(table, Scores):
            print(table.protocol)
    else:
        print(_text(table, style, header=header), end="", flush=True)
        if isinstance(table, Scores):
            say(table.protocol)


def check_suffix(path: str | None, option: str) -> None:
    """Raise ConfigError for a file of a format that `write_table` does not write, before hours of work."""
    if path is not None and Path(path).suffix not in (".tsv", ".csv", ".jsonl"):
        raise ConfigError(f"{option}: `{path}` must end in .tsv, .csv or .jsonl", option)


def write_table(table: pd.DataFrame, path: str) -> None:
    """Write a table in the format of the file's suffix."""
    atomic_write(Path(path), _text(table, Path(path).suffix[1:]))
    say(f"written: {path}")


def say(message: str, level: str = "info") -> None:
    """Print a message to standard error, unless --log-level leaves it out."""
    if LOG_LEVELS.index(level) <= LOG_LEVELS.index(_log_level.get()):
        print(message, file=sys.stderr)


def set_encoding() -> None:
    """UTF-8 for files and pipes, as `write_table` writes; a terminal shows escapes of what it lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="backslashreplace")
            else:
                stream.reconfigure(encoding="utf-8")
    if isinstance(sys.stdin, io.TextIOWrapper) and not sys.stdin.isatty():
        sys.stdin.reconfigure(encoding="utf-8-sig")  # with or without a byte order mark, as files are read


def set_log_level(level: str) -> None:
    """Print only messages of this level and of more important ones."""
    _log_level.set(level)


def check_model_directory(path: str) -> None:
    """Raise ConfigError for a directory in which no model can be saved, before hours of training."""
    directory = Path(path)
    try:
        occupied = directory.exists() and not directory.is_dir()
        occupied = occupied or (any(directory.iterdir()) and not (directory / "biorel.json").is_file())
    except FileNotFoundError:
        occupied = False
    if occupied:
        raise ConfigError(f"output: {path} exists and is not a biorel model; choose another name", "output")
    check_replaceable(path)
    _check_writable(path)


def check_encoder_directory(path: str) -> None:
    """Raise ConfigError for a directory in which no encoder can be saved, before hours of training."""
    if not is_replaceable(Path(path)):
        raise ConfigError(f"output: {path} exists and is not an encoder; choose another name", "output")
    check_replaceable(path)
    _check_writable(path)


def _check_writable(path: str) -> None:
    existing = next(parent for parent in Path(os.path.abspath(path)).parents if parent.exists())
    if not os.access(existing, os.W_OK):
        raise ConfigError(f"output: {existing} cannot be written to; choose another directory", "output")


def default_directory(name: str) -> str:
    """The name for a model's directory; if there is such a file, the name with the next free number."""
    name = re.sub(r"[^\w.-]+", "-", name)
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not Path(name).exists())


def _text(table: pd.DataFrame, style: str, *, header: bool = True) -> str:
    if style == "jsonl":
        return json_lines(table)
    return str(table.to_csv(index=False, header=header, sep="," if style == "csv" else "\t"))
