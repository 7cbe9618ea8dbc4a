"""One trial: fine-tune on one division of a corpus, predict its test side, score it.

Cross-validation and comparison are made of these.
"""

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

# Settings that change nothing about the results.
_INDIFFERENT = ("threads", "progress", "checkpoint", "save_steps", "gradient_checkpointing")
# What an experiment decides by itself.
_OURS = {
    "corpus": "it is the first argument",
    "encoder": "it has its own argument",
    "head": "it has its own argument",
    "seed": "it has its own argument",
    "train": "the folds, or the corpus's own train split, say what is trained on",
    "test": "the folds, or the corpus's own test split, say what is scored",
    "callbacks": "they follow a single run",
    "checkpoint": "give `directory` instead, which keeps the training state too",
    "progress": "it has its own argument",
}


def checked_settings(
    settings: Mapping[str, Any], heads: Sequence[str], seeds: Sequence[int], *, folds: bool, engine: str
) -> Row:
    """All settings of ``finetune`` that decide the results, defaults included; a wrong one is an error now."""
    known = inspect.signature(finetune).parameters
    for name in settings:
        if name not in known:
            raise TypeError(f"`{name}` is not a setting of finetune; see help(biorel.finetune)")
        if name in _OURS:
            raise ConfigError(f"{name}: cannot be set here; {_OURS[name]}", name)
    if folds and settings.get("dev") is not None:
        raise ConfigError("dev: cannot be set here; with folds there are no splits but train and test", "dev")
    for name in ("eval_steps", "patience"):
        if settings.get(name) is not None and settings.get("dev") is None:
            raise ConfigError(f"{name}: needs held-out data to evaluate on: name a split as dev", name)
    full = {name: settings.get(name, known[name].default) for name in known if name not in _OURS}
    if engine == "ray" and str(full["device"]).startswith("cuda"):
        # The GPUs are the cluster's; there may be none here.
        choose("cpu", full["precision"], full["threads"])
        full["precision"] = "bf16" if full["precision"] == "auto" else full["precision"]
        compute = None
    else:
        compute = choose(full["device"], full["precision"], full["threads"])
        full["precision"] = compute.precision
    if compute is not None and compute.device.startswith("cuda"):
        full["device"] = compute.device  # a comparison that began on a GPU is not continued on the processor
    # The weights of labels are checked with the corpus, by `finetune`.
    core = CORE_SETTINGS.keys() - {"class_weights"}
    values = {name: value for name, value in full.items() if name in core}
    for head in heads:
        for seed in seeds:
            _biorel.Settings({**values, "head": head, "seed": seed})
    return {name: value for name, value in full.items() if name not in _INDIFFERENT}


def run_trial(
    corpus: Corpus, encoder: Encoder, state: Path | None, progress: bool, settings: Mapping[str, Any]
) -> tuple[Run, Row, pd.DataFrame]:
    """Fine-tune on ``train``, score on ``test``: the run, its headline scores, its predictions."""
    began = time.monotonic()
    run = finetune(corpus, encoder, checkpoint=state, progress=progress, **settings)
    predictions = run.predictions("test")
    record = {**headline(run.scores, corpus), "train": len(corpus.instances("train")), "test": len(predictions)}
    record |= {"steps": len(run.history), "seconds": round(time.monotonic() - began, 3)}
    return run, record, predictions


class Task(NamedTuple):
    """One trial that is to be done; all of it can be sent to another process."""

    name: str
    source: Corpus | Folds
    fold: int | None
    encoder: Encoder
    settings: Row  # of `finetune`
    state: Path | None
    model: Path | None  # where it is to be kept

    def part(self) -> Corpus:
        """The corpus whose train and test it is."""
        if isinstance(self.source, Folds):
            return self.source.part(0 if self.fold is None else self.fold)
        return self.source


class Done(NamedTuple):
    """The result of a trial."""

    record: Row
    predictions: pd.DataFrame


Result: TypeAlias = Done | Exception


def attempt(task: Task, *, progress: bool = False, callbacks: Sequence[Callback] = ()) -> Result:
    """Do it; an error is a result too."""
    try:
        settings = {**task.settings, "callbacks": callbacks} if callbacks else task.settings
        run, record, predictions = run_trial(task.part(), task.encoder, task.state, progress, settings)
        if task.model is not None:
            run.save(task.model)
    except Exception as error:
        return error
    return Done(record, predictions)
