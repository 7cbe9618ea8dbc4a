"""The items about corpora and scores: Tables I, III, IV and VI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from biorel.errors import BiorelError
from biorel.experiments.comparison import Comparison
from biorel.plotting import named_rows
from biorel.reproduction import published
from biorel.reproduction.report import Section
from biorel.reproduction.study import Study


def table1(study: Study) -> Section:
    """Sizes of the corpora."""
    rows = []
    for name, corpus in study.corpora.items():
        for row in corpus.statistics().to_dict("records"):
            printed = published.PAIRS.get(name, {}).get(str(row["split"]))
            ours = {"corpus": name, "split": row["split"], "published": printed, "pairs": row["pairs"]}
            ours["difference"] = None if printed is None else row["pairs"] - printed
            labels = "; ".join(f"{label} {row[label]:,}" for label in corpus.labels)
            ours |= {
                "documents": row["documents"],
                "sentences": row["sentences"],
                "labels": labels,
                "lost": row["lost"],
            }
            rows.append(ours)
    table = pd.DataFrame(rows).astype({"published": "Int64", "difference": "Int64"})
    notes = [
        "The printed table swaps two rows: 19,460 / 11,820 / 16,943 is ChemProt, 18,779 / 7,244 / 5,761 is DDI. Here "
        "they are corrected. ChemProt's pairs depend on the sentence splitter. lost: gold positives that could not "
        "become a pair."
    ]
    return Section("Table I: the corpora", notes, {"table1": table})


def table3(study: Study) -> Section:
    """The main results: the attention and LSTM heads against [CLS]."""
    table, notes = _results(study, published.TABLE_3, first=True)
    return Section("Table III: the whole last layer against [CLS] alone", notes, {"table3": table})


def table4(study: Study) -> Section:
    """The variants of the heads."""
    table, notes = _results(study, published.TABLE_4, first=False)
    return Section("Table IV: without [CLS], and [CLS] of all layers", notes, {"table4": table})


def table6(study: Study) -> Section:
    """Other encoders with the head `cls`; one that cannot be loaded becomes a note."""
    rows, notes = [], []
    for encoder in study.encoders:
        for name in study.corpora:
            printed = published.ENCODERS.get(encoder, {}).get(name)
            row: dict[str, Any] = {"encoder": encoder, "corpus": name}
            row |= _printed(printed) if printed else {}
            try:
                comparison = study.compare(name, ["cls"], encoder)
            except (BiorelError, FileNotFoundError) as error:
                notes.append(f"{encoder}: {error}")
                rows.append(row)
                continue
            rows.append({**row, **_ours(comparison, "cls", printed)})
    table = _counts(pd.DataFrame(rows))
    return Section("Table VI: other encoders, [CLS] alone", list(dict.fromkeys(notes)), {"table6": table})


def _results(study: Study, heads: Sequence[str], *, first: bool) -> tuple[pd.DataFrame, list[str]]:
    """One row per model and corpus (printed, ours, difference), and the notes."""
    rows: list[dict[str, Any]] = []
    notes = []
    for name in study.corpora:
        if first:
            rows.append({"model": "SOTA then", "head": None, "corpus": name})
            rows[-1] |= _printed(published.STATE_OF_THE_ART[name])
        comparison = study.compare(name, heads)
        for head in heads:
            printed = published.RESULTS[head][name]
            rows.append({"model": published.MODELS[head], "head": head, "corpus": name, **_printed(printed)})
            rows[-1] |= _ours(comparison, head, printed)
        notes.append(f"{published.TASKS[name]}: {comparison.results.protocol}.")
        notes += [f"Failed: {row.head}, seed {row.seed}: {row.error}" for row in named_rows(comparison.failures)]
    if study.encoder != "biobert":
        notes.insert(
            0, f"The printed figures are BioBERT's, ours are {study.encoder}'s, so the two are expected to differ."
        )
    return _counts(pd.DataFrame(rows)), notes


def _printed(figures: published.Figures) -> dict[str, float]:
    return {f"published_{name}": value for name, value in figures._asdict().items()}


def _ours(comparison: Comparison, head: str, printed: published.Figures | None) -> dict[str, Any]:
    (result,) = comparison.results[comparison.results["head"] == head].to_dict("records")
    trials = comparison.trials[comparison.trials["head"] == head]
    ours = {name: round(100 * result[name], 2) for name in ("precision", "recall", "f1", "sd")}
    ours["difference"] = None if printed is None else round(ours["f1"] - printed.f1, 2)
    ours["seeds"] = trials["seed"].nunique()
    return {**ours, "trials": result["trials"], "minutes": round(trials["seconds"].sum() / 60, 1)}


def _counts(table: pd.DataFrame) -> pd.DataFrame:
    """Keep counts integers where some are missing."""
    return table.astype({name: "Int64" for name in ("seeds", "trials") if name in table.columns})
