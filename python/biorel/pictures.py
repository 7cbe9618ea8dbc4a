"""Pictures: heat maps of attention (the paper's Fig. 3), stems (its Table V and Fig. 4), learning curves, confusion.

All but a heat map in a notebook need matplotlib (``pip install "biorel[plot]"``). Every function that draws takes
``ax`` and returns it. The colours are those of Okabe and Ito, which colour-blind readers tell apart; text takes the
notebook's own colour, so that it is legible on light and dark backgrounds.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from biorel.corpus import PathLike
from biorel.errors import ConfigError

if TYPE_CHECKING:
    from biorel.training import Run
    from matplotlib.axes import Axes

ORANGE, BLUE, GREEN, SKY = "#E69F00", "#0072B2", "#009E73", "#56B4E9"
# The strongest shade: darker would hide dark text, lighter text on dark grounds as well.
_DEEPEST = 0.6
# Letters in a line of a heat map.
_COLUMNS = 96


class Heatmap:
    """Sentences with every word shaded by its attention. Made by ``heatmap`` and ``gallery``."""

    def __init__(self, words: pd.DataFrame, instances: Sequence[str], notes: Mapping[str, str] | None = None) -> None:
        self._words = words
        self._notes = dict(notes or {})
        self.instances = list(instances)

    def html(self) -> str:
        """HTML that needs nothing else; every word shows its weight when pointed at."""
        return "".join(self._sentence(name) for name in self.instances)

    def _repr_html_(self) -> str:
        return self.html()

    def _sentence(self, name: str) -> str:
        words = self._words[self._words["instance"] == name]
        pieces, end = [], None
        for word, shade in zip(_rows(words), _shades(words), strict=True):
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
        said = [f"gold {gold}"] if isinstance(gold, str) else []
        noted = [self._notes[name]] if name in self._notes else []
        return ", ".join([name, *said, f"predicted {predicted}", *noted])

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw it with matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default, as high as the sentences need.

        Returns
        -------
        matplotlib.axes.Axes
            Where it was drawn.

        Examples
        --------
        >>> axes = biorel.heatmap(run.attention(), 0).plot()
        >>> len(axes.texts) > 5
        True
        """
        lines = self._lines(_COLUMNS)
        if ax is None:
            ax = _pyplot().figure(figsize=(8, 0.24 * len(lines))).add_axes((0.01, 0, 0.98, 1))
        # A letter of matplotlib's monospace font is 0.602 of its size wide.
        figure: Any = ax.figure
        inches = ax.get_window_extent().width / figure.dpi
        size = inches / _COLUMNS * 72 / 0.602
        ax.set_xlim(0, _COLUMNS)
        ax.set_ylim(len(lines), 0)
        ax.axis("off")
        for row, line in enumerate(lines):
            for column, text, shade, bold in line:
                kind: dict[str, Any] = {"family": "monospace", "fontsize": size, "va": "center"}
                if shade is None:
                    ax.text(column, row + 0.5, text, alpha=0.7, style="italic", **kind)
                    continue
                # A rectangle rather than the text's own box: boxes are padded and would overlap.
                rectangle = _patches().Rectangle(
                    (column, row + 0.08), len(text), 0.84, facecolor=ORANGE, alpha=shade, edgecolor="none"
                )
                ax.add_patch(rectangle)
                ax.text(column, row + 0.5, text, weight="bold" if bold else "normal", **kind)
        return ax

    def _lines(self, width: int) -> list[list[tuple[int, str, float | None, bool]]]:
        """Each line's pieces: column, text, shade (None for a title), whether it is an entity."""
        lines: list[list[tuple[int, str, float | None, bool]]] = []
        for name in self.instances:
            words = self._words[self._words["instance"] == name]
            lines.append([(0, self._title(name, words), None, False)])
            lines.append([])
            column, end = 0, None
            for word, shade in zip(_rows(words), _shades(words), strict=True):
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
        """Write it to a file.

        Parameters
        ----------
        path : path
            Ends in ``.html``, or in what matplotlib writes: ``.svg``, ``.png``, ``.pdf``.

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
            page = "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Attention</title><style>"
            page += ":root{color-scheme:light dark}body{font-family:sans-serif;max-width:60em;margin:2em auto}"
            target.write_text(f"{page}</style></head><body>{self.html()}</body></html>\n", encoding="utf-8")
            return
        if target.suffix not in (".svg", ".png", ".pdf"):
            raise ConfigError(f"path: `{target}` must end in .html, .svg, .png or .pdf", "path")
        drawn: Any = self.plot().figure
        drawn.savefig(target, dpi=150)
        close(drawn)

    def __repr__(self) -> str:
        """Which instances it shows."""
        return f"Heatmap({', '.join(self.instances)})"


def heatmap(weights: pd.DataFrame, instance: str | int | Sequence[str | int] = 0) -> Heatmap:
    """Shade every word of a sentence by its attention (the paper's Fig. 3).

    Parameters
    ----------
    weights : pandas.DataFrame
        As ``RelationModel.attention`` gives it.
    instance : str, int, or a sequence of them
        Which pairs: their ids, or their numbers in the table, from 0.

    Returns
    -------
    Heatmap
        A notebook shows it; ``.html()``, ``.plot()`` and ``.save(path)`` give it otherwise. The shade is the weight as
        a share of the sentence's largest; entities are underlined.

    Raises
    ------
    ConfigError
        For an instance that the table does not have.

    Examples
    --------
    >>> picture = biorel.heatmap(run.attention(), [0, 1])
    >>> picture.html().count("<div style")
    4
    """
    there = list(dict.fromkeys(weights["instance"]))
    wanted = [instance] if isinstance(instance, (str, int)) else list(instance)
    names = []
    for one in wanted:
        if isinstance(one, int) and -len(there) <= one < len(there):
            names.append(str(there[one]))
        elif one in set(there):
            names.append(str(one))
        else:
            example = f"such as {there[0]}" if there else "of which there is none"
            raise ConfigError(f"instance: {one!r} is not in the table of {len(there)} pairs, {example}", "instance")
    return Heatmap(weights[weights["instance"].isin(names)], names)


def gallery(weights: pd.DataFrame, right: pd.DataFrame, wrong: pd.DataFrame, *, n: int = 10) -> Heatmap:
    """Show the instances that one model gets right and another wrong, with the attention of either.

    Parameters
    ----------
    weights : pandas.DataFrame
        As ``RelationModel.attention`` gives it, of the model whose attention is to be seen.
    right, wrong : pandas.DataFrame
        As ``RelationModel.predictions`` gives it, of the model that is right and of the one that is wrong.
    n : int
        At most so many, those first of which the wrong model was most certain.

    Returns
    -------
    Heatmap
        As ``heatmap``; the titles say what the wrong model predicted. Empty where it is wrong alone nowhere.

    Raises
    ------
    ConfigError
        For tables that are not of predictions, or have no instance in common with the weights.

    Examples
    --------
    >>> predictions = run.predictions()
    >>> biorel.gallery(run.attention(), predictions, predictions).instances
    []
    """
    needed = ["id", "gold", "predicted", "probability"]
    for field, table in (("right", right), ("wrong", wrong)):
        missing = [name for name in needed if name not in table.columns]
        if missing:
            message = f"{field}: has no column {', '.join(missing)}; give the table of predictions()"
            raise ConfigError(message, field)
    both = right[needed].merge(wrong[needed], on="id", suffixes=("", "_wrong"))
    both = both[both["id"].isin(weights["instance"])]
    if both.empty:
        raise ConfigError("wrong: the tables have no instance in common; give the same corpus and split", "wrong")
    differ = both[(both["predicted"] == both["gold"]) & (both["predicted_wrong"] != both["gold"])]
    first = differ.sort_values(["probability_wrong", "id"], ascending=[False, True]).head(n)
    notes = {row.id: f"the other {row.predicted_wrong} ({row.probability_wrong:.2f})" for row in _rows(first)}
    return Heatmap(weights[weights["instance"].isin(list(notes))], list(notes), notes)


def plot_stems(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Bars of what ``top_stems`` or ``compare_stems`` found, with their intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        The result of either; a long one is better cut first (``table.head(10)``).
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        Where it was drawn. Of a comparison, a star marks q below 0.05.

    Examples
    --------
    >>> axes = biorel.plot_stems(biorel.top_stems(run.attention(), samples=50))
    >>> axes.get_xlabel()
    'mean attention'
    """
    rows = table.reset_index(drop=True)
    if {"positive", "negative"} <= set(rows.columns):
        groups = [("positive", ORANGE, -0.2), ("negative", BLUE, 0.2)]
        ends = {name: (rows[f"{name}_low"], rows[f"{name}_high"]) for name, _, _ in groups}
        values = {name: rows[name] for name, _, _ in groups}
    elif {"weight", "low", "high"} <= set(rows.columns):
        groups = [("weight", ORANGE, 0.0)]
        ends, values = {"weight": (rows["low"], rows["high"])}, {"weight": rows["weight"]}
    else:
        raise ConfigError("table: must be what top_stems or compare_stems gives", "table")
    if ax is None:
        _, ax = _pyplot().subplots(figsize=(6, 0.35 * len(rows) + 1), layout="constrained")
    places = np.arange(len(rows))
    height = 0.8 / len(groups)
    for name, colour, shift in groups:
        low, high = ends[name]
        error = np.nan_to_num(np.vstack([values[name] - low, high - values[name]]).astype(float)).clip(min=0)
        label = None if name == "weight" else f"{name} pairs"
        bars: dict[str, Any] = {
            "color": colour,
            "ecolor": ax.spines["left"].get_edgecolor(),
            "capsize": 2,
            "label": label,
        }
        ax.barh(places + shift, values[name].astype(float), height, xerr=error, **bars)
    names = [f"{row.stem} ({row.word})" if row.stem != row.word else str(row.stem) for row in _rows(rows)]
    if "q" in rows.columns:
        names = [f"{name} *" if q < 0.05 else name for name, q in zip(names, rows["q"], strict=True)]
        # Above the bars, which may fill all of the picture.
        ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(groups))
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.set_xlabel("mean attention")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_faithfulness(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How much of the predicted label's probability masking words costs, by which words were masked first.

    Parameters
    ----------
    table : pandas.DataFrame
        As ``faithfulness`` gives it.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        Where it was drawn. A ranking whose line is not above that of random words explains no more than chance.

    Examples
    --------
    >>> masked = model.mask_words(biorel.load_sample("ddi"), words=[1, 3], limit=5, related=False)
    >>> biorel.plot_faithfulness(biorel.faithfulness(masked, samples=20)).get_xlabel()
    'words masked'
    """
    if not {"words", "ranking", "drop", "low", "high"} <= set(table.columns):
        raise ConfigError("table: must be what faithfulness gives", "table")
    if ax is None:
        _, ax = _pyplot().subplots(figsize=(5, 3.5), layout="constrained")
    styles = {
        "attention": (ORANGE, "o", "-"),
        "encoder": (BLUE, "s", "-"),
        "gradient": (GREEN, "^", "-"),
        "random": ("#777777", "x", "--"),
    }
    for ranking, (colour, marker, line) in styles.items():
        rows = table[table["ranking"] == ranking]
        if rows.empty:
            continue
        low, high = rows["drop"] - rows["low"], rows["high"] - rows["drop"]
        error = np.nan_to_num(np.vstack([low, high]).astype(float)).clip(min=0)
        kind: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line, "capsize": 2, "label": ranking}
        ax.errorbar(rows["words"], rows["drop"], yerr=error, **kind)
    ax.set_xticks(sorted(table["words"].unique()))
    ax.set_xlabel("words masked")
    ax.set_ylabel("drop of the predicted label's probability")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_history(run: Run, *, ax: Axes | None = None) -> Axes:
    """Loss of every step, its mean over each epoch, and the loss and F1 on dev where there is one.

    Parameters
    ----------
    run : Run
        A fine-tuning.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        Where it was drawn; the F1 has an axis of its own on the right.

    Examples
    --------
    >>> biorel.plot_history(run).get_xlabel()
    'step'
    """
    if ax is None:
        _, ax = _pyplot().subplots(figsize=(6, 3.5), layout="constrained")
    history, evaluations = run.history, run.evaluations
    ax.plot(history["step"], history["loss"], color=SKY, alpha=0.7, linewidth=1, label="loss of each step")
    ends = history.groupby("epoch")["step"].max()
    ax.plot(
        ends, run.epochs.set_index("epoch")["loss"].loc[ends.index], color=BLUE, marker="o", label="its mean by epoch"
    )
    if len(evaluations):
        ax.plot(evaluations["step"], evaluations["loss"], color=ORANGE, marker="s", label="loss on dev")
        right = ax.twinx()
        right.plot(evaluations["step"], evaluations["f1"], color=GREEN, marker="^", linestyle="--", label="F1 on dev")
        right.set_ylabel("F1 on dev")
        right.set_ylim(0, 1)
        ax.plot([], [], color=GREEN, marker="^", linestyle="--", label="F1 on dev (right)")
        right.spines[["top"]].set_visible(False)
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    ax.spines[["top"]].set_visible(False)
    return ax


def plot_confusion(predictions: pd.DataFrame, labels: Sequence[str] | None = None, *, ax: Axes | None = None) -> Axes:
    """How often each gold label was predicted as each label.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As ``Run.predictions`` gives it: ``gold`` and ``predicted``.
    labels : sequence of str, optional
        The order of the labels, such as ``corpus.labels``; by default that of the columns ``p_<label>``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        Where it was drawn. The shade is the share of the gold label; pairs without a prediction have a column ``none``.

    Examples
    --------
    >>> biorel.plot_confusion(run.predictions()).get_ylabel()
    'gold'
    """
    if labels is None:
        labels = [name.removeprefix("p_") for name in predictions.columns if name.startswith("p_")]
    said = predictions["predicted"].astype(object).where(predictions["predicted"].notna(), "none")
    columns = [*labels, *(["none"] if (said == "none").any() and "none" not in labels else [])]
    counts = pd.crosstab(predictions["gold"], said).reindex(index=list(labels), columns=columns, fill_value=0)
    shares = counts.to_numpy() / np.maximum(counts.to_numpy().sum(axis=1, keepdims=True), 1)
    if ax is None:
        side = 1.6 + 0.6 * len(columns)
        _, ax = _pyplot().subplots(figsize=(side, side), layout="constrained")
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > 0.6 else "black"
        ax.text(column, row, f"{counts.to_numpy()[row, column]:,}", ha="center", va="center", color=colour)
    ax.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    ax.set_yticks(range(len(labels)), list(labels))
    ax.set_xlabel("predicted")
    ax.set_ylabel("gold")
    return ax


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples())


def _shades(words: pd.DataFrame) -> list[float]:
    weights = words["weight"].astype(float)
    return (_DEEPEST * weights / max(float(weights.max()), 1e-12)).tolist()


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise ConfigError('pictures need matplotlib: run `pip install "biorel[plot]"`', "ax") from error
    return plt


def close(figure: Any) -> None:
    """Forget a figure that has been saved."""
    _pyplot().close(figure)


def _patches() -> Any:
    import matplotlib.patches  # noqa: PLC0415  (an extra)

    return matplotlib.patches
