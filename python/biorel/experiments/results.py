"""The results of a comparison: one row per encoder, head and variant, over folds or seeds."""

from __future__ import annotations

from typing import Any

import pandas as pd
from biorel import _biorel
from biorel.evaluation.scores import MEASURES, Scores, score_pooled
from biorel.experiments.grid import Grid, Setup, Trial, one_or_each


def summarize(grid: Grid) -> Scores:
    """Means, standard deviations and intervals of the finished trials; see ``Comparison.results``."""
    trials = grid.records()
    rows = []
    by_fold = grid.folds is not None
    for setup in grid.setups:
        named = {key: value for key, value in setup._asdict().items() if key in grid.keys}
        group = trials[(trials[list(named)] == list(named.values())).all(axis=1)]
        done = group[group["status"] == "finished"]
        values = done.groupby("fold" if by_fold else "seed")["f1"].mean()
        low, high = _biorel.t_interval(values.tolist(), 0.95) or (None, None)
        row = {**named, "trials": len(done), "failed": len(group) - len(done)}
        row |= {name: done[name].mean() for name in MEASURES}
        row |= {"sd": values.std(), "low": low, "high": high}
        if by_fold:
            row["pooled_f1"] = _pooled(grid, setup)
        rows.append(row)
    floats = [*MEASURES, "sd", "low", "high", *(["pooled_f1"] if by_fold else [])]
    results = Scores(pd.DataFrame(rows).astype(dict.fromkeys(floats, float)))
    protocol = _protocol(grid) or "no trial has finished"
    over = "folds, each averaged over its seeds; training data overlap, so the interval is somewhat too narrow"
    results.attrs["protocol"] = f"{protocol}; sd and 95 % t interval over the {over if by_fold else 'seeds'}"
    return results


def _protocol(grid: Grid) -> str:
    """The protocol of the means; where setups dropped different numbers of instances, that of each."""
    protocols = {}
    for setup in grid.setups:
        if finished := grid.finished(setup):
            tables = [grid.predictions(trial) for trial in finished if trial.seed == finished[0].seed]
            protocols[" ".join(setup.names())] = grid.protocol(pd.concat(tables), "mean")
    return one_or_each(protocols)


def _pooled(grid: Grid, setup: Setup) -> float | None:
    """Mean over the seeds for which all folds have finished."""
    folds = {trial.fold for trial in grid.trials}
    by_seed: dict[int, list[Trial]] = {}
    for trial in grid.finished(setup):
        by_seed.setdefault(trial.seed, []).append(trial)
    values: list[float] = []
    for trials in by_seed.values():
        if {trial.fold for trial in trials} == folds:
            scores = score_pooled(grid.corpus, pd.concat([grid.predictions(trial) for trial in trials]), "pooled")
            pooled: Any = scores.set_index("class").loc[grid.corpus._core.task.headline, "f1"]
            values.append(float(pooled))
    return sum(values) / len(values) if values else None
