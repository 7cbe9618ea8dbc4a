"""Heat maps: sentences in which each word is shaded by its attention (the paper's Fig. 3)."""

from __future__ import annotations

import html
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from biorel._tables import require_columns
from biorel._types import PathLike
from biorel.errors import ConfigError
from biorel.plotting import ORANGE, close, named_rows, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The strongest shade, on which dark text on a light page and light text on a dark page are both legible.
_DEEPEST = 0.6

# Characters of a line in an inch, when a heat map is drawn on a new figure.
_CHARACTERS = 12
# What is read of a table of attention.
_COLUMNS = ("instance", "word", "stem", "start", "end", "weight", "is_entity", "gold", "predicted")


class Heatmap:
    """Sentences in which each word is shaded by its attention. See ``heatmap`` and ``gallery``."""

    def __init__(self, words: pd.DataFrame, instances: Sequence[str], notes: Mapping[str, str] | None = None) -> None:
        self._words = words
        self._notes = dict(notes or {})
        self.instances = list(instances)

    def html(self) -> str:
        """Self-contained HTML; each word shows its weight as a tooltip."""
        return "".join(self._sentence(name) for name in self.instances)

    def _repr_html_(self) -> str:
        return self.html()

    def _sentence(self, name: str) -> str:
        words = self._words[self._words["instance"] == name]
        pieces, end = [], None
        for word, shade in zip(named_rows(words), shades(words["weight"]), strict=True):
            gap = "" if end is None or word.start == end else " "
            style = f"background:rgba(230,159,0,{shade:.3f});border-radius:2px;padding:1px 0"
            if word.is_entity:
                style += ";font-weight:bold;text-decoration:underline"
            label = f"{word.weight:.3f}, stem {word.stem}"
            pieces.append(
                f'{gap}<span style="{style}" title="{html.escape(label)}">{html.escape(str(word.word))}</span>'
            )
            end = word.end
        return (
            f'<div style="margin:0.5em 0;line-height:1.7"><div style="opacity:0.75;font-size:85%">'
            f"{html.escape(self._title(name, words))}</div><div>{''.join(pieces)}</div></div>"
        )

    def _title(self, name: str, words: pd.DataFrame) -> str:
        gold, predicted = words["gold"].iloc[0], words["predicted"].iloc[0]
        labels = [f"gold {gold}"] if isinstance(gold, str) else []
        notes = [self._notes[name]] if name in self._notes else []
        return ", ".join([name, *labels, f"predicted {predicted}", *notes])

    def plot(self, *, columns: int = 96, ax: Axes | None = None) -> Axes:
        """Draw the heat map with matplotlib.

        Parameters
        ----------
        columns : int
            Characters in a line, at least 20; fewer for a narrow page.
        ax : matplotlib.axes.Axes, optional
            The axes to draw on; by default those of a new figure that fits the sentences.

        Returns
        -------
        matplotlib.axes.Axes
            The axes that were drawn on.

        Examples
        --------
        >>> axes = biorel.heatmap(run.attention(), 0).plot()
        >>> len(axes.texts) > 5
        True
        """
        if columns < 20:
            raise ConfigError(f"columns: must be at least 20, not {columns}", "columns")
        lines = self._lines(columns)
        if ax is None:
            size = (columns / _CHARACTERS, 0.24 * len(lines))
            ax = pyplot().figure(figsize=size).add_axes((0.01, 0, 0.98, 1))
        # A character of matplotlib's monospace font is 0.602 times as wide as its size.
        figure: Any = ax.figure
        inches = ax.get_window_extent().width / figure.dpi
        points = inches / columns * 72 / 0.602
        ax.set_xlim(0, columns)
        ax.set_ylim(len(lines), 0)
        ax.axis("off")
        for row, line in enumerate(lines):
            for column, text, shade, bold in line:
                font: dict[str, Any] = {"family": "monospace", "fontsize": points, "va": "center"}
                if shade is None:
                    ax.text(column, row + 0.5, text, alpha=0.7, style="italic", **font)
                    continue
                # A rectangle instead of the text's bounding box, because boxes are padded and would overlap.
                rectangle = _patches().Rectangle(
                    (column, row + 0.08), len(text), 0.84, facecolor=ORANGE, alpha=shade, edgecolor="none"
                )
                ax.add_patch(rectangle)
                ax.text(column, row + 0.5, text, weight="bold" if bold else "normal", **font)
        return ax

    def _lines(self, width: int) -> list[list[tuple[int, str, float | None, bool]]]:
        """The parts of each line: column, text, shade (None for a title), whether it is an entity."""
        lines: list[list[tuple[int, str, float | None, bool]]] = []
        for name in self.instances:
            words = self._words[self._words["instance"] == name]
            lines += [
                [(0, line, None, False)]
                for line in textwrap.wrap(self._title(name, words), width, break_on_hyphens=False)
            ]
            lines.append([])
            column, end = 0, None
            for word, shade in zip(named_rows(words), shades(words["weight"]), strict=True):
                text, gap = str(word.word), int(end is not None and word.start != end)
                if column + gap + len(text) > width and column > 0:
                    lines.append([])
                    column, gap = 0, 0
                lines[-1].append((column + gap, text, float(shade), bool(word.is_entity)))
                column += gap + len(text)
                end = word.end
            lines.append([])
        return lines[:-1]

    def save(self, path: PathLike) -> None:
        """Write the heat map to a file.

        Parameters
        ----------
        path : path
            Ends in ``.html``, or in a format of matplotlib: ``.svg``, ``.png``, ``.pdf``.

        Raises
        ------
        ConfigError
            For another ending, or when matplotlib is needed and not installed.
        OSError
            When the file cannot be written.

        Examples
        --------
        >>> biorel.heatmap(run.attention(), 0).save(folder / "attention.html")
        """
        target = Path(os.fspath(path))
        if target.suffix == ".html":
            page = "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            page += "<meta name='viewport' content='width=device-width'><title>Attention</title><style>"
            page += ":root{color-scheme:light dark}"
            page += "body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
            target.write_text(f"{page}</style></head><body>{self.html()}</body></html>\n", encoding="utf-8")
            return
        if target.suffix not in (".svg", ".png", ".pdf"):
            raise ConfigError(f"path: `{target}` must end in .html, .svg, .png or .pdf", "path")
        drawn: Any = self.plot().figure
        drawn.savefig(target, dpi=150)
        close(drawn)

    def __repr__(self) -> str:
        """The instances that it shows."""
        return f"Heatmap({', '.join(self.instances)})"


