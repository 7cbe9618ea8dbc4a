"""What the training and test data of folds share."""

from __future__ import annotations

import warnings

import pandas as pd
from biorel.experiments.folds import Folds


def find_leaks(folds: Folds, threshold: float) -> pd.DataFrame:
    """What training and test data of each fold share, one row each."""
    tables = []
    for number in folds.numbers:
        table = folds.part(number).leakage(threshold=threshold)
        table.insert(0, "fold", number)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def count_leaks(leaks: pd.DataFrame, folds: list[int]) -> pd.DataFrame:
    """How many of each kind, one row per fold."""
    kinds = {"documents": "document", "sentences": "sentence", "near_duplicates": "near-duplicate"}
    found = leaks.groupby(["fold", "kind"]).size().to_dict()
    rows = [{"fold": fold} | {name: found.get((fold, kind), 0) for name, kind in kinds.items()} for fold in folds]
    return pd.DataFrame(rows)


def warn_of_leaks(leakage: pd.DataFrame) -> None:
    """Say what folds by instance leak."""
    documents, sentences = (int(leakage[name].max()) for name in ("documents", "sentences"))
    warnings.warn(
        f'by="instance" leaks: in a fold up to {documents} documents and {sentences} sentences are both trained and '
        "tested on, so the scores will be too good; they compare only with papers that did the same",
        stacklevel=3,
    )
