"""The result of a fine-tuning run, finished or stopped by Ctrl-C."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from biorel import _biorel
from biorel._html import curve_html, title_html
from biorel._types import Kind, PathLike
from biorel.data.corpus import Corpus
from biorel.errors import ConfigError
from biorel.evaluation.scores import Scores, score_predictions
from biorel.models.relation_model import RelationModel


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C stopped a fine-tuning run; `run` has the model as trained so far.

    It derives from `KeyboardInterrupt`, so a program that does not catch it stops, as is usual for Ctrl-C.

    Attributes
    ----------
    run : Run
        The unfinished run: its history ends at the last complete step, and its model can be scored, used and saved.

    Examples
    --------
    >>> try:
    ...     raise biorel.TrainingInterrupted("stopped after step 2", run)  # what Ctrl-C does
    ... except biorel.TrainingInterrupted as stopped:
    ...     len(stopped.run.history)
    2
    """

    def __init__(self, message: str, run: Run) -> None:
        super().__init__(message)
        self.run = run


class Run:
    """The result of a fine-tuning run. Returned by ``finetune``.

    Attributes
    ----------
    model : RelationModel
        The fine-tuned model.
    corpus : Corpus
        The corpus it was trained and scored on.
    settings : dict
        Every setting, including defaults.
    test : str or None
        The split that ``scores`` and the other tables use by default.
    interrupted : bool
        Whether Ctrl-C stopped the run before its last step.
    step : int
        The step of the model's weights: the last, or that of the best evaluation on held-out data.
    counts : dict of str to int
        Numbers of training instances: ``trained`` on; of those, ``cut`` to a window; ``dropped`` because their entities
        are too far apart; negatives ``left_out``.
    report : dict
        The source of the weights, as in ``Encoder.report``, and the names of the newly ``initialised`` tensors, those
        of the head.
    """

    def __init__(
        self,
        model: RelationModel,
        corpus: Corpus,
        settings: dict[str, Any],
        outcome: _biorel.Outcome,
        *,
        test: str | None,
        report: dict[str, Any],
        progress: bool,
    ) -> None:
        self.model = model
        self.corpus = corpus
        self.settings = settings
        self.interrupted = outcome.raised is not None
        self.step = outcome.step
        self.counts = outcome.counts
        self.report = report
        self._progress = progress
        self._history = pd.DataFrame(outcome.history)
        self._evaluations = pd.DataFrame(outcome.evaluations)
        self.test = test
        self._predictions: dict[str, pd.DataFrame] = {}

    @property
    def history(self) -> pd.DataFrame:
        """One row per optimizer step.

        ``step``, ``epoch``, ``loss`` (mean cross-entropy of the batch), ``gradient_norm`` (before clipping),
        ``learning_rate``, ``instances``, ``tokens``, ``seconds``.
        """
        return self._history.copy()

    @property
    def evaluations(self) -> pd.DataFrame:
        """One row per evaluation on held-out data; empty without `dev`.

        ``step``, ``epoch``, ``loss`` (mean cross-entropy, unweighted), ``precision``, ``recall`` and ``f1`` (with the
        averaging of the corpus's task), ``best`` (whether it is better than all before), ``seconds``.
        """
        return self._evaluations.copy()

    @property
    def epochs(self) -> pd.DataFrame:
        """One row per epoch: ``epoch``, ``steps``, mean ``loss``, ``instances``, ``tokens``, ``seconds``."""
        steps = self._history.assign(loss=self._history["loss"] * self._history["instances"])
        table = steps.groupby("epoch", as_index=False).agg(
            steps=("step", "size"),
            loss=("loss", "sum"),
            instances=("instances", "sum"),
            tokens=("tokens", "sum"),
            seconds=("seconds", "sum"),
        )
        table["loss"] /= table["instances"]
        return table

    @property
    def scores(self) -> Scores:
        """Scores on the test split; see ``score``."""
        return self.score(self._default(None))

    def score(self, split: str) -> Scores:
        """Scores on a split.

        Parameters
        ----------
        split : str
            One of the corpus's splits.

        Returns
        -------
        Scores
            As ``RelationModel.evaluate``.

        Examples
        --------
        >>> run.score("train").attrs["protocol"]
        'micro-F1 over the 4 positive classes, train, 406 pairs'
        """
        return score_predictions(self.predictions(split), self.corpus, split)

    def predictions(self, split: str | None = None) -> pd.DataFrame:
        """Predictions on a split, by default the test split.

        Parameters
        ----------
        split : str, optional
            One of the corpus's splits.

        Returns
        -------
        pandas.DataFrame
            As ``RelationModel.predictions``.

        Examples
        --------
        >>> len(run.predictions("test"))
        142
        """
        split = self._default(split)
        if split not in self._predictions:
            self._predictions[split] = self.model.predictions(self.corpus, split, progress=self._progress)
        return self._predictions[split].copy()

    def attention(self, split: str | None = None, *, kind: Kind = "head") -> pd.DataFrame:
        """Word weights on a split, by default the test split.

        Parameters
        ----------
        split : str, optional
            One of the corpus's splits.
        kind : {"head", "encoder", "gradient"}
            As in ``RelationModel.attention``.

        Returns
        -------
        pandas.DataFrame
            As ``RelationModel.attention``.

        Examples
        --------
        >>> run.attention().nlargest(3, "weight")["word"].size
        3
        """
        return self.model.attention(self.corpus, self._default(split), kind=kind, progress=self._progress)

    def save(self, directory: PathLike, *, metadata: Mapping[str, Any] | None = None) -> None:
        """Save the model; its card has the scores on the test split, if there is one.

        Parameters
        ----------
        directory : path
            As in ``RelationModel.save``.
        metadata : mapping, optional
            Fields of the card's front matter, such as ``license``; as in ``RelationModel.save``.

        Examples
        --------
        >>> run.save(folder / "ddi-attention", metadata={"license": "cc-by-nc-4.0"})
        >>> "micro-F1 over the 4 positive classes, test" in (folder / "ddi-attention" / "README.md").read_text()
        True
        """
        self.model.save(directory, scores=self._reported(), metadata=metadata)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the model; its card has the scores on the test split, if there is one.

        Parameters
        ----------
        repo_id : str
            ``owner/name``.
        **options
            As in ``RelationModel.push_to_hub``.

        Returns
        -------
        str
            The URL of the commit.
        """
        return self.model.push_to_hub(repo_id, **{"scores": self._reported(), **options})

    def _reported(self) -> Scores | None:
        return None if self.test is None else self.scores

    def _default(self, split: str | None) -> str:
        split = split or self.test
        if split is None:
            raise ConfigError(f"split: name one of {', '.join(self.corpus.splits)}; the run has no test split", "split")
        return split

    def _repr_html_(self) -> str:
        card = self.model.card
        text = f"head {self.model.head}, encoder {card['encoder']}, {self._summary}"
        parts = [title_html(f"Run {card['task']['name']}", text)]
        loss = self._history["loss"].tolist() if len(self._history) else []
        if loss:
            parts.append(curve_html(loss, f"loss of {len(loss):,} steps: from {loss[0]:.3f} to {loss[-1]:.3f}"))
        if self.test is not None:
            parts.append(self.scores._repr_html_())
        return "".join(parts)

    def __repr__(self) -> str:
        """Show the model, the number of steps, the time and the precision."""
        return f"Run({self.model!r}, {self._summary})"

    @property
    def _summary(self) -> str:
        steps = len(self._history)
        state = f"stopped after {steps} steps" if self.interrupted else f"{steps} steps"
        return f"{state}, {self._history['seconds'].sum():.0f} s, {self.settings['precision']}"