def heatmap(weights: pd.DataFrame, instance: str | int | Sequence[str | int] = 0) -> Heatmap:
    """Shade each word of a sentence by its attention (the paper's Fig. 3).

    Parameters
    ----------
    weights : pandas.DataFrame
        A table from ``RelationModel.attention``.
    instance : str, int, or a sequence of them
        The pairs to show: their ids, or their positions in the table, from 0.

    Returns
    -------
    Heatmap
        Displayed by notebooks; see also ``.html()``, ``.plot()`` and ``.save(path)``. The shade is the weight relative
        to the largest of the sentence; entities are underlined.

    Raises
    ------
    ConfigError
        For an instance that the table does not have, or another table.

    Examples
    --------
    >>> picture = biorel.heatmap(run.attention(), [0, 1])
    >>> picture.html().count("<div style")
    4
    """
    if not isinstance(weights, pd.DataFrame):
        raise ConfigError(f"weights: must be a table, not {type(weights).__name__}", "weights")
    require_columns(weights, _COLUMNS, "weights", "give the table of run.attention() or model.attention()")
    known = list(dict.fromkeys(weights["instance"]))
    if isinstance(instance, (str, int, np.integer)):
        chosen: list[object] = [instance]
    elif isinstance(instance, Iterable):
        chosen = list(instance)
    else:
        raise ConfigError(f"instance: must be an id, a position, or a list of them, not {instance!r}", "instance")
    names = []
    for one in chosen:
        if isinstance(one, (int, np.integer)) and -len(known) <= one < len(known):
            names.append(str(known[int(one)]))
        elif one in set(known):
            names.append(str(one))
        else:
            example = f"such as {known[0]}" if known else "of which there is none"
            raise ConfigError(f"instance: {one!r} is not in the table of {len(known)} pairs, {example}", "instance")
    shown = weights[weights["instance"].isin(names)]
    if (lacking := ~np.isfinite(pd.to_numeric(shown["weight"], errors="coerce"))).any():
        first = shown[lacking].iloc[0]
        raise ConfigError(f"weights: the word `{first['word']}` of {first['instance']} has no weight", "weights")
    return Heatmap(shown, names)


def gallery(weights: pd.DataFrame, right: pd.DataFrame, wrong: pd.DataFrame, *, n: int = 10) -> Heatmap:
    """Show the instances that one model gets right and another gets wrong, with the attention of either model.

    Parameters
    ----------
    weights : pandas.DataFrame
        A table from ``RelationModel.attention``, of the model whose attention is shown.
    right, wrong : pandas.DataFrame
        Tables from ``RelationModel.predictions``, of the model that is right and of the model that is wrong.
    n : int
        At most this many instances, in descending order of the probability that the wrong model gave.

    Returns
    -------
    Heatmap
        As from ``heatmap``; the titles include the wrong model's prediction. Empty if there is no such instance.

    Raises
    ------
    ConfigError
        For tables that are not from ``predictions``, or have no instance in common with the weights.

    Examples
    --------
    >>> predictions = run.predictions()
    >>> biorel.gallery(run.attention(), predictions, predictions).instances
    []
    """
    needed = ["id", "gold", "predicted", "probability"]
    for field, table in (("right", right), ("wrong", wrong)):
        require_columns(table, needed, field, "give the table of predictions()")
    both = right[needed].merge(wrong[needed], on="id", suffixes=("", "_wrong"))
    both = both[both["id"].isin(weights["instance"])]
    if both.empty:
        raise ConfigError("wrong: the tables have no instance in common; give the same corpus and split", "wrong")
    differ = both[(both["predicted"] == both["gold"]) & (both["predicted_wrong"] != both["gold"])]
    first = differ.sort_values(["probability_wrong", "id"], ascending=[False, True]).head(n)
    notes = {row.id: f"the other {row.predicted_wrong} ({row.probability_wrong:.2f})" for row in named_rows(first)}
    return Heatmap(weights[weights["instance"].isin(list(notes))], list(notes), notes)


def shades(weights: Iterable[float]) -> list[float]:
    """The opacity of the colour behind each word of a sentence: its weight relative to the largest."""
    values = [float(weight) for weight in weights]
    largest = max(values, default=0.0)
    return [_DEEPEST * value / max(largest, 1e-12) for value in values]


def _patches() -> Any:
    import matplotlib.patches  # noqa: PLC0415  (an extra)

    return matplotlib.patches
