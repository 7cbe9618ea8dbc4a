"""One reproduction: its corpora, its settings, and the comparisons that the items share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from biorel._types import Head, PathLike
from biorel.data.corpus import Corpus
from biorel.data.loading import load_corpus
from biorel.errors import ConfigError
from biorel.experiments.compare import compare
from biorel.experiments.comparison import Comparison
from biorel.training.presets import PairPreset, with_preset

CORPORA = ("aimed", "ddi", "chemprot")


class Plan(NamedTuple):
    """What a preset chooses besides the settings of `finetune`."""

    encoders: tuple[str, ...]
    seeds: tuple[int, ...]
    folds: Literal["all", "first"]
    description: str


PLANS = {
    "paper": Plan(("biobert", "scibert", "bluebert"), (1,), "all", "The paper's settings"),
    "standard": Plan(("minilm",), (1, 2), "all", "A small encoder, all pairs; settings chosen on training data"),
    "quick": Plan(("minilm",), (1,), "first", "NOT the paper's settings: a small encoder and few steps"),
}


class Study:
    """The corpora, the settings, and the comparisons that the items share."""

    def __init__(
        self,
        corpora: dict[str, Corpus],
        *,
        directory: Path,
        preset: PairPreset,
        encoders: Sequence[str | PathLike] | Mapping[str, PathLike] | None,
        seeds: Sequence[int] | None,
        folds: Literal["all", "first"] | None,
        trials: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> None:
        self.corpora = corpora
        self.directory = directory
        plan = PLANS[preset]
        self.description = plan.description
        if encoders is None:
            encoders = plan.encoders
        if isinstance(encoders, str) or not encoders:
            raise ConfigError(f"encoders: must be a list or a mapping, not {encoders!r}", "encoders")
        named = encoders if isinstance(encoders, Mapping) else {os.fspath(one): one for one in encoders}
        self.encoders: dict[str, PathLike] = dict(named)
        self.encoder = next(iter(self.encoders))
        self.seeds = list(plan.seeds if seeds is None else seeds)
        self.folds = folds or plan.folds
        self.trials = trials
        self.settings = with_preset(preset, settings)
        self.precisions: set[str] = set()  # of the trials that items used
        self._words: dict[tuple[str, int], pd.DataFrame] = {}

    def changes(self) -> str:
        """Describe the settings that differ from the paper's."""
        changes = [
            f"{name}={value!r}"
            for name, value in self.settings.items()
            if name not in ("threads", "device", "precision")
        ]
        return ", ".join(changes) or "settings of the paper"

    def compare(self, name: str, heads: Sequence[Any], encoder: str | None = None) -> Comparison:
        """Train the missing trials in the run directory of the corpus."""
        corpus = self.corpora[name]
        folds: Any = None
        if "train" not in corpus.splits:
            given = corpus._core.given_folds
            folds = "given" if given else 10
            if self.folds == "first":
                corpus, folds = corpus.fold(0), None
        source: Any = self.encoders[encoder or self.encoder]
        # Table V and the figures read the attention of these models later.
        saved: list[Head] = ["attention"] if "attention" in heads else []
        with warnings.catch_warnings():
            # The same warning in every trial would hide all others.
            warnings.filterwarnings("ignore", message=".*training instances were cut.*")
            comparison = compare(
                corpus,
                directory=self.directory / "runs" / name,
                heads=heads,
                encoders=[source],
                seeds=self.seeds,
                folds=folds,
                save_models=saved,
                **self.trials,
                **self.settings,
            )
        self.precisions.add(comparison.settings["precision"])
        return comparison

    def words(self, name: str, seed: int | None = None) -> pd.DataFrame:
        """Word weights of the attention head on the test instances."""
        seed = self.seeds[0] if seed is None else seed
        if (name, seed) not in self._words:
            self._words[name, seed] = self.compare(name, ["attention"]).attention("attention", seed=seed)
        return self._words[name, seed]

    def untrained(self, name: str) -> pd.DataFrame:
        """The same word weights from the untrained model, a baseline of what arises without learning."""
        return self.compare(name, ["attention"]).attention("attention", seed=self.seeds[0], untrained=True)


def read_corpora(given: PathLike | Mapping[str, PathLike | Corpus]) -> dict[str, Corpus]:
    """Load the corpora that were given, in the order of `CORPORA`; see ``reproduce``."""
    found: dict[str, PathLike | Corpus] = {}
    if isinstance(given, Mapping):
        for name in given:
            if name not in CORPORA:
                raise ConfigError(f"corpora: `{name}` is not one of {', '.join(CORPORA)}", "corpora")
        found = dict(given)
    else:
        entries = sorted(Path(given).iterdir())
        for name in CORPORA:
            for entry in entries:
                if entry.name.lower().startswith(name) and name not in found:
                    found[name] = _corpus_file(entry)
    if not found:
        raise ConfigError(f"corpora: {given} contains none of {', '.join(CORPORA)}", "corpora")
    corpora = {}
    for name in (name for name in CORPORA if name in found):
        source = found[name]
        splits: Any = "blue" if name == "ddi" else None
        corpora[name] = source if isinstance(source, Corpus) else load_corpus(name, source, splits=splits)
    return corpora


def _corpus_file(path: Path) -> Path:
    """The only .zip file or AIMed table in a folder; otherwise the path itself."""
    if path.is_dir():
        files = [*path.glob("*.zip"), *path.glob("*pairs*.tsv")]
        if len(files) == 1:
            return files[0]
    return path
