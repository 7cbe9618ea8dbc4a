"""Plots: stems (the paper's Table V and Fig. 4), faithfulness, learning curves, confusion.

All need matplotlib (``pip install "biorel[plot]"``). Every function that draws takes ``ax`` and returns it. The colours
are those of Okabe and Ito, which colour-blind readers can distinguish; text takes the notebook's own colour, so that it
is legible on light and dark backgrounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from biorel._tables import require_columns
from biorel.errors import ConfigError
from biorel.training.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORANGE, BLUE, GREEN, SKY = "#E69F00", "#0072B2", "#009E73", "#56B4E9"


def plot_stems(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Bars for the result of ``top_stems`` or ``compare_stems``, with confidence intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        The result of either; shorten a long one first (``table.head(10)``).
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes. For a comparison the bars are weights relative to the uniform weight, with a line at 1; a star marks q
        below 0.05, and crosses are the values of the untrained model, if the table has a baseline.

    Examples
    --------
    >>> axes = biorel.plot_stems(biorel.top_stems(run.attention(), samples=50))
    >>> axes.get_xlabel()
    'mean attention'
    """
    rows = table.reset_index(drop=True)
    compared = {"positive_relative", "negative_relative"} <= set(rows.columns)
    if compared:
        groups = [("positive", ORANGE, -0.2), ("negative", BLUE, 0.2)]
        ends = {name: (rows[f"{name}_relative_low"], rows[f"{name}_relative_high"]) for name, _, _ in groups}
        values = {name: rows[f"{name}_relative"] for name, _, _ in groups}
    elif {"weight", "low", "high"} <= set(rows.columns):
        groups = [("weight", ORANGE, 0.0)]
        ends, values = {"weight": (rows["low"], rows["high"])}, {"weight": rows["weight"]}
    else:
        raise ConfigError("table: must be the result of top_stems or compare_stems", "table")
    if ax is None:
        _, ax = pyplot().subplots(figsize=(6, 0.35 * len(rows) + 1), layout="constrained")
    positions = np.arange(len(rows))
    height = 0.8 / len(groups)
    for name, colour, shift in groups:
        low, high = ends[name]
        error = np.vstack([values[name] - low, high - values[name]]).astype(float).clip(min=0)
        label = None if name == "weight" else f"{name} pairs"
        bars: dict[str, Any] = {
            "color": colour,
            "ecolor": ax.spines["left"].get_edgecolor(),
            "capsize": 2,
            "label": label,
        }
        ax.barh(positions + shift, values[name].astype(float), height, xerr=error, **bars)
        if f"baseline_{name}_relative" in rows.columns:
            crosses: dict[str, Any] = {
                "color": ax.spines["left"].get_edgecolor(),
                "marker": "x",
                "linestyle": "none",
                "zorder": 3,
            }
            label = None if shift > 0 else "untrained"
            ax.plot(rows[f"baseline_{name}_relative"].astype(float), positions + shift, label=label, **crosses)
    names = [f"{row.stem} ({row.word})" if row.stem != row.word else str(row.stem) for row in named_rows(rows)]
    if "q" in rows.columns:
        names = [f"{name} *" if q < 0.05 else name for name, q in zip(names, rows["q"], strict=True)]
        # Above the bars, which may fill the whole plot.
        ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    ax.set_yticks(positions, names)
    ax.invert_yaxis()
    if compared:
        ax.axvline(1.0, color=ax.spines["left"].get_edgecolor(), linewidth=0.8, linestyle=":")
    ax.set_xlabel("mean attention, relative to uniform" if compared else "mean attention")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_faithfulness(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How much the probability of the predicted label drops when words are masked, by the ranking of the words.

    Parameters
    ----------
    table : pandas.DataFrame
        The result of ``faithfulness``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes. A ranking whose line is not above that of random words explains no more than chance.

    Examples
    --------
    >>> masked = model.mask_words(biorel.load_sample("ddi"), words=[1, 3], limit=5, related=False)
    >>> biorel.plot_faithfulness(biorel.faithfulness(masked, samples=20)).get_xlabel()
    'words masked'
    """
    require_columns(table, ["words", "ranking", "drop", "low", "high"], "table", "give the result of faithfulness")
    if ax is None:
        _, ax = pyplot().subplots(figsize=(5, 3.5), layout="constrained")
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
        error = np.vstack([low, high]).astype(float).clip(min=0)
        style: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line, "capsize": 2, "label": ranking}
        ax.errorbar(rows["words"], rows["drop"], yerr=error, **style)
    ax.set_xticks(sorted(table["words"].unique()))
    ax.set_xlabel("words masked")
    ax.set_ylabel("drop of the predicted label's probability")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_history(run: Run, *, ax: Axes | None = None) -> Axes:
    """Loss of every step, its mean over each epoch, and the loss and F1 on the dev split if there is one.

    Parameters
    ----------
    run : Run
        A fine-tuning run.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes; F1 has its own axis on the right.

    Examples
    --------
    >>> biorel.plot_history(run).get_xlabel()
    'step'
    """
    if not isinstance(run, Run):
        raise TypeError(f"run must be a Run, as finetune returns it, not {type(run).__name__}")
    if ax is None:
        _, ax = pyplot().subplots(figsize=(6, 3.5), layout="constrained")
    history, evaluations = run.history, run.evaluations
    ax.plot(history["step"], history["loss"], color=SKY, alpha=0.7, linewidth=1, label="loss of each step")
    ends = history.groupby("epoch")["step"].max()
    ax.plot(
        ends, run.epochs.set_index("epoch")["loss"].loc[ends.index], color=BLUE, marker="o", label="mean of each epoch"
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
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_confusion(
    predictions: Run | pd.DataFrame, labels: Sequence[str] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Confusion matrix: how often each gold label was predicted as each label, and which share of it.

    Parameters
    ----------
    predictions : Run or pandas.DataFrame
        A run, whose predictions on its test split are shown; or the result of ``Run.predictions`` or
        ``RelationModel.predictions``, whose columns ``gold`` and ``predicted`` are read.
    labels : sequence of str, optional
        The labels in order, such as ``corpus.labels``; by default in the order of the columns ``p_<label>``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes. The shade and the percentage are the share of the gold label; pairs without a prediction have the
        column ``none``.

    Examples
    --------
    >>> biorel.plot_confusion(run).get_ylabel()
    'gold'
    """
    if isinstance(predictions, Run):
        labels = predictions.corpus.labels if labels is None else labels
        predictions = predictions.predictions()
    if not isinstance(predictions, pd.DataFrame):
        raise TypeError(f"predictions must be a Run or a table, not {type(predictions).__name__}")
    require_columns(predictions, ["gold", "predicted"], "predictions", "give run.predictions()")
    if labels is None:
        labels = [name.removeprefix("p_") for name in predictions.columns if name.startswith("p_")]
    predicted = predictions["predicted"].astype(object).where(predictions["predicted"].notna(), "none")
    columns = [*labels, *(["none"] if (predicted == "none").any() and "none" not in labels else [])]
    counts = pd.crosstab(predictions["gold"], predicted).reindex(index=list(labels), columns=columns, fill_value=0)
    shares = counts.to_numpy() / np.maximum(counts.to_numpy().sum(axis=1, keepdims=True), 1)
    if ax is None:
        side = 1.6 + 0.8 * len(columns)
        _, ax = pyplot().subplots(figsize=(side, side), layout="constrained")
    from matplotlib.colors import LinearSegmentedColormap, to_rgb  # noqa: PLC0415  (an extra)

    # From the background of the figure's style, light or dark, to blue.
    background: Any = to_rgb(ax.get_facecolor())
    colours = LinearSegmentedColormap.from_list("share", [background, BLUE])
    ax.imshow(shares, cmap=colours, vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        red, green, blue, _ = colours(shares[row, column])
        colour = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"
        text = f"{counts.to_numpy()[row, column]:,}\n{shares[row, column]:.0%}"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize="small")
    ax.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    ax.set_yticks(range(len(labels)), list(labels))
    ax.set_xlabel("predicted")
    ax.set_ylabel("gold")
    return ax


def named_rows(table: pd.DataFrame) -> list[Any]:
    """The rows as named tuples, typed Any because type checkers do not know their fields."""
    return list(table.itertuples())


def pyplot() -> Any:
    """Import matplotlib; if it is missing, the error says what to install."""
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise ConfigError('plots need matplotlib: run `pip install "biorel[plot]"`', "ax") from error
    return plt


def close(figure: Any) -> None:
    """Close a figure that has been saved."""
    pyplot().close(figure)
