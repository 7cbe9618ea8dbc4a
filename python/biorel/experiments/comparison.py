"""What a comparison over heads, encoders, seeds and folds came to: tables, predictions, attention, paired tests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pandas as pd
from biorel import _biorel
from biorel._types import Kind, Row
from biorel.data.corpus import Corpus
from biorel.errors import ConfigError
from biorel.evaluation.paired_tests import Side, compare_decisions
from biorel.evaluation.scores import MEASURES, Scores, score_pooled, score_predictions
from biorel.experiments.folds import Folds
from biorel.experiments.run_directory import RunDirectory, prediction_table
from biorel.models.relation_model import RelationModel, load
from biorel.training.finetune import finetune

Which: TypeAlias = "str | tuple[str, str]"
_KEYS = ("encoder", "head", "seed", "fold")


class Trial(NamedTuple):
    """One cell of the grid; `fold` is None where the corpus's own train and test splits are used."""

    encoder: str
    head: str
    seed: int
    fold: int | None

    def name(self, encoder_hash: str) -> str:
        """What it is called in the directory; another encoder under the same name is another trial."""
        fold = "" if self.fold is None else f" fold-{self.fold}"
        return f"{Path(self.encoder).name}-{encoder_hash[:16]} {self.head} seed-{self.seed}{fold}"


