"""The grid of a comparison: its trials, and their records in the run directory."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TypeAlias

import pandas as pd
from biorel._types import Row
from biorel.data.corpus import Corpus
from biorel.errors import ConfigError
from biorel.evaluation.scores import MEASURES, score_pooled, score_predictions
from biorel.experiments.folds import Folds
from biorel.experiments.run_directory import RunDirectory, prediction_table

# The name of a head, an encoder or a variant that has only one setup; or several names, such as (encoder, head).
Which: TypeAlias = "str | tuple[str, ...]"


class Setup(NamedTuple):
    """What the trials of one row of results share; `variant` is None in a comparison without variants."""

    encoder: str
    head: str
    variant: str | None

    def names(self) -> list[str]:
        """The names of its parts."""
        return [name for name in self if name is not None]


class Trial(NamedTuple):
    """One cell of the grid; `fold` is None if the corpus's own train and test splits are used."""

    encoder: str
    head: str
    variant: str | None
    seed: int
    fold: int | None

    @property
    def setup(self) -> Setup:
        """What it shares with the trials of other seeds and folds."""
        return Setup(self.encoder, self.head, self.variant)

    def fields(self) -> Row:
        """The first fields of its record; `variant` only if it has one."""
        return {name: value for name, value in self._asdict().items() if name != "variant" or value is not None}

    def name(self, encoder_hash: str) -> str:
        """The name in the run directory; the hash distinguishes different encoders with the same name."""
        variant = "" if self.variant is None else f" variant-{self.variant}"
        fold = "" if self.fold is None else f" fold-{self.fold}"
        return f"{Path(self.encoder).name}-{encoder_hash[:16]} {self.head}{variant} seed-{self.seed}{fold}"


class Grid:
    """All trials of a comparison, with their records in the run directory."""

    def __init__(self, corpus: Corpus, directory: RunDirectory, names: dict[Trial, str], folds: Folds | None) -> None:
        self.corpus = corpus
        self.directory = directory
        self.names = names
        self.folds = folds

    @property
    def trials(self) -> list[Trial]:
        """The trials in the order of the grid."""
        return list(self.names)

    @property
    def setups(self) -> list[Setup]:
        """The setups in the order of the grid."""
        return list(dict.fromkeys(trial.setup for trial in self.names))

    @property
    def keys(self) -> list[str]:
        """The columns that identify a trial."""
        has_variants = any(trial.variant is not None for trial in self.names)
        return [name for name in Trial._fields if name != "variant" or has_variants]

    def record(self, trial: Trial) -> Row:
        """The record of a trial."""
        return self.directory.records[self.names[trial]]

    def records(self) -> pd.DataFrame:
        """One row per trial; see ``Comparison.trials``."""
        rows = []
        for trial in self.names:
            record = {key: value for key, value in self.record(trial).items() if key != "trial"}
            rows.append({**record, **trial._asdict()})
        columns = [*self.keys, "status", *MEASURES, "support", "train", "test", "steps", "seconds", "error"]
        counts = dict.fromkeys(["fold", "support", "train", "test", "steps"], "Int64")
        table = pd.DataFrame(rows, columns=columns)
        return table.astype({**counts, **dict.fromkeys([*MEASURES, "seconds"], float)})

    def finished(self, setup: Setup | None = None) -> list[Trial]:
        """The finished trials, optionally of one setup."""
        return [
            trial for trial in self.names if setup in (None, trial.setup) and self.record(trial)["status"] == "finished"
        ]

    def errors(self) -> list[str]:
        """The errors of the failed trials."""
        return [record["error"] for record in map(self.record, self.names) if record["status"] == "failed"]

    def of_one_seed(self, which: Which, seed: int | None) -> list[Trial]:
        """The finished trials of a setup with one seed, in the order of the folds."""
        setup = self.select(which, "head")
        trials = [trial for trial in self.finished(setup) if seed in (None, trial.seed)]
        seeds = sorted({trial.seed for trial in trials})
        if not seeds:
            errors = "; ".join(dict.fromkeys(self.errors())) or "there is no trial with that seed"
            raise ConfigError(f"head: no trial of `{setup.head}` has finished ({errors})", "head")
        if len(seeds) > 1:
            raise ConfigError(f"seed: `{setup.head}` has finished with the seeds {seeds}; name one of them", "seed")
        return trials

    def select(self, which: Which, field: str) -> Setup:
        """The only setup with these names; errors name the setting `field`."""
        names = [which] if isinstance(which, str) else [*which]
        setups = self.setups
        chosen = [setup for setup in setups if setup.names() == names]
        # An encoder may have the name of a head; then all names in their order are exact.
        chosen = chosen or [setup for setup in setups if {*names} <= {*setup.names()}]
        if len(chosen) == 1:
            return chosen[0]
        problem = "could be several" if chosen else "is not in this comparison"
        kinds = [kind for kind in Setup._fields if kind in self.keys]
        existing = "; ".join(
            f"{kind}s {', '.join(dict.fromkeys(getattr(setup, kind) for setup in setups))}" for kind in kinds
        )
        raise ConfigError(f"{field}: {which!r} {problem}; give ({', '.join(kinds)}). There are {existing}", field)

    def predictions(self, trial: Trial) -> pd.DataFrame:
        """The predictions of a finished trial."""
        return prediction_table(self.directory.predictions(self.names[trial]))

    def part(self, trial: Trial) -> Corpus:
        """The corpus whose ``test`` split the trial was scored on."""
        return self.corpus if self.folds is None or trial.fold is None else self.folds.part(trial.fold)

    def protocol(self, predictions: pd.DataFrame, convention: str) -> str:
        """The protocol of a score of these predictions; with folds it includes the convention."""
        if self.folds is None:
            return score_predictions(predictions, self.corpus, "test").protocol
        return score_pooled(self.corpus, predictions, f"{self.folds.describe()}, {convention}").protocol


def one_or_each(protocols: dict[str, str]) -> str:
    """The protocol that all have in common, or each with its name."""
    if len(set(protocols.values())) <= 1:
        return next(iter(protocols.values()), "")
    return "; ".join(f"{name}: {protocol}" for name, protocol in protocols.items())
