"""Cross-validation, in both of the literature's forms: the mean of the folds' scores, and all decisions pooled."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import pandas as pd
from biorel.corpus import Corpus, PathLike, check_corpus
from biorel.encoder import Encoder, load_encoder
from biorel.errors import ConfigError
from biorel.scores import Scores, score_predictions
from biorel.training import Run, finetune


class CrossValidation:
    """What a cross-validation came to. Made by :func:`cross_validate`.

    Attributes
    ----------
    corpus : Corpus
        The whole corpus.
    settings : dict
        Every setting of the folds' trainings.
    """

    def __init__(self, corpus: Corpus, runs: list[tuple[int, Run]], settings: dict[str, Any], how: str) -> None:
        self.corpus = corpus
        self.settings = settings
        self._how = how
        parts = []
        rows = []
        headline = corpus._core.task.headline
        for number, run in runs:
            predictions = run.predictions()
            parts.append(predictions.assign(fold=number))
            row = score_predictions(predictions, run.corpus, "test").set_index("class").loc[headline]
            positives = int((predictions["gold"] != corpus.negative).sum())
            seconds = float(run.history["seconds"].sum())
            rows.append([number, row["precision"], row["recall"], row["f1"], len(predictions), positives, seconds])
        self._predictions = pd.concat(parts, ignore_index=True)
        columns = ["fold", "precision", "recall", "f1", "pairs", "positives", "seconds"]
        self._folds = pd.DataFrame(rows, columns=columns)
        lost = [corpus._core.lost(split) for split in corpus.splits]
        self._lost = [sum(counts) for counts in zip(*lost, strict=True)]

    @property
    def folds(self) -> pd.DataFrame:
        """One row per fold: ``fold``, ``precision``, ``recall``, ``f1``, ``pairs``, ``positives``, ``seconds``."""
        return self._folds.copy()

    @property
    def predictions(self) -> pd.DataFrame:
        """Every pair once, predicted by the model that had not seen its fold."""
        return self._predictions.copy()

    @property
    def scores(self) -> Scores:
        """The headline score over the folds: ``mean``, ``sd`` (divisor n - 1), and ``pooled``.

        The mean F1 is the mean of the folds' F1 (what the paper reports for AIMed), not the F1 of the means.
        """
        over = self._folds[["precision", "recall", "f1"]]
        pooled = self.pooled
        headline = pooled.set_index("class").loc[self.corpus._core.task.headline, ["precision", "recall", "f1"]]
        table = pd.DataFrame([over.mean(), over.std(ddof=1), headline.astype(float)], index=["mean", "sd", "pooled"])
        scores = Scores(table.rename_axis("over").reset_index())
        scores.attrs["protocol"] = pooled.protocol.replace(f"{self._how}, pooled", self._how)
        return scores

    @property
    def pooled(self) -> Scores:
        """All scores of the folds' decisions together."""
        return score_predictions(self._predictions, self.corpus, f"{self._how}, pooled", lost=self._lost)

    def __repr__(self) -> str:
        """The scores with their protocol."""
        return repr(self.scores.round(4)) + "\n" + self.scores.protocol


def cross_validate(
    corpus: Corpus,
    encoder: str | PathLike | Encoder = "minilm",
    *,
    folds: int = 10,
    by: Literal["document", "instance"] = "document",
    fold_seed: int = 1,
    progress: bool = True,
    **settings: Any,
) -> CrossValidation:
    """Train on all folds but one and score that one, for each fold in turn.

    Parameters
    ----------
    corpus : Corpus
        All of its splits together are divided anew.
    encoder : str, path or Encoder
        As :func:`load_encoder` takes it.
    folds : int
        How many; ignored where the corpus states the published folds (AIMed's flat table) and documents stay together.
    by : {"document", "instance"}
        What stays together; see :meth:`Corpus.fold`.
    fold_seed : int
        Seed of the division into folds.
    progress : bool
        Show a progress bar for each fold.
    **settings
        Settings of :func:`finetune`: ``head``, ``learning_rate``, ``seed``, ...

    Returns
    -------
    CrossValidation
        Scores of the folds, their mean and standard deviation, pooled scores, predictions.

    Raises
    ------
    ConfigError
        For a number of folds that the corpus cannot be divided into, and as :func:`finetune`.

    Examples
    --------
    >>> aimed = biorel.load_sample("aimed")
    >>> cv = biorel.cross_validate(aimed, "minilm", folds=2, max_steps=1, progress=False)
    >>> cv.scores["over"].tolist()
    ['mean', 'sd', 'pooled']
    >>> cv.pooled.attrs["protocol"]
    'F1 of the positive class `positive`, 2 folds by document, pooled, 302 pairs'
    """
    for setting in ("train", "test", "state"):
        if setting in settings:
            raise ConfigError(f"{setting}: a cross-validation chooses it itself", setting)
    check_corpus(corpus)
    loaded = load_encoder(encoder)
    numbers = corpus._core.fold_numbers(folds, by, fold_seed)
    runs = []
    for position, number in enumerate(numbers):
        with warnings.catch_warnings():
            if position:
                # Said once is enough; it is the same for every fold.
                warnings.filterwarnings("ignore", message="folds by instance leak")
            held = corpus.fold(number, folds=folds, by=by, seed=fold_seed)
        runs.append((number, finetune(held, loaded, progress=progress, **settings)))
        runs[-1][1].predictions()
    return CrossValidation(corpus, runs, runs[0][1].settings, f"{len(numbers)} folds by {by}")
