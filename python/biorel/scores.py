"""Tables of scores that never lose their protocol."""

from __future__ import annotations

from typing import Any

import pandas as pd
from biorel import _biorel
from biorel.corpus import Corpus


class Scores(pd.DataFrame):
    """A DataFrame of scores that prints its protocol below it; the protocol is in ``.attrs["protocol"]``.

    Taking rows, columns or arithmetic of it gives a plain DataFrame.
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
        return f"{super().__repr__()}\n{self.protocol}"

    def _repr_html_(self) -> str:
        table = pd.DataFrame(self)._repr_html_()  # type: ignore[operator]
        return f"{table}<p>{self.protocol}</p>"


def score_predictions(
    predictions: pd.DataFrame, corpus: Corpus, split: str, *, lost: list[int] | None = None
) -> Scores:
    """Score a table with ``gold`` and ``predicted``; what the split lost before counts as missed."""
    task = corpus._core.task
    number = {label: index for index, label in enumerate(task.labels)}
    judged = predictions["predicted"].notna()
    lost = corpus._core.lost(split) if lost is None else list(lost)
    for label in predictions.loc[~judged, "gold"]:
        if label != task.negative:
            lost[number[label]] += 1
    columns, protocol = _biorel.score(
        task,
        [number[label] for label in predictions.loc[judged, "gold"]],
        [number[label] for label in predictions.loc[judged, "predicted"]],
        lost,
        split,
    )
    scores = Scores(columns).astype({"support": "Int64", "predicted": "Int64"})
    scores = Scores(scores)
    scores.attrs["protocol"] = protocol
    return scores
