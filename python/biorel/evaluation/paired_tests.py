"""Paired significance tests of two sides of a comparison."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from biorel import _biorel
from biorel._types import Row
from biorel.data.corpus import Corpus
from biorel.errors import ConfigError
from biorel.evaluation.scores import Scores

# With fewer units than this, the bootstrap is unreliable; below the core's minimum it is not done at all.
_FEW_UNITS = 30


class Side(NamedTuple):
    """One side: its instances, its decisions for each seed, and its F1 for each fold (or each seed)."""

    table: pd.DataFrame
    predicted: list[list[str | None]]
    scores: list[float]
    by_fold: bool


def compare_decisions(
    corpus: Corpus,
    first: Side,
    second: Side,
    seeds: list[int],
    *,
    unit: str,
    samples: int,
    confidence_level: float,
    seed: int,
) -> Scores:
    """The three tests; see ``Comparison.paired``."""
    second = _aligned(first, second)
    units = {"instance": "id", "sentence": "sentence", "document": "document"}
    if unit not in units:
        raise ConfigError(f"unit: `{unit}` is not one of {', '.join(units)}", "unit")
    task = corpus._core.task
    number = {label: index for index, label in enumerate(task.labels)}
    gold = [number[label] for label in first.table["gold"]]
    one, other = (
        [[None if pd.isna(label) else number[label] for label in decided] for decided in side.predicted]
        for side in (first, second)
    )
    groups = pd.factorize(first.table[units[unit]])[0].tolist()
    f1_first, f1_second, p, low, high, n = _biorel.bootstrap(
        task, gold, one, other, groups, samples=samples, confidence_level=confidence_level, seed=seed
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
        notes.append("only one seed: no evidence about other seeds")
    row: Row = {"test": "bootstrap", "seed": None, "n": n, "first": f1_first, "second": f1_second}
    rows = [row | {"difference": f1_first - f1_second, "low": low, "high": high, "p": p, "note": "; ".join(notes)}]
    for position, which in enumerate(seeds):
        if unit == "instance":
            counts = _biorel.mcnemar(task, gold, one[position], other[position])
            rows.append(_counted("McNemar", which, counts, "instances", confidence_level))
        else:
            counts = _biorel.mcnemar_by_unit(
                task, gold, one[position], other[position], groups, samples=samples, seed=seed
            )
            rows.append(_counted(f"McNemar by {unit}", which, counts, f"{unit}s", confidence_level))
    counts = _biorel.sign_test(first.scores, second.scores)
    rows.append(_counted("sign test", None, counts, "folds" if first.by_fold else "seeds", confidence_level))
    table = pd.DataFrame(rows).astype({"seed": "Int64"})
    return Scores(table.astype(dict.fromkeys(["first", "second", "difference", "low", "high", "p"], float)))


def _aligned(first: Side, second: Side) -> Side:
    """The second side in the order of the first: settings such as the marking may change the order of instances."""
    ids = [pd.Index(side.table["id"]) for side in (first, second)]
    if ids[0].equals(ids[1]):
        return second
    if len(ids[0]) != len(ids[1]) or not all(index.is_unique for index in ids) or ids[0].difference(ids[1]).size:
        raise ConfigError("second: the two sides were not evaluated on the same instances", "second")
    order = ids[1].get_indexer(ids[0]).tolist()
    predicted = [[decided[position] for position in order] for decided in second.predicted]
    return second._replace(table=second.table.iloc[order].reset_index(drop=True), predicted=predicted)


def _counted(
    test: str, seed: int | None, counts: tuple[int, int, int, float, float], what: str, confidence_level: float
) -> Row:
    first, second, _, p, least = counts
    n = first + second
    note = (
        f"only {n} {what} differ: no outcome could reach p < {1 - confidence_level:.2g}"
        if least >= 1 - confidence_level - 1e-12
        else ""
    )
    row: Row = {"test": test, "seed": seed, "n": n, "first": first, "second": second, "difference": first - second}
    return row | {"low": None, "high": None, "p": p, "note": note}
