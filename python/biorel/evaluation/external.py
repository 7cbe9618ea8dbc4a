"""Scores of predictions that another program made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import pandas as pd
from biorel.data.labelled import Labelled
from biorel.data.sample import load_sample
from biorel.errors import ConfigError
from biorel.evaluation.scores import Scores, score_table


def score(
    gold: Iterable[Any],
    predicted: Iterable[Any],
    *,
    task: Literal["aimed", "ddi", "chemprot"] | Labelled,
    name: str = "given predictions",
) -> Scores:
    """Score predictions of any program as biorel scores its own.

    Parameters
    ----------
    gold, predicted : iterable of str
        The labels of each pair, in the same order. A missing prediction (None or NaN) of a positive pair is a miss.
    task : {"aimed", "ddi", "chemprot"}, Corpus or RelationModel
        What defines the labels, the negative label and the averaging.
    name : str
        What was scored, for the protocol: ``test``, the name of the program, ...

    Returns
    -------
    Scores
        As ``RelationModel.evaluate``.

    Raises
    ------
    ConfigError
        When the lengths differ, or a label is unknown; the message names the row.

    Examples
    --------
    >>> gold, predicted = ["effect", "effect", "false"], ["effect", "false", "false"]
    >>> scores = biorel.score(gold, predicted, task="ddi", name="test")
    >>> scores.set_index("class").loc["micro", ["precision", "recall"]].tolist()
    [1.0, 0.5]
    >>> scores.protocol
    'micro-F1 over the 4 positive classes, test, 3 pairs'
    """
    if isinstance(task, str):
        if task not in ("aimed", "ddi", "chemprot"):
            message = f"task: `{task}` is not one of aimed, ddi, chemprot; or give a Corpus or a RelationModel"
            raise ConfigError(message, "task")
        # The sample of a corpus has its task.
        task = load_sample(task)
    table = {"gold": list(gold), "predicted": list(predicted)}
    if len(table["gold"]) != len(table["predicted"]):
        message = f"predicted: has {len(table['predicted'])} labels, but gold has {len(table['gold'])}"
        raise ConfigError(message, "predicted")
    for column, labels in table.items():
        for row, label in enumerate(labels):
            missing = column == "predicted" and pd.isna(label)
            if not missing and label not in task.labels:
                known = ", ".join(task.labels)
                raise ConfigError(f"{column}: row {row}: `{label}` is not a label; choose from {known}", column)
    return score_table(pd.DataFrame(table, dtype=object), task._core.task, name, [0] * len(task.labels))
