"""What several packages do with tables: check their columns, write them as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd
from biorel.errors import ConfigError


def require_columns(table: pd.DataFrame, needed: Iterable[str], field: str, remedy: str) -> None:
    """Raise ConfigError that names the columns which a table lacks, and what to do about it."""
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise ConfigError(f"{field}: has no column {', '.join(missing)}; {remedy}", field)


def markdown_table(header: Iterable[object], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    names = [markdown_text(str(name)) for name in header]
    lines = [f"| {' | '.join(map(markdown_text, row))} |" for row in rows]
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|", *lines]


def markdown_text(text: str) -> str:
    """A text that stays in its cell and is no mark-up."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
