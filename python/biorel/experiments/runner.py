"""Run the trials of an experiment that have not finished yet, and keep what each gives as soon as it is there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from biorel._types import Engine, Row
from biorel.data.corpus import Corpus
from biorel.experiments.executor import execute
from biorel.experiments.folds import Folds
from biorel.experiments.run_directory import RunDirectory, prediction_rows
from biorel.experiments.trial import Task
from biorel.models.encoder import Encoder
from tqdm.auto import tqdm


class PlannedTrial(NamedTuple):
    """One trial of an experiment, before anything of it is loaded."""

    fields: Row  # its record starts with them
    source: Corpus | Folds
    fold: int | None
    load_encoder: Callable[[], Encoder]  # called when the trial starts
    settings: Row  # of `finetune`
    keep_model: bool = False


class MemoryStore:
    """What a ``RunDirectory`` keeps, for an experiment without one; it ends with the process."""

    plan_file = None

    def __init__(self) -> None:
        self.records: dict[str, Row] = {}
        self._predictions: dict[str, list[Row]] = {}

    def locked(self) -> contextlib.AbstractContextManager[MemoryStore]:
        """Nobody else can see it."""
        return contextlib.nullcontext(self)

    def state(self, trial: str) -> None:
        """No training state is kept."""

    def model(self, trial: str) -> None:
        """No model is kept."""

    def finish(self, trial: str, record: Row, predictions: list[Row] | None) -> None:
        """Keep the result of a trial."""
        self.records[trial] = {"trial": trial, **record}
        self._predictions[trial] = predictions or []

    def predictions(self, trial: str) -> list[Row]:
        """The predictions of a finished trial, a dict per instance."""
        return self._predictions[trial]

    def write_tables(self, **tables: pd.DataFrame) -> None:
        """They are written nowhere."""


Store = RunDirectory | MemoryStore


def run_trials(
    trials: Mapping[str, PlannedTrial],
    store: Store,
    *,
    engine: Engine,
    jobs: int,
    unit: str,
    progress: bool,
    record_failures: bool,
    retry_failed: bool = False,
) -> None:
    """Run what has not finished; afterwards ``store.records`` has every trial.

    Parameters
    ----------
    trials : mapping of str to PlannedTrial
        By the names that the store keeps them under, in the order to run them.
    store : RunDirectory or MemoryStore
        Locked by the caller.
    engine : {"local", "ray"}
        Where to run them.
    jobs : int
        How many concurrently; 0, with Ray, for as many as the cluster takes.
    unit : str
        What the progress bar counts: ``trial``, ``fold``.
    progress : bool
        Show progress bars.
    record_failures : bool
        Record an error of a trial and continue with the others; else it is raised.
    retry_failed : bool
        Run trials again whose failure was recorded earlier.

    Raises
    ------
    OSError
        What the operating system refuses (a full disk) is always raised: it would meet the other trials too.
    """
    pending = {name: trial for name, trial in trials.items() if not _is_done(name, trial, store, retry_failed)}
    results = execute(_tasks(pending, store), engine=engine, jobs=jobs, plan=store.plan_file, progress=progress)
    done = len(trials) - len(pending)
    bar = tqdm(total=len(trials), initial=done, desc=f"{unit}s", unit=unit, disable=not progress)
    with contextlib.closing(results), bar:
        for task, result in results:
            fields = pending[task.name].fields
            if not isinstance(result, Exception):
                record = {**fields, "status": "finished", **result.record}
                store.finish(task.name, record, prediction_rows(result.predictions))
            elif record_failures:
                error = f"{type(result).__name__}: {result}"
                store.finish(task.name, {**fields, "status": "failed", "error": error}, None)
            else:
                raise result
            bar.update()


def _is_done(name: str, trial: PlannedTrial, store: Store, retry_failed: bool) -> bool:
    record = store.records.get(name)
    if record is None:
        return False
    if record.get("status") == "failed":
        return not retry_failed
    return not trial.keep_model or _exists(store.model(name))


def _exists(path: Path | None) -> bool:
    return path is not None and path.exists()


def _tasks(trials: Mapping[str, PlannedTrial], store: Store) -> Iterator[Task]:
    for name, trial in trials.items():
        model = store.model(name) if trial.keep_model else None
        encoder = trial.load_encoder()
        yield Task(name, trial.source, trial.fold, encoder, trial.settings, store.state(name), model)
