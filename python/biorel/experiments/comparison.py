"""The result of a comparison over heads, encoders, variants, seeds and folds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import pandas as pd
from biorel._types import Kind, Row
from biorel.data.corpus import Corpus
from biorel.errors import ConfigError
from biorel.evaluation.scores import Scores
from biorel.experiments.grid import Grid, Trial, Which
from biorel.experiments.paired import compare_sides
from biorel.experiments.results import summarize
from biorel.models.relation_model import RelationModel, load
from biorel.training.finetune import finetune


class Comparison:
    """The result of a comparison. Returned by ``compare``.

    Attributes
    ----------
    corpus : Corpus
        The training and test data.
    settings : dict
        The settings that all trials share, including defaults.
    variants : dict
        The settings of each variant that differ from `settings`, by its name; empty in a comparison without variants.
    trials : pandas.DataFrame
        One row per trial: ``encoder``, ``head``, ``variant`` (if there are variants), ``seed``, ``fold`` (missing
        without folds), ``status`` (``finished`` or ``failed``), ``precision``, ``recall``, ``f1``, ``support``,
        ``train``, ``test``, ``steps``, ``seconds``, and ``error``, the reason of a failure.
    results : Scores
        One row per encoder, head and variant: numbers of finished ``trials`` and ``failed`` ones; mean ``precision``,
        ``recall`` and ``f1``; the standard deviation ``sd`` and the confidence interval (``low``, ``high``) of the mean
        F1; and with folds ``pooled_f1``, the F1 of the decisions of all folds together, averaged over the seeds. The
        protocol describes the averaging.
    """

    def __init__(self, grid: Grid, settings: Row, variants: dict[str, Row], *, compute: Mapping[str, Any]) -> None:
        self.corpus = grid.corpus
        self.settings = settings
        self.variants = variants
        self._grid = grid
        self._compute = compute
        self.trials = grid.records()
        self.results = summarize(grid)

    @property
    def failures(self) -> pd.DataFrame:
        """The failed trials and their errors."""
        return self.trials.loc[self.trials["status"] == "failed", [*self._grid.keys, "error"]].reset_index(drop=True)

    def predictions(
        self, head: str, *, encoder: str | None = None, variant: str | None = None, seed: int | None = None
    ) -> pd.DataFrame:
        """Predictions of the finished trials of a head, with the columns ``seed`` and ``fold``.

        Parameters
        ----------
        head : str
            One of the heads, or a variant that has only one.
        encoder, variant : str, optional
            One of the encoders and variants; each is needed where there are several.
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
        chosen = self._grid.select(_names(encoder, head, variant), "head")
        tables = []
        for trial in self._grid.finished(chosen):
            if seed in (None, trial.seed):
                table = self._grid.predictions(trial)
                table.insert(0, "fold", pd.Series([trial.fold] * len(table), dtype="Int64"))
                table.insert(0, "seed", trial.seed)
                tables.append(table)
        if not tables:
            raise ConfigError(f"seed: no trial of {' '.join(chosen.names())} with it has finished", "seed")
        return pd.concat(tables, ignore_index=True)

    def model(
        self,
        head: str,
        *,
        encoder: str | None = None,
        variant: str | None = None,
        seed: int | None = None,
        fold: int | None = None,
    ) -> RelationModel:
        """The saved model of one trial (see ``save_models``).

        Parameters
        ----------
        head : str
            One of the heads, or a variant that has only one.
        encoder, variant, seed, fold : optional
            The encoder, variant, seed and fold of the trial; each is needed where there are several.

        Returns
        -------
        RelationModel
            The fine-tuned model.

        Raises
        ------
        ConfigError
            When no trial or several match, or the model was not saved.

        Examples
        --------
        >>> comparison.model("cls")
        Traceback (most recent call last):
        biorel.errors.ConfigError: head: the model of minilm cls seed 1 was not saved; call compare with ...
        """
        trials = [
            trial
            for trial in self._grid.of_one_seed(_names(encoder, head, variant), seed)
            if fold in (None, trial.fold)
        ]
        if len(trials) != 1:
            raise ConfigError(f"head: {len(trials)} trials of `{head}` match; name one fold", "head")
        return self._model(trials[0])

    def attention(
        self,
        head: str = "attention",
        *,
        encoder: str | None = None,
        variant: str | None = None,
        seed: int | None = None,
        kind: Kind = "head",
        documents: Collection[str] | None = None,
        untrained: bool = False,
    ) -> pd.DataFrame:
        """Word weights of the test instances of all folds, each from the model that was not trained on it.

        Parameters
        ----------
        head : str
            As in ``model``; the models must have been saved (``save_models``).
        encoder, variant, seed : optional
            The encoder, variant and seed of the trials; each is needed where there are several.
        kind : {"head", "encoder", "gradient"}
            As in ``RelationModel.attention``.
        documents : collection of str, optional
            Only the instances of these documents; all by default. Documents in no test split are ignored.
        untrained : bool
            Use the untrained models with the same initial heads: the `baseline` of ``compare_stems``. This needs no
            saved models.

        Returns
        -------
        pandas.DataFrame
            As ``RelationModel.attention``, with ``fold`` as first column.

        Raises
        ------
        ConfigError
            When the models were not saved, the seed is ambiguous, or no test instance is in `documents`.

        Examples
        --------
        >>> comparison.attention("attention")
        Traceback (most recent call last):
        biorel.errors.ConfigError: head: the model of minilm attention seed 1 was not saved; call compare with ...
        """
        tables = []
        for trial in self._grid.of_one_seed(_names(encoder, head, variant), seed):
            part = self._grid.part(trial)
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
            raise ConfigError("documents: none of them is in a test split", "documents")
        merged = pd.concat(tables, ignore_index=True)
        merged.attrs = tables[0].attrs
        return merged

    def mask_words(
        self,
        head: str,
        *,
        encoder: str | None = None,
        variant: str | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Mask words of the test instances of all folds, each for the model that was not trained on it.

        Parameters
        ----------
        head : str
            As in ``model``; the models must have been saved (``save_models``).
        encoder, variant, seed
            As in ``attention``.
        **options
            Other arguments of ``RelationModel.mask_words``.

        Returns
        -------
        pandas.DataFrame
            As ``RelationModel.mask_words``.

        Examples
        --------
        >>> comparison.mask_words("attention")
        Traceback (most recent call last):
        biorel.errors.ConfigError: head: the model of minilm attention seed 1 was not saved; call compare with ...
        """
        trials = self._grid.of_one_seed(_names(encoder, head, variant), seed)
        tables = [self._model(trial).mask_words(self._grid.part(trial), **options) for trial in trials]
        return pd.concat(tables, ignore_index=True)

    def _untrained(self, trial: Trial, part: Corpus) -> RelationModel:
        """The model of a trial with its initial weights; it needs the data only for the labels."""
        unset = dict.fromkeys(["dev", "eval_steps", "patience", "negative_ratio", "class_weights"])
        own = self._own(trial)
        given: Any = {**self.settings, **self._compute, **own, **unset, "head": trial.head, "seed": trial.seed}
        del given["max_steps"]
        return finetune(part, trial.encoder, train=["test"], test=None, max_steps=0, progress=False, **given).model

    def _model(self, trial: Trial) -> RelationModel:
        path = self._grid.directory.model(self._grid.names[trial])
        if not path.exists():
            name = f"{' '.join(trial.setup.names())} seed {trial.seed}" + (
                "" if trial.fold is None else f" fold {trial.fold}"
            )
            message = f"head: the model of {name} was not saved; call compare with save_models=True"
            raise ConfigError(message, "head")
        return load(
            path, **{**self._compute, "precision": self._own(trial).get("precision", self._compute["precision"])}
        )

    def _own(self, trial: Trial) -> Row:
        """The settings of its variant."""
        return {} if trial.variant is None else self.variants[trial.variant]

    def paired(
        self,
        first: Which,
        second: Which,
        *,
        unit: Literal["document", "sentence", "instance"] = "document",
        samples: int = 10_000,
        confidence_level: float = 0.95,
        seed: int = 1,
    ) -> Scores:
        """Test whether the difference between two heads, encoders or variants could be due to chance.

        Parameters
        ----------
        first, second : str or tuple of str
            A name that only one row of ``results`` has: a head, where there is one encoder; an encoder, where there is
            one head; a variant, where it has one head and encoder. Otherwise several, such as (encoder, head).
        unit : {"document", "sentence", "instance"}
            The unit that is resampled as a whole. Pairs of one sentence or document are alike: in simulations with
            equal models, p was below 0.05 in 26 % of the tests by instance, and in 4 % by document.
        samples : int
            Samples of the bootstrap, and of McNemar's test by document or sentence.
        confidence_level : float
            Confidence level of the bootstrap's interval.
        seed : int
            Seed of the samples.

        Returns
        -------
        Scores
            One row per test: ``test``, ``seed`` (missing where all seeds count), ``n`` (what the test is over),
            ``first`` and ``second``, their ``difference``, its interval ``low`` to ``high``, the two-sided ``p``, and a
            ``note`` where there is too little data. The p-values are not corrected for making several comparisons.

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
            For a side that is unknown or ambiguous, or when no seed has finished on both sides.

        Examples
        --------
        >>> tests = comparison.paired("cls", "attention", samples=100)
        >>> tests["test"].tolist()
        ['bootstrap', 'McNemar by document', 'sign test']
        """
        return compare_sides(
            self._grid, first, second, unit=unit, samples=samples, confidence_level=confidence_level, seed=seed
        )

    def __repr__(self) -> str:
        """Show the table of results and the number of failed trials."""
        failed = len(self.failures)
        return f"{self.results!r}" + (
            f"\n{failed} of {len(self.trials)} trials failed; see .failures" if failed else ""
        )


def _names(encoder: str | None, head: str, variant: str | None) -> tuple[str, ...]:
    return tuple(name for name in (encoder, head, variant) if name is not None)
