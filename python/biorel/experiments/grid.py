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

# A head if there is one encoder, an encoder if there is one head, or (encoder, head).
Which: TypeAlias = "str | tuple[str, str]"
KEYS = ("encoder", "head", "seed", "fold")


class Trial(NamedTuple):
    """One cell of the grid; `fold` is None if the corpus's own train and test splits are used."""

    encoder: str
    head: str
    seed: int
    fold: int | None

    def name(self, encoder_hash: str) -> str:
        """The name in the run directory; the hash distinguishes different encoders with the same name."""
        fold = "" if self.fold is None else f" fold-{self.fold}"
        return f"{Path(self.encoder).name}-{encoder_hash[:16]} {self.head} seed-{self.seed}{fold}"


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

    def record(self, trial: Trial) -> Row:
        """The record of a trial."""
        return self.directory.records[self.names[trial]]

    def records(self) -> pd.DataFrame:
        """One row per trial; see ``Comparison.trials``."""
        rows = []
        for trial in self.names:
            record = {key: value for key, value in self.record(trial).items() if key != "trial"}
            rows.append({**record, **trial._asdict()})
        columns = [*KEYS, "status", *MEASURES, "support", "train", "test", "steps", "seconds", "error"]
        counts = dict.fromkeys(["fold", "support", "train", "test", "steps"], "Int64")
        table = pd.DataFrame(rows, columns=columns)
        return table.astype({**counts, **dict.fromkeys([*MEASURES, "seconds"], float)})

    def finished(self, encoder: str | None = None, head: str | None = None) -> list[Trial]:
        """The finished trials, optionally of one encoder or head."""
        return [
            trial
            for trial in self.names
            if encoder in (None, trial.encoder)
            and head in (None, trial.head)
            and self.record(trial)["status"] == "finished"
        ]

    def errors(self) -> list[str]:
        """The errors of the failed trials."""
        return [record["error"] for record in map(self.record, self.names) if record["status"] == "failed"]

    def of_one_seed(self, head: str, encoder: str | None, seed: int | None) -> list[Trial]:
        """The finished trials of a head with one seed, in the order of the folds."""
        chosen = self.select(head if encoder is None else (encoder, head), "head")
        trials = [trial for trial in self.finished(*chosen) if seed in (None, trial.seed)]
        seeds = sorted({trial.seed for trial in trials})
        if not seeds:
            errors = "; ".join(dict.fromkeys(self.errors())) or "there is no trial with that seed"
            raise ConfigError(f"head: no trial of `{head}` has finished ({errors})", "head")
        if len(seeds) > 1:
            raise ConfigError(f"seed: `{head}` has finished with the seeds {seeds}; name one of them", "seed")
        return trials

    def select(self, side: Which, field: str) -> tuple[str, str]:
        """The encoder and head of a side; errors name the setting `field`."""
        encoders = list(dict.fromkeys(trial.encoder for trial in self.names))
        heads = list(dict.fromkeys(trial.head for trial in self.names))
        if not isinstance(side, str):
            encoder, head = side
            chosen = [(encoder, head)] if encoder in encoders and head in heads else []
        elif side in heads:
            chosen = [(encoder, side) for encoder in encoders]
        else:
            chosen = [(side, head) for head in heads] if side in encoders else []
        if len(chosen) == 1:
            return chosen[0]
        problem = "could be several" if chosen else "is not in this comparison"
        existing = f"heads {', '.join(heads)}; encoders {', '.join(encoders)}"
        raise ConfigError(f"{field}: {side!r} {problem}; give (encoder, head). There are {existing}", field)

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
