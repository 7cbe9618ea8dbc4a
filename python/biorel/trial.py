"""One trial: fine-tune on one division of a corpus, predict its test side, score it.

Cross-validation and comparison are made of these.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
from biorel import _biorel
from biorel.corpus import By, Corpus
from biorel.devices import choose
from biorel.encoder import Encoder
from biorel.errors import ConfigError
from biorel.scores import Scores, score_predictions
from biorel.training import Run, finetune

Row: TypeAlias = dict[str, Any]

# Settings that change nothing about the results.
_INDIFFERENT = ("threads", "progress", "state", "state_every", "checkpoint_layers")
# What an experiment decides by itself.
_OURS = {
    "corpus": "it is the first argument",
    "encoder": "it has its own argument",
    "head": "it has its own argument",
    "seed": "it has its own argument",
    "train": "the folds, or the corpus's own train split, say what is trained on",
    "test": "the folds, or the corpus's own test split, say what is scored",
    "callbacks": "they follow a single run",
    "state": "give `directory` instead, which keeps the training state too",
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
    for name in ("evaluate_every", "patience"):
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
    core = json.loads(_biorel.Settings({}).json).keys() - {"class_weights"}
    values = {name: value for name, value in full.items() if name in core}
    for head in heads:
        for seed in seeds:
            _biorel.Settings({**values, "head": head, "seed": seed})
    return {name: value for name, value in full.items() if name not in _INDIFFERENT}


class Folds(NamedTuple):
    """All folds of a corpus; `numbers` are what ``part`` takes."""

    corpus: Corpus
    by: By
    seed: int
    numbers: list[int]

    def part(self, number: int) -> Corpus:
        """The corpus as ``train`` and ``test``, with this fold held out."""
        return Corpus(self.corpus._core.fold(number, len(self.numbers), self.by, self.seed))

    def in_words(self) -> str:
        """As a protocol has it: ``10 folds by document``."""
        count = len(self.numbers)
        return f"{count} folds as the corpus gives them" if self.by == "given" else f"{count} folds by {self.by}"

    def plan(self) -> Row:
        """What decides the folds."""
        return {"by": self.by, "folds": len(self.numbers), "fold_seed": None if self.by == "given" else self.seed}


def folds_of(corpus: Corpus, folds: int | None, by: By | None, seed: int) -> Folds:
    """The corpus's own folds where it has some, unless something else is asked for."""
    given = corpus._core.given_folds
    by = by or ("document" if given is None else "given")
    if by == "given" and folds is not None and folds != given and given is not None:
        message = f'folds: {corpus.name} states {given} folds, not {folds}; leave `folds` out, or choose by="document"'
        raise ConfigError(message, "folds")
    return Folds(corpus, by, seed, corpus._core.fold_numbers(10 if folds is None else folds, by, seed))


def run_trial(
    corpus: Corpus, encoder: Encoder, state: Path | None, progress: bool, settings: Mapping[str, Any]
) -> tuple[Run, Row, pd.DataFrame]:
    """Fine-tune on ``train``, score on ``test``: the run, its headline scores, its predictions."""
    began = time.monotonic()
    run = finetune(corpus, encoder, state=state, progress=progress, **settings)
    predictions = run.predictions("test")
    record = {**headline(run.scores, corpus), "train": len(corpus.instances("train")), "test": len(predictions)}
    record |= {"steps": len(run.history), "seconds": round(time.monotonic() - began, 3)}
    return run, record, predictions


def headline(scores: Scores, corpus: Corpus) -> Row:
    """Precision, recall and F1 in the averaging of the corpus's task, and how many gold positives there are."""
    rows = scores.set_index("class")
    chosen: Any = rows.loc[corpus._core.task.headline]
    positive = [label for label in corpus.labels if label != corpus.negative]
    numbers: Row = {name: float(chosen[name]) for name in ("precision", "recall", "f1")}
    return {**numbers, "support": int(rows.loc[positive, "support"].sum())}


def score_pooled(corpus: Corpus, predictions: pd.DataFrame, what: str) -> Scores:
    """Scores of the decisions of all folds together; what was lost while the corpus was read counts as missed."""
    lost = [sum(counts) for counts in zip(*(corpus._core.lost(split) for split in corpus.splits), strict=True)]
    return score_predictions(predictions, corpus, what, lost=lost)
