"""Check the columns of tables, and write tables as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from biorel.errors import ConfigError


def text_of(cell: Any) -> str:
    """The text of a cell. A whole number that pandas made a float, in a column with gaps, is written as it was."""
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)


def require_columns(table: pd.DataFrame, needed: Iterable[str], field: str, remedy: str) -> None:
    """Raise ConfigError if a table lacks columns, with their names and the remedy."""
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise ConfigError(f"{field}: has no column {', '.join(missing)}; {remedy}", field)


def markdown_table(header: Iterable[object], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    names = [markdown_text(str(name)) for name in header]
    lines = [f"| {' | '.join(map(markdown_text, row))} |" for row in rows]
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|", *lines]


def markdown_text(text: str) -> str:
    """Escape a text for the cell of a table in Markdown."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def without_na(table: pd.DataFrame) -> pd.DataFrame:
    """A plain table whose missing integers are empty; pandas prints them as <NA>, whatever `na_rep` is."""
    counts = table.select_dtypes("Int64")
    return pd.DataFrame(table).assign(**counts.astype(object).where(counts.notna(), ""))
