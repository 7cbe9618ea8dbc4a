"""Run the unfinished trials of an experiment, and record each result as soon as it is available."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from biorel._progress import Progress, describe_duration, write_line
from biorel._types import Engine, Row
from biorel.data.corpus import Corpus
from biorel.experiments.executor import execute
from biorel.experiments.folds import Folds
from biorel.experiments.run_directory import RunDirectory, prediction_rows
from biorel.experiments.trial import Task
from biorel.models.encoder import Encoder


class PlannedTrial(NamedTuple):
    """One trial of an experiment, before its encoder is loaded."""

    fields: Row  # the first fields of its record
    source: Corpus | Folds
    fold: int | None
    load_encoder: Callable[[], Encoder]  # called when the trial starts
    settings: Row  # of `finetune`
    save_model: bool = False


class MemoryStore:
    """Stores the results in memory, for an experiment without a ``RunDirectory``."""

    plan_file = None

    def __init__(self) -> None:
        self.records: dict[str, Row] = {}
        self._predictions: dict[str, list[Row]] = {}

    def locked(self) -> contextlib.AbstractContextManager[MemoryStore]:
        """No lock is needed."""
        return contextlib.nullcontext(self)

    def checkpoint(self, trial: str) -> None:
        """No training checkpoint is saved."""

    def model(self, trial: str) -> None:
        """No model is saved."""

    def finish(self, trial: str, record: Row, predictions: list[Row] | None) -> None:
        """Record the result of a trial."""
        self.records[trial] = {"trial": trial, **record}
        self._predictions[trial] = predictions or []

    def predictions(self, trial: str) -> list[Row]:
        """The predictions of a finished trial, one dict per instance."""
        return self._predictions[trial]

    def write_tables(self, **tables: pd.DataFrame) -> None:
        """Nothing is written."""


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
    before: int = 0,
    total: int | None = None,
) -> None:
    """Run the unfinished trials; afterwards ``store.records`` has every trial.

    Parameters
    ----------
    trials : mapping of str to PlannedTrial
        The trials by their names in the store, in the order of execution.
    store : RunDirectory or MemoryStore
        The store, locked by the caller.
    engine : {"local", "ray"}
        Where to execute them.
    jobs : int
        The number of concurrent trials; 0, with Ray, for as many as the cluster has room for.
    unit : str
        The unit of the progress bar: ``trial``, ``fold``.
    progress : bool
        Show progress bars.
    record_failures : bool
        Record the error of a trial and continue with the others; otherwise raise it.
    retry_failed : bool
        Repeat trials whose failure was recorded earlier.
    before, total : int
        How many trials have run before these, and how many there are in all, for messages.

    Raises
    ------
    OSError
        Errors of the operating system (a full disk) are always raised, since they would affect the other trials too.
    """
    pending = {name: trial for name, trial in trials.items() if not _is_done(name, trial, store, retry_failed)}
    results = execute(_tasks(pending, store), engine=engine, jobs=jobs, plan=store.plan_file, progress=progress)
    done = before + len(trials) - len(pending)
    total = len(trials) if total is None else total
    # Sequential trials have bars of their own.
    bar = Progress(total, f"{unit}s", f"{unit}s", show=progress and jobs != 1, initial=done)
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
            done += 1
            bar.advance(done)
            if progress:
                record = store.records[task.name]
                write_line(f"{unit} {done} of {total}, {_describe(fields)}: {_outcome(record)}")


def _describe(fields: Row) -> str:
    values = {name: value for name, value in fields.items() if value is not None and name not in ("trial", "number")}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _outcome(record: Row) -> str:
    if record["status"] == "failed":
        return f"failed ({record['error']})"
    return f"F1 {record['f1']:.3f}, {record['steps']:,} steps in {describe_duration(record['seconds'])}"


def _is_done(name: str, trial: PlannedTrial, store: Store, retry_failed: bool) -> bool:
    record = store.records.get(name)
    if record is None:
        return False
    if record.get("status") == "failed":
        return not retry_failed
    return not trial.save_model or _exists(store.model(name))


def _exists(path: Path | None) -> bool:
    return path is not None and path.exists()


def _tasks(trials: Mapping[str, PlannedTrial], store: Store) -> Iterator[Task]:
    for name, trial in trials.items():
        model = store.model(name) if trial.save_model else None
        encoder = trial.load_encoder()
        yield Task(name, trial.source, trial.fold, encoder, trial.settings, store.checkpoint(name), model)
