"""Paired tests of two sides of a comparison."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from biorel import _biorel
from biorel._types import Row
from biorel.data.corpus import Corpus
from biorel.errors import ConfigError
from biorel.evaluation.scores import Scores

# Below this many units the bootstrap's samples are too alike to say much; below the core's least number it says
# nothing.
_FEW_UNITS = 30


class Side(NamedTuple):
    """One side: its instances, its decisions for each seed, and its F1 for each fold (or each seed)."""

    table: pd.DataFrame
    predicted: list[list[str | None]]
    scores: list[float]
    by_fold: bool


def compare_decisions(
    corpus: Corpus, first: Side, second: Side, seeds: list[int], *, unit: str, samples: int, level: float, seed: int
) -> Scores:
    """The three tests; see ``Comparison.paired``."""
    if first.table["id"].tolist() != second.table["id"].tolist():
        raise ConfigError("second: the two sides were not tested on the same instances", "second")
    units = {"instance": "id", "sentence": "sentence", "document": "document"}
    if unit not in units:
        raise ConfigError(f"unit: `{unit}` is not one of {', '.join(units)}", "unit")
    task = corpus._core.task
    number = {label: index for index, label in enumerate(task.labels)}
    gold = [number[label] for label in first.table["gold"]]
    one, other = (
        [[None if label is None else number[label] for label in decided] for decided in side.predicted]
        for side in (first, second)
    )
    drawn = pd.factorize(first.table[units[unit]])[0].tolist()
    f1_first, f1_second, p, low, high, n = _biorel.bootstrap(
        task, gold, one, other, drawn, samples=samples, level=level, seed=seed
    )
    notes = []
    least = _biorel.least_documents()
    if n < least:
        p = low = high = float("nan")
        notes.append(f"only {n} {unit}s: no test or interval below {least}")
    elif n < _FEW_UNITS:
        notes.append(f"only {n} {unit}s: too few to rely on")
    positives = sum(label != task.negative for label in first.table["gold"])
    if positives < _FEW_UNITS:
        notes.append(f"only {positives} gold positives")
    if len(seeds) == 1:
        notes.append("one seed: says nothing about other seeds")
    row: Row = {"test": "bootstrap", "seed": None, "n": n, "first": f1_first, "second": f1_second}
    rows = [row | {"difference": f1_first - f1_second, "low": low, "high": high, "p": p, "note": "; ".join(notes)}]
    for place, which in enumerate(seeds):
        if unit == "instance":
            counts = _biorel.mcnemar(task, gold, one[place], other[place])
            rows.append(_counted("McNemar", which, counts, "instances", level))
        else:
            counts = _biorel.mcnemar_by_unit(task, gold, one[place], other[place], drawn, samples=samples, seed=seed)
            rows.append(_counted(f"McNemar by {unit}", which, counts, f"{unit}s", level))
    counts = _biorel.sign_test(first.scores, second.scores)
    rows.append(_counted("sign test", None, counts, "folds" if first.by_fold else "seeds", level))
    table = pd.DataFrame(rows).astype({"seed": "Int64"})
    return Scores(table.astype(dict.fromkeys(["first", "second", "difference", "low", "high", "p"], float)))


def _counted(test: str, seed: int | None, counts: tuple[int, int, int, float, float], what: str, level: float) -> Row:
    first, second, _, p, least = counts
    n = first + second
    note = (
        f"only {n} {what} that differ: no outcome could reach p < {1 - level:.2g}" if least >= 1 - level - 1e-12 else ""
    )
    row: Row = {"test": test, "seed": seed, "n": n, "first": first, "second": second, "difference": first - second}
    return row | {"low": None, "high": None, "p": p, "note": note}
