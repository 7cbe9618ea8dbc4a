"""A report of tables and figures: Markdown, CSV, and one self-contained HTML file."""

from __future__ import annotations

import html
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from biorel._biorel import __version__
from biorel._files import atomic_write
from biorel._tables import markdown_table
from biorel.plotting import close

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A phone shows the page at its own width.
_META = "<meta charset='utf-8'><meta name='viewport' content='width=device-width'>"

_STYLE = """
:root { color-scheme: light dark }
body { font-family: sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; line-height: 1.4 }
table { border-collapse: collapse; font-size: 85%; margin: 1em 0 }
th, td { padding: 0.25em 0.7em; text-align: right; border-bottom: 1px solid #8888 }
th { vertical-align: bottom }
td { white-space: nowrap }
th:first-child, td:first-child { text-align: left }
.wide { overflow-x: auto }
.note { opacity: 0.8; font-size: 90%; margin: 0.3em 0 }
figure { margin: 1em 0 }
svg { max-width: 100%; height: auto }
"""


@dataclass
class Section:
    """A title, notes, and tables, pictures and HTML by name."""

    title: str
    notes: list[str]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    pictures: dict[str, Axes] = field(default_factory=dict)
    html: dict[str, str] = field(default_factory=dict)


class Report:
    """A title, a few sentences, and sections."""

    def __init__(self, title: str, head: list[str], sections: list[Section]) -> None:
        self.title = title
        self.head = [*head, f"biorel {__version__}."]
        self.sections = sections
        self._svg = {name: _svg(axes) for part in sections for name, axes in part.pictures.items()}

    def markdown(self) -> str:
        """The report with all tables, and links to the pictures."""
        lines = [f"# {self.title}", "", " ".join(self.head), ""]
        for section in self.sections:
            lines += [f"## {section.title}", ""]
            for note in section.notes:
                lines += [note, ""]
            for table in section.tables.values():
                text = _text(table)
                lines += [*markdown_table(text.columns, text.values.tolist()), ""]
            lines += [f"![{name}]({name}.svg)\n" for name in section.pictures]
            lines += [f"[{name}]({name}.html)\n" for name in section.html]
        return "\n".join(lines).rstrip() + "\n"

    def html_body(self) -> str:
        """The body of the HTML page, which notebooks display."""
        parts = [f"<h1>{html.escape(self.title)}</h1>", f"<p>{html.escape(' '.join(self.head))}</p>"]
        for section in self.sections:
            parts.append(f"<h2>{html.escape(section.title)}</h2>")
            parts += [f'<p class="note">{html.escape(note)}</p>' for note in section.notes]
            for table in section.tables.values():
                parts.append(f'<div class="wide">{_html(table)}</div>')
            parts += [
                f"<figure>{self._svg[name]}<figcaption>{html.escape(name)}</figcaption></figure>"
                for name in section.pictures
            ]
            parts += list(section.html.values())
        return "\n".join(parts)

    def html(self) -> str:
        """The complete HTML page."""
        title = html.escape(self.title)
        head = f"<!doctype html><html lang='en'><head>{_META}<title>{title}</title><style>{_STYLE}</style>"
        return f"{head}</head><body>\n{self.html_body()}\n</body></html>\n"

    def write(self, directory: Path) -> None:
        """``report.html``, ``report.md``, a CSV file per table, and the pictures."""
        for section in self.sections:
            for name, table in section.tables.items():
                atomic_write(directory / f"{name}.csv", table.to_csv(index=False))
            for name, text in section.html.items():
                page = f"<!doctype html>{_META}<style>{_STYLE}</style><body>{text}</body>\n"
                atomic_write(directory / f"{name}.html", page)
        for name, text in self._svg.items():
            # As a file, a picture does not know the page's colours: dark on white.
            atomic_write(directory / f"{name}.svg", text.replace("<svg ", "<svg style='background: white' ", 1))
        atomic_write(directory / "report.md", self.markdown())
        atomic_write(directory / "report.html", self.html())


def _text(table: pd.DataFrame) -> pd.DataFrame:
    """Format every cell."""
    return pd.DataFrame({name: _column(table[name].tolist()) for name in table.columns})


def _column(values: list[Any]) -> list[str]:
    """Format a column; all fractions have the same number of decimals: four if all are below 1, else two."""
    fractions = [abs(value) for value in values if isinstance(value, float) and not pd.isna(value)]
    return [_cell(value, 2 if max(fractions, default=0) >= 1 else 4) for value in values]


def _html(table: pd.DataFrame) -> str:
    """The table in HTML; headings have spaces for underscores, so that long ones wrap."""
    return _text(table).rename(columns=lambda name: str(name).replace("_", " ")).to_html(index=False, border=0)


def _cell(value: Any, decimals: int) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)


def _svg(axes: Axes) -> str:
    """The picture as an <svg> element without a background; its text and lines have the colour of the page's text."""
    figure: Any = axes.figure
    # matplotlib is an extra.
    from matplotlib.colors import to_hex  # noqa: PLC0415

    own = {to_hex(axes.xaxis.label.get_color()), to_hex(axes.spines["left"].get_edgecolor())}
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    close(figure)
    text = buffer.getvalue()
    for colour in own:
        text = text.replace(colour, "currentColor")
    # Black text has no colour of its own in the file.
    return text[text.index("<svg") :].replace("<svg ", "<svg fill='currentColor' ", 1)