class Comparison:
    """What a comparison came to. Made by ``compare``.

    Attributes
    ----------
    corpus : Corpus
        What was learned and scored.
    settings : dict
        The settings that all trials share, defaults included.
    trials : pandas.DataFrame
        One row per trial: ``encoder``, ``head``, ``seed``, ``fold`` (missing without folds), ``status`` (``finished``
        or ``failed``), ``precision``, ``recall``, ``f1``, ``support``, ``train``, ``test``, ``steps``, ``seconds``, and
        ``error``: what a failed trial failed of.
    results : Scores
        One row per encoder and head: ``trials`` finished and ``failed``; mean ``precision``, ``recall`` and ``f1``; the
        ``sd`` and the confidence interval (``low``, ``high``) of the mean F1; and with folds ``pooled_f1``, the F1 of
        the decisions of all folds together, mean over the seeds. The protocol says over what and how.
    """

    def __init__(
        self,
        corpus: Corpus,
        settings: Row,
        directory: RunDirectory,
        names: dict[Trial, str],
        folds: Folds | None,
        *,
        compute: Mapping[str, Any],
    ) -> None:
        self.corpus = corpus
        self.settings = settings
        self._directory = directory
        self._names = names
        self._folds = folds
        self._compute = compute
        self._division = None if folds is None else folds.describe()
        rows = []
        for trial, name in names.items():
            record = {key: value for key, value in directory.records[name].items() if key != "trial"}
            rows.append({**record, **trial._asdict()})
        columns = [*_KEYS, "status", *MEASURES, "support", "train", "test", "steps", "seconds", "error"]
        trials = pd.DataFrame(rows, columns=columns)
        counts = dict.fromkeys(["fold", "support", "train", "test", "steps"], "Int64")
        self.trials = trials.astype({**counts, **dict.fromkeys([*MEASURES, "seconds"], float)})
        self.results = self._results()

    @property
    def failures(self) -> pd.DataFrame:
        """The failed trials and their errors."""
        return self.trials.loc[self.trials["status"] == "failed", [*_KEYS, "error"]].reset_index(drop=True)

    def predictions(self, head: str, *, encoder: str | None = None, seed: int | None = None) -> pd.DataFrame:
        """Predictions of the finished trials of a head, with ``seed`` and ``fold`` beside them.

        Parameters
        ----------
        head : str
            One of the heads.
        encoder : str, optional
            One of the encoders; needed where there are several.
        seed : int, optional
            One of the seeds; all by default.

        Returns
        -------
        pandas.DataFrame
            As ``RelationModel.predictions``.

        Examples
        --------
        >>> len(comparison.predictions("cls"))
        142
        """
        chosen = self._which(head if encoder is None else (encoder, head), "head")
        tables = []
        for trial in self._finished(*chosen):
            if seed in (None, trial.seed):
                table = self._table(trial)
                table.insert(0, "fold", pd.Series([trial.fold] * len(table), dtype="Int64"))
                table.insert(0, "seed", trial.seed)
                tables.append(table)
        if not tables:
            raise ConfigError(f"seed: no trial of {' '.join(chosen)} with it has finished", "seed")
        return pd.concat(tables, ignore_index=True)

    def model(
        self, head: str, *, encoder: str | None = None, seed: int | None = None, fold: int | None = None
    ) -> RelationModel:
        """The model of one trial, where ``save_models`` kept it.

        Parameters
        ----------
        head : str
            One of the heads.
        encoder : str, optional
            One of the encoders; needed where there are several.
        seed : int, optional
            One of the seeds; needed where there are several.
        fold : int, optional
            One of the folds; needed where there are several.

        Returns
        -------
        RelationModel
            The fine-tuned model.

        Raises
        ------
        ConfigError
            When that is none or several trials, or its model was not kept.

        Examples
        --------
        >>> comparison.model("cls")
        Traceback (most recent call last):
        biorel.errors.ConfigError: head: the model of minilm cls seed 1 was not kept; call compare with save_models=True
        """
        trials = [trial for trial in self._of_one_seed(head, encoder, seed) if fold in (None, trial.fold)]
        if len(trials) != 1:
            raise ConfigError(f"head: {len(trials)} trials of `{head}` are meant; name one fold", "head")
        return self._model(trials[0])

    def attention(
        self,
        head: str = "attention",
        *,
        encoder: str | None = None,
        seed: int | None = None,
        kind: Kind = "head",
        documents: Collection[str] | None = None,
        untrained: bool = False,
    ) -> pd.DataFrame:
        """Word weights of the test instances of all folds, each by the model that had not seen it.

        Parameters
        ----------
        head : str
            One of the heads; its models must have been kept (``save_models``).
        encoder : str, optional
            One of the encoders; needed where there are several.
        seed : int, optional
            One of the seeds; needed where there are several.
        kind : {"head", "encoder", "gradient"}
            As ``RelationModel.attention`` takes it.
        documents : collection of str, optional
            Only these documents' instances; all by default. Those that are in no test split are passed over.
        untrained : bool
            The weights of the models before their training, with the same initial head: the `baseline` of
            ``compare_stems``. Kept models are not needed for it.

        Returns
        -------
        pandas.DataFrame
            As ``RelationModel.attention``, with ``fold`` in front.

        Raises
        ------
        ConfigError
            When the models were not kept, the seed must be named, or no test instance is in `documents`.

        Examples
        --------
        >>> comparison.attention("attention")
        Traceback (most recent call last):
        biorel.errors.ConfigError: head: the model of minilm attention seed 1 was not kept; call compare with ...
        """
        tables = []
        for trial in self._of_one_seed(head, encoder, seed):
            part = self._part(trial)
            if documents is not None:
                tested = part.instances("test")["document"].drop_duplicates()
                wanted = tested[tested.isin(set(documents))]
                if wanted.empty:
                    continue
                part = part.divide({"test": wanted})
            model = self._untrained(trial, part) if untrained else self._model(trial)
            table = model.attention(part, kind=kind)
            table.insert(0, "fold", pd.Series([trial.fold] * len(table), dtype="Int64"))
            tables.append(table)
        if not tables:
            raise ConfigError("documents: none of them is tested", "documents")
        merged = pd.concat(tables, ignore_index=True)
        merged.attrs = tables[0].attrs
        return merged

    def mask_words(
        self, head: str, *, encoder: str | None = None, seed: int | None = None, **options: Any
    ) -> pd.DataFrame:
        """Mask words of the test instances of all folds, each by the model that had not seen it.

        Parameters
        ----------
        head : str
            One of the heads; its models must have been kept (``save_models``).
        encoder, seed
            As ``attention`` takes them.
        **options
            Of ``RelationModel.mask_words``.

        Returns
        -------
        pandas.DataFrame
            As ``RelationModel.mask_words``.

        Examples
        --------
        >>> comparison.mask_words("attention")
        Traceback (most recent call last):
        biorel.errors.ConfigError: head: the model of minilm attention seed 1 was not kept; call compare with ...
        """
        trials = self._of_one_seed(head, encoder, seed)
        tables = [self._model(trial).mask_words(self._part(trial), **options) for trial in trials]
        return pd.concat(tables, ignore_index=True)

    def _of_one_seed(self, head: str, encoder: str | None, seed: int | None) -> list[Trial]:
        """The finished trials of a head, in the order of the folds."""
        chosen = self._which(head if encoder is None else (encoder, head), "head")
        trials = [trial for trial in self._finished(*chosen) if seed in (None, trial.seed)]
        seeds = sorted({trial.seed for trial in trials})
        if not seeds:
            errors = "; ".join(self.failures["error"].unique()) or "there is none with that seed"
            raise ConfigError(f"head: no trial of `{head}` has finished ({errors})", "head")
        if len(seeds) > 1:
            raise ConfigError(f"seed: `{head}` has finished with the seeds {seeds}; name one of them", "seed")
        return trials

    def _part(self, trial: Trial) -> Corpus:
        """The corpus whose ``test`` the trial was scored on."""
        return self.corpus if self._folds is None or trial.fold is None else self._folds.part(trial.fold)

    def _untrained(self, trial: Trial, part: Corpus) -> RelationModel:
        """The model of a trial with its initial weights: of the data it takes the labels alone."""
        nothing = dict.fromkeys(["dev", "eval_steps", "patience", "negative_ratio", "class_weights"])
        given: Any = {**self.settings, **self._compute, **nothing, "head": trial.head, "seed": trial.seed}
        del given["max_steps"]
        return finetune(part, trial.encoder, train=["test"], test=None, max_steps=0, progress=False, **given).model

    def _model(self, trial: Trial) -> RelationModel:
        path = self._directory.model(self._names[trial])
        if not path.exists():
            what = f"{trial.encoder} {trial.head} seed {trial.seed}" + (
                "" if trial.fold is None else f" fold {trial.fold}"
            )
            message = f"head: the model of {what} was not kept; call compare with save_models=True"
            raise ConfigError(message, "head")
        return load(path, **self._compute)

    def paired(
        self,
        first: Which,
        second: Which,
        *,
        unit: Literal["document", "sentence", "instance"] = "document",
        samples: int = 10_000,
        level: float = 0.95,
        seed: int = 1,
    ) -> Scores:
        """Test whether one head (or encoder) is better than another, or by chance.

        Parameters
        ----------
        first, second : str or (str, str)
            A head, where there is one encoder; an encoder, where there is one head; or (encoder, head).
        unit : {"document", "sentence", "instance"}
            What is drawn and exchanged as a whole. Pairs of one sentence or document are alike: drawn one by one, 26 of
            100 tests of equal models are below 0.05, and 4 by document.
        samples : int
            Samples of the bootstrap, and of McNemar's test by document or sentence.
        level : float
            Level of the bootstrap's interval.
        seed : int
            Seed of the samples.

        Returns
        -------
        Scores
            One row per test: ``test``, ``seed`` (missing where all seeds count), ``n`` (what the test is over),
            ``first`` and ``second``, their ``difference``, its interval ``low`` to ``high``, the two-sided ``p``, and a
            ``note`` where there is too little to go by. The p-values are not corrected for making several comparisons.

            ``bootstrap``: F1 of all decisions together. Units are drawn with replacement and both sides scored on the
            same draw; p is the share of samples that depart from the observed difference by at least as much as that
            departs from 0 (Efron & Tibshirani 1993, chapter 16; Berg-Kirkpatrick, Burkett & Klein, EMNLP 2012).
            Below 10 units there is neither interval nor p.
            ``McNemar by document`` (or sentence): how many documents have more instances that the first side alone
            decides right, and how many that the second does; p from random exchanges of the two sides in whole
            documents (a permutation test). One row per seed. ``McNemar``, with ``unit="instance"``: of the instances
            that only one side decides right, how many were whose; exact binomial (McNemar 1947; for classifiers
            Dietterich 1998). One row per seed. ``sign test``: over folds, or seeds where there are no folds, how often
            either side has the higher F1; ties are left out; exact binomial (Demšar 2006). With several seeds a fold's
            F1 is their mean.

        Raises
        ------
        ConfigError
            For a side that is not in the comparison or ambiguous, or when no seed has finished on both sides.

        Examples
        --------
        >>> tests = comparison.paired("cls", "attention", samples=100)
        >>> tests["test"].tolist()
        ['bootstrap', 'McNemar by document', 'sign test']
        """
        sides = self._which(first, "first"), self._which(second, "second")
        if sides[0] == sides[1]:
            raise ConfigError(f"second: {second!r} is the first side too", "second")
        finished = [{(trial.seed, trial.fold): trial for trial in self._finished(*side)} for side in sides]
        folds = list(dict.fromkeys(trial.fold for trial in self._names))
        seeds = list(dict.fromkeys(trial.seed for trial in self._names))
        whole = [seed for seed in seeds if all((seed, fold) in side for side in finished for fold in folds)]
        if not whole:
            raise ConfigError("first: no seed has finished all its trials on both sides; see .failures", "first")
        read = [self._side(side, whole, folds) for side in finished]
        table = compare_decisions(
            self.corpus, read[0], read[1], whole, unit=unit, samples=samples, level=level, seed=seed
        )
        left = sorted(set(seeds) - set(whole))
        without = f" (seeds {', '.join(map(str, left))} left out: not finished on both sides)" if left else ""
        names = " against ".join(" ".join(side) for side in sides)
        table.attrs["protocol"] = (
            f"{names}, {len(whole)} seeds{without}; {self._protocol(read[0].table, 'pooled')}; "
            "two-sided p, not corrected for several comparisons"
        )
        return table

    def _side(self, finished: dict[tuple[int, int | None], Trial], seeds: list[int], folds: list[int | None]) -> Side:
        tables = {seed: pd.concat([self._table(finished[seed, fold]) for fold in folds]) for seed in seeds}
        over: list[list[float]] = [
            [self._directory.records[self._names[finished[seed, fold]]]["f1"] for fold in folds] for seed in seeds
        ]
        by_fold = folds != [None]
        scores = [sum(values) / len(values) for values in (zip(*over, strict=True) if by_fold else over)]
        first = tables[seeds[0]].reset_index(drop=True)
        return Side(first, [table["predicted"].tolist() for table in tables.values()], scores, by_fold)

    def _table(self, trial: Trial) -> pd.DataFrame:
        return prediction_table(self._directory.predictions(self._names[trial]))

    def _finished(self, encoder: str, head: str) -> list[Trial]:
        records = self._directory.records
        chosen = (trial for trial in self._names if (trial.encoder, trial.head) == (encoder, head))
        return [trial for trial in chosen if records[self._names[trial]]["status"] == "finished"]

    def _which(self, side: Which, field: str) -> tuple[str, str]:
        encoders = list(dict.fromkeys(trial.encoder for trial in self._names))
        heads = list(dict.fromkeys(trial.head for trial in self._names))
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
        there = f"heads {', '.join(heads)}; encoders {', '.join(encoders)}"
        raise ConfigError(f"{field}: {side!r} {problem}; give (encoder, head). There are {there}", field)

    def _protocol(self, predictions: pd.DataFrame, convention: str) -> str:
        if self._division is None:
            return score_predictions(predictions, self.corpus, "test").protocol
        return score_pooled(self.corpus, predictions, f"{self._division}, {convention}").protocol

    def _results(self) -> Scores:
        rows = []
        by_fold = self._division is not None
        for encoder, head in dict.fromkeys((trial.encoder, trial.head) for trial in self._names):
            group = self.trials[(self.trials["encoder"] == encoder) & (self.trials["head"] == head)]
            done = group[group["status"] == "finished"]
            values = done.groupby("fold" if by_fold else "seed")["f1"].mean()
            low, high = _biorel.t_interval(values.tolist(), 0.95) or (None, None)
            row = {"encoder": encoder, "head": head, "trials": len(done), "failed": len(group) - len(done)}
            row |= {name: done[name].mean() for name in MEASURES}
            row |= {"sd": values.std(), "low": low, "high": high}
            if by_fold:
                row["pooled_f1"] = self._pooled(encoder, head)
            rows.append(row)
        floats = [*MEASURES, "sd", "low", "high", *(["pooled_f1"] if by_fold else [])]
        results = Scores(pd.DataFrame(rows).astype(dict.fromkeys(floats, float)))
        finished = [
            trial for trial in self._names if self._directory.records[self._names[trial]]["status"] == "finished"
        ]
        what = "nothing has finished"
        if finished:
            first = finished[0]
            tables = [self._table(t) for t in finished if t._replace(fold=None) == first._replace(fold=None)]
            what = self._protocol(pd.concat(tables), "mean")
        over = "folds, each the mean of its seeds; training data overlap, so the interval is somewhat too narrow"
        results.attrs["protocol"] = f"{what}; sd and 95 % t interval over the {over if by_fold else 'seeds'}"
        return results

    def _pooled(self, encoder: str, head: str) -> float | None:
        """Over the seeds that have all folds."""
        folds = {trial.fold for trial in self._names}
        by_seed: dict[int, list[Trial]] = {}
        for trial in self._finished(encoder, head):
            by_seed.setdefault(trial.seed, []).append(trial)
        values: list[float] = []
        for trials in by_seed.values():
            if {trial.fold for trial in trials} == folds:
                scores = score_pooled(self.corpus, pd.concat([self._table(trial) for trial in trials]), "pooled")
                pooled: Any = scores.set_index("class").loc[self.corpus._core.task.headline, "f1"]
                values.append(float(pooled))
        return sum(values) / len(values) if values else None

    def __repr__(self) -> str:
        """The table of results, and how many trials failed."""
        failed = len(self.failures)
        return f"{self.results!r}" + (
            f"\n{failed} of {len(self.trials)} trials failed; see .failures" if failed else ""
        )
