"""Paired tests of two sides of a comparison, on the predictions of their finished trials."""

from __future__ import annotations

import pandas as pd
from biorel.errors import ConfigError
from biorel.evaluation.paired_tests import Side, compare_decisions
from biorel.evaluation.scores import Scores
from biorel.experiments.grid import Grid, Trial, Which, one_or_each


def compare_sides(
    grid: Grid, first: Which, second: Which, *, unit: str, samples: int, confidence_level: float, seed: int
) -> Scores:
    """Test one setup against another; see ``Comparison.paired``."""
    sides = grid.select(first, "first"), grid.select(second, "second")
    if sides[0] == sides[1]:
        raise ConfigError(f"second: {second!r} is also the first side; name two different sides", "second")
    finished = [{(trial.seed, trial.fold): trial for trial in grid.finished(side)} for side in sides]
    folds = list(dict.fromkeys(trial.fold for trial in grid.trials))
    seeds = list(dict.fromkeys(trial.seed for trial in grid.trials))
    complete = [seed for seed in seeds if all((seed, fold) in side for side in finished for fold in folds)]
    if not complete:
        raise ConfigError("first: no seed has finished all its trials on both sides; see .failures", "first")
    read = [_side(grid, side, complete, folds) for side in finished]
    table = compare_decisions(
        grid.corpus,
        read[0],
        read[1],
        complete,
        unit=unit,
        samples=samples,
        confidence_level=confidence_level,
        seed=seed,
    )
    left = sorted(set(seeds) - set(complete))
    without = f" (seeds {', '.join(map(str, left))} left out: not finished on both sides)" if left else ""
    names = [" ".join(side.names()) for side in sides]
    protocols = {name: grid.protocol(side.table, "pooled") for name, side in zip(names, read, strict=True)}
    table.attrs["protocol"] = (
        f"{' against '.join(names)}, {len(complete)} seeds{without}; {one_or_each(protocols)}; "
        "two-sided p, not corrected for several comparisons"
    )
    return table


def _side(grid: Grid, finished: dict[tuple[int, int | None], Trial], seeds: list[int], folds: list[int | None]) -> Side:
    tables = {seed: pd.concat([grid.predictions(finished[seed, fold]) for fold in folds]) for seed in seeds}
    over: list[list[float]] = [[grid.record(finished[seed, fold])["f1"] for fold in folds] for seed in seeds]
    by_fold = folds != [None]
    scores = [sum(values) / len(values) for values in (zip(*over, strict=True) if by_fold else over)]
    first = tables[seeds[0]].reset_index(drop=True)
    return Side(first, [table["predicted"].tolist() for table in tables.values()], scores, by_fold)
