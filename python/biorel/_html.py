"""HTML for notebooks. It sets no colours but those of lines, so that it follows light and dark themes."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

_LEFT = "style='margin-left:0'"
_WIDTH, _HEIGHT, _MARGIN = 480, 120, 8


def table_html(table: pd.DataFrame) -> str:
    """A table without its index; numbers have three decimals, and missing values are empty.

    It stands below its title, not in the middle as in Jupyter; a wide one scrolls. The first column is text.
    """
    plain = pd.DataFrame(table).astype(object)
    # Not with `na_rep`, which pandas does not apply to its nullable integers.
    plain = plain.where(plain.notna(), "")
    with pd.option_context("display.max_colwidth", None):
        shown = str(plain.to_html(index=False, float_format="{:.3f}".format, border=0))
    shown = re.sub(r"(<tr[^>]*>\s*<t[dh])>", r"\1 style='text-align:left'>", shown)
    return f"<div style='overflow-x:auto'>{shown.replace('<table ', f'<table {_LEFT} ', 1)}</div>"


def fields_html(fields: Mapping[str, Any]) -> str:
    """A table with a row per field."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
        for name, value in fields.items()
    )
    return f"<table {_LEFT}>{rows}</table>"


def title_html(title: str, text: str = "") -> str:
    """A line in bold, and a paragraph."""
    shown = f"<p><strong>{html.escape(title)}</strong>"
    return f"{shown}<br/>{html.escape(text)}</p>" if text else f"{shown}</p>"


def curve_html(values: Sequence[float], title: str) -> str:
    """A line chart of finite values from zero to the largest, as SVG.

    Examples
    --------
    >>> from biorel._html import curve_html
    >>> curve_html([2.0, 1.0], "loss").count("<polyline")
    1
    """
    top = max(values, default=0.0) or 1.0
    step = (_WIDTH - 2 * _MARGIN) / max(len(values) - 1, 1)
    points = " ".join(
        f"{_MARGIN + number * step:.1f},{_HEIGHT - _MARGIN - value / top * (_HEIGHT - 2 * _MARGIN):.1f}"
        for number, value in enumerate(values)
    )
    low = _HEIGHT - _MARGIN
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' style='max-width:100%' role='img' "
        f"aria-label='{html.escape(title, quote=True)}'>"
        f"<line x1='{_MARGIN}' y1='{low}' x2='{_WIDTH - _MARGIN}' y2='{low}' stroke='currentColor' opacity='0.5'/>"
        f"<polyline points='{points}' fill='none' stroke='#56B4E9' stroke-width='1.5'/>"
        f"<text x='{_WIDTH - _MARGIN}' y='14' text-anchor='end' font-size='12' fill='currentColor'>"
        f"{html.escape(title)}</text></svg>"
    )
