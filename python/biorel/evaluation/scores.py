"""Tables of scores with their protocol."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd
from biorel import _biorel
from biorel._html import table_html
from biorel._tables import without_na
from biorel._types import Row
from biorel.data.corpus import Corpus
from biorel.errors import ConfigError


class Scores(pd.DataFrame):
    """A DataFrame of scores that prints its protocol below the table; the protocol is in ``.attrs["protocol"]``.

    Selecting rows or columns, and arithmetic, return a plain DataFrame.
    """

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    @property
    def protocol(self) -> str:
        """What was scored, on what, and how it was averaged."""
        return str(self.attrs.get("protocol", ""))

    def __repr__(self) -> str:
        """The table and its protocol."""
        return f"{without_na(self)!r}\n{self.protocol}"

    def _repr_html_(self) -> str:
        return f"{table_html(self)}<p>{html.escape(self.protocol)}</p>"

    def to_latex(self, *arguments: Any, **options: Any) -> Any:
        r"""The table in LaTeX, with the protocol as its caption; pandas' ``to_latex`` (it needs jinja2).

        Parameters
        ----------
        *arguments, **options
            As pandas takes them. By default there is no index, missing values are empty, numbers have three decimals
            and text is escaped.

        Examples
        --------
        >>> print(run.scores.to_latex())  # doctest: +ELLIPSIS
        \begin{table}
        \caption{micro-F1 over the 4 positive classes, test, 142 pairs}
        ...
        """
        defaults: dict[str, Any] = {"index": False, "na_rep": "", "float_format": "%.3f", "escape": True}
        caption = self.protocol
        for character in "&%$#_{}":
            caption = caption.replace(character, f"\\{character}")
        return pd.DataFrame(self).to_latex(*arguments, **{**defaults, "caption": caption or None, **options})


def score_predictions(
    predictions: pd.DataFrame,
    corpus: Corpus,
    split: str,
    *,
    lost: list[int] | None = None,
    task: _biorel.Task | None = None,
) -> Scores:
    """Score a table with ``gold`` and ``predicted``; gold positives that the split lost count as misses.

    The scores have the labels of the task, by default that of the corpus, whose labels are among them.
    """
    found = corpus._core.lost(split) if lost is None else lost
    task = task or corpus._core.task
    number = {label: index for index, label in enumerate(task.labels)}
    lost = [0] * len(task.labels)
    for label, count in zip(corpus.labels, found, strict=True):
        if count and label not in number:
            message = f"corpus: {count} lost pairs have the label `{label}`; the model's are {', '.join(task.labels)}"
            raise ConfigError(message, "corpus")
        if count:
            lost[number[label]] = count
    return score_table(predictions, task, split, lost)


def score_table(predictions: pd.DataFrame, task: _biorel.Task, what: str, lost: list[int]) -> Scores:
    """Score a table with ``gold`` and ``predicted``; `lost` counts gold positives of each label that are not in it."""
    number = {label: index for index, label in enumerate(task.labels)}
    lost = list(lost)
    predicted = predictions["predicted"].notna()
    for label in predictions.loc[~predicted, "gold"]:
        if label != task.negative:
            lost[number[label]] += 1
    columns, protocol = _biorel.score(
        task,
        [number[label] for label in predictions.loc[predicted, "gold"]],
        [number[label] for label in predictions.loc[predicted, "predicted"]],
        lost,
        what,
    )
    scores = Scores(columns).astype({"support": "Int64", "predicted": "Int64"})
    scores = Scores(scores)
    scores.attrs["protocol"] = protocol
    return scores


MEASURES = ("precision", "recall", "f1")


def headline(scores: Scores, corpus: Corpus) -> Row:
    """Precision, recall and F1 in the averaging of the corpus's task, and the number of gold positives."""
    rows = scores.set_index("class")
    chosen: Any = rows.loc[corpus._core.task.headline]
    positive = [label for label in corpus.labels if label != corpus.negative]
    numbers: Row = {name: float(chosen[name]) for name in MEASURES}
    return {**numbers, "support": int(rows.loc[positive, "support"].sum())}


def score_pooled(corpus: Corpus, predictions: pd.DataFrame, what: str) -> Scores:
    """Scores of all folds together; gold positives that were lost while reading the corpus count as misses."""
    lost = [sum(counts) for counts in zip(*(corpus._core.lost(split) for split in corpus.splits), strict=True)]
    return score_predictions(predictions, corpus, what, lost=lost)
