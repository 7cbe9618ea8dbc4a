"""One trial of a cross-validation or comparison: fine-tune on ``train``, predict ``test``, score the predictions."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
from biorel import _biorel
from biorel._types import Row
from biorel.data.corpus import Corpus
from biorel.errors import ConfigError
from biorel.evaluation.scores import headline
from biorel.experiments.folds import Folds
from biorel.models.devices import choose
from biorel.models.encoder import Encoder
from biorel.training.callbacks import Callback
from biorel.training.finetune import CORE_SETTINGS, finetune
from biorel.training.run import Run

# Settings that do not affect the results.
_INDIFFERENT = ("threads", "progress", "checkpoint", "save_steps", "gradient_checkpointing")
# Settings that an experiment determines itself, with the reason.
_RESERVED = {
    "corpus": "it is the first argument",
    "encoder": "it has its own argument",
    "head": "it has its own argument",
    "seed": "it has its own argument",
    "preset": "give its settings one by one",
    "train": "the folds, or the corpus's own train split, determine the training data",
    "test": "the folds, or the corpus's own test split, determine the test data",
    "callbacks": "they observe a single run",
    "checkpoint": "give `directory` instead, which also stores training checkpoints",
    "progress": "it has its own argument",
}


def checked_settings(
    settings: Mapping[str, Any],
    heads: Sequence[str],
    seeds: Sequence[int],
    *,
    folds: bool,
    engine: str,
    combined: bool = True,
) -> Row:
    """Validate settings; returns all settings of ``finetune`` that affect the results, including defaults.

    With `combined`, every head has to fit the marking.
    """
    known = inspect.signature(finetune).parameters
    for name in settings:
        if name not in known:
            raise TypeError(f"`{name}` is not a setting of finetune; see help(biorel.finetune)")
        if name in _RESERVED:
            raise ConfigError(f"{name}: cannot be set here; {_RESERVED[name]}", name)
    if folds and settings.get("dev") is not None:
        raise ConfigError("dev: cannot be set here; with folds the only splits are train and test", "dev")
    for name in ("eval_steps", "patience"):
        if settings.get(name) is not None and settings.get("dev") is None:
            raise ConfigError(f"{name}: needs held-out data: name a split as dev", name)
    full = {name: settings.get(name, known[name].default) for name in known if name not in _RESERVED}
    if engine == "ray" and str(full["device"]).startswith("cuda"):
        # The GPUs are in the cluster; this machine may have none.
        choose("cpu", full["precision"], full["threads"])
        full["precision"] = "bf16" if full["precision"] == "auto" else full["precision"]
        compute = None
    else:
        compute = choose(full["device"], full["precision"], full["threads"])
        full["precision"] = compute.precision
    if compute is not None and compute.device.startswith("cuda"):
        full["device"] = compute.device  # a comparison started on a GPU must not resume on the processor
    # `finetune` checks the class weights, which need the labels of the corpus.
    core = CORE_SETTINGS.keys() - {"class_weights"}
    values = {name: value for name, value in full.items() if name in core}
    for head in heads:
        for seed in seeds:
            checked = _biorel.Settings({**values, "head": head, "seed": seed})
            if combined:
                checked.check_marking(full["marking"])
    return {name: value for name, value in full.items() if name not in _INDIFFERENT}


def run_trial(
    corpus: Corpus, encoder: Encoder, checkpoint: Path | None, progress: bool, settings: Mapping[str, Any]
) -> tuple[Run, Row, pd.DataFrame]:
    """Fine-tune on ``train`` and score on the test split; returns the run, its headline scores and its predictions."""
    start = time.monotonic()
    split = settings.get("test", "test")
    run = finetune(corpus, encoder, checkpoint=checkpoint, progress=progress, **settings)
    predictions = run.predictions(split)
    record = {**headline(run.scores, corpus), "train": len(corpus.instances("train")), "test": len(predictions)}
    record |= {"steps": len(run.history), "seconds": round(time.monotonic() - start, 3)}
    return run, record, predictions


class Task(NamedTuple):
    """One trial to run; it can be pickled."""

    name: str
    source: Corpus | Folds
    fold: int | None
    encoder: Encoder
    settings: Row  # of `finetune`
    checkpoint: Path | None
    model: Path | None  # where to save it

    def part(self) -> Corpus:
        """The corpus with the splits ``train`` and ``test`` of this trial."""
        if isinstance(self.source, Folds):
            return self.source.part(0 if self.fold is None else self.fold)
        return self.source


class Done(NamedTuple):
    """The result of a trial."""

    record: Row
    predictions: pd.DataFrame


Result: TypeAlias = Done | Exception


def attempt(task: Task, *, progress: bool = False, callbacks: Sequence[Callback] = ()) -> Result:
    """Run a trial; an exception is returned as its result."""
    try:
        settings = {**task.settings, "callbacks": callbacks} if callbacks else task.settings
        run, record, predictions = run_trial(task.part(), task.encoder, task.checkpoint, progress, settings)
        if task.model is not None:
            run.save(task.model)
    except Exception as error:
        return error
    return Done(record, predictions)
