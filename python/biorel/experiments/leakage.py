"""Leakage between the training and test data of folds."""

from __future__ import annotations

import pandas as pd
from biorel._warnings import warn
from biorel.experiments.folds import Folds


def find_leaks(folds: Folds, threshold: float) -> pd.DataFrame:
    """The documents and sentences that training and test data of each fold share, one row per finding."""
    tables = []
    for number in folds.numbers:
        table = folds.part(number).leakage(threshold=threshold)
        table.insert(0, "fold", number)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def count_leaks(leaks: pd.DataFrame, folds: list[int]) -> pd.DataFrame:
    """The number of findings of each kind, one row per fold."""
    kinds = {"documents": "document", "sentences": "sentence", "near_duplicates": "near-duplicate"}
    found = leaks.groupby(["fold", "kind"]).size().to_dict()
    rows = [{"fold": fold} | {name: found.get((fold, kind), 0) for name, kind in kinds.items()} for fold in folds]
    return pd.DataFrame(rows)


def warn_of_leaks(leakage: pd.DataFrame) -> None:
    """Warn of the leakage of folds by instance."""
    documents, sentences = (int(leakage[name].max()) for name in ("documents", "sentences"))
    warn(
        f'by="instance" leaks: in a fold up to {documents} documents and {sentences} sentences are in both train and '
        "test, so the scores will be too good; compare them only with papers that did the same"
    )
