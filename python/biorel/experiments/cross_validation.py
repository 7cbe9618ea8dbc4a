"""Cross-validation: every instance is tested once, by a model not trained on it (the paper's protocol for AIMed)."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
from biorel._biorel import __version__
from biorel._numbers import plain
from biorel._types import By, Engine, Head, PathLike, Row
from biorel.data.corpus import Corpus, check_corpus
from biorel.evaluation.scores import MEASURES, Scores, score_pooled
from biorel.experiments.executor import checked_jobs
from biorel.experiments.folds import Folds, folds_of, warn_without_positives
from biorel.experiments.leakage import count_leaks, find_leaks, warn_of_leaks
from biorel.experiments.run_directory import RunDirectory, prediction_table
from biorel.experiments.runner import MemoryStore, PlannedTrial, Store, run_trials
from biorel.experiments.trial import checked_settings
from biorel.models.encoder import Encoder, load_encoder
from biorel.training.presets import Preset, takes_preset


class CrossValidation:
    """The result of a cross-validation. Returned by ``cross_validate``.

    Attributes
    ----------
    corpus : Corpus
        The corpus that was divided into folds.
    settings : dict
        Every setting, including defaults.
    by : {"document", "instance", "given", "split"}
        What the folds keep together.
    folds : pandas.DataFrame
        One row per fold: ``fold``, with ``by="split"`` also its ``split``, ``precision``, ``recall``, ``f1`` (with the
        averaging of the corpus's task), ``support`` (gold positives tested), ``train`` and ``test`` (instances),
        ``steps``, ``seconds``.
    scores : Scores
        The headline score in both conventions: ``mean`` and ``sd`` (divisor n - 1) over the folds, and ``pooled``. The
        mean F1 is the mean of the folds' F1, as in the paper, not the F1 of the mean precision and recall.
    pooled : Scores
        Scores of the decisions of all folds together.
    protocols : dict
        The protocols of the two headline scores, ``mean`` and ``pooled``.
    predictions : pandas.DataFrame
        Every instance once: ``fold``, and the columns of ``RelationModel.predictions``.
    leakage : pandas.DataFrame
        One row per fold: the numbers of ``documents`` in both train and test, of pairs of a training and a test
        sentence with the same words (``sentences``), and of pairs with nearly the same words (``near_duplicates``).
    leaks : pandas.DataFrame
        One row per such finding: ``fold``, ``kind``, ``train`` and ``test`` (identifiers), ``similarity``.
    """

    def __init__(self, folds: Folds, settings: Row, records: list[Row], tables: list[pd.DataFrame]) -> None:
        self.corpus = folds.corpus
        self.settings = settings
        self.by = folds.by
        self.folds = pd.DataFrame(records)
        if (names := folds.names()) is not None:
            self.folds.insert(1, "split", [names[fold] for fold in self.folds["fold"]])
        self.predictions = pd.concat(tables, ignore_index=True)
        self.pooled = score_pooled(self.corpus, self.predictions, f"{folds.describe()}, pooled")
        over = self.folds[list(MEASURES)]
        together = self.pooled.set_index("class").loc[self.corpus._core.task.headline, list(MEASURES)].astype(float)
        rows = pd.DataFrame([over.mean(), over.std(), together], index=["mean", "sd", "pooled"])
        self.scores = Scores(rows.rename_axis("over").reset_index())
        self.scores.attrs["protocol"] = score_pooled(self.corpus, self.predictions, folds.describe()).protocol
        self.protocols = {
            "mean": score_pooled(self.corpus, self.predictions, f"mean of {folds.describe()}").protocol,
            "pooled": self.pooled.protocol,
        }
        self.leaks = pd.DataFrame()
        self.leakage = pd.DataFrame()

    def __repr__(self) -> str:
        """Show the headline score in both conventions, and its protocol."""
        return f"{pd.DataFrame(self.scores).round(4)!r}\n{self.scores.protocol}"


@takes_preset
def cross_validate(
    corpus: Corpus,
    encoder: str | PathLike | Encoder = "minilm",
    *,
    preset: Preset | None = None,
    head: Head = "attention",
    folds: int | Literal["given"] | None = None,
    by: By | None = None,
    seed: int = 1,
    fold_seed: int = 1,
    threshold: float = 0.8,
    directory: PathLike | None = None,
    jobs: int | None = None,
    engine: Engine = "local",
    progress: bool = True,
    **settings: Any,
) -> CrossValidation:
    """Fine-tune and score once per fold, and report the leakage between training and test data.

    All splits of the corpus are pooled and divided into folds.

    Parameters
    ----------
    corpus : Corpus
        The corpus to divide; to use a part of it, see ``Corpus.divide``.
    encoder : str, path or Encoder
        As in ``load_encoder``.
    preset, head
        As in ``finetune``.
    folds : int or "given", optional
        The number of folds; by default as many as the corpus states, else 10. ``given`` is the same as ``by="given"``.
    by : {"document", "instance", "given", "split"}, optional
        What a fold keeps together. ``document``: no document is in both train and test. ``given``: the corpus's own
        folds, such as AIMed's ten; the default if it has some. ``split``: each split is a fold; for
        ``load_corpus("ppi", ...)``, whose splits are corpora, this is cross-corpus evaluation: train on four, test on
        the fifth. ``instance``: single pairs, as in some papers; pairs of
        one sentence are then in both train and test and the scores are far too good, so there is a warning.
    seed : int
        The training seed of every fold.
    fold_seed : int
        The seed of the shuffle of documents or instances.
    threshold : float
        The Jaccard index of their words from which two sentences are near-duplicates.
    directory : path, optional
        A run directory for the finished folds and the training checkpoint of the current one: a killed cross-validation
        resumes from there, with the same results as an uninterrupted one.
    jobs, engine
        As in ``compare``.
    progress : bool
        Show progress bars.
    **settings
        Other settings of ``finetune``.

    Returns
    -------
    CrossValidation
        Scores of each fold, their mean and standard deviation, pooled scores, all predictions, and the leakage report.

    Raises
    ------
    ConfigError
        For a setting out of range, more folds than documents, or the directory of another experiment.
    TrainingError, CorpusError
        As in ``finetune``; with a directory, the finished folds are kept.

    Warns
    -----
    UserWarning
        For ``by="instance"``, with the amount of leakage; and for folds without a positive pair, whose F1 is 0 in the
        mean.

    Examples
    --------
    >>> corpus = biorel.load_sample("aimed")
    >>> validation = biorel.cross_validate(corpus, "minilm", folds=2, max_steps=1, progress=False)
    >>> validation.folds[["fold", "train", "test"]].values.tolist()
    [[0, 150, 152], [1, 152, 150]]
    >>> validation.leakage["documents"].tolist()
    [0, 0]
    """
    check_corpus(corpus)
    folds, seed, fold_seed, threshold, jobs, settings = plain([folds, seed, fold_seed, threshold, jobs, settings])
    plan = checked_settings(settings, [head], [seed], folds=True, engine=engine) | {"head": head, "seed": seed}
    concurrent, threads = checked_jobs(engine, jobs, settings, plan["device"])
    divided = folds_of(corpus, folds, by, fold_seed)
    leaks = find_leaks(divided, threshold)
    leakage = count_leaks(leaks, divided.numbers)
    if divided.by == "instance":
        warn_of_leaks(leakage)
    warn_without_positives(divided, "`.pooled`")
    loaded = load_encoder(encoder)
    store: Store = MemoryStore()
    if directory is not None:
        what = {"kind": "cross-validation", "biorel": __version__, "corpus": corpus._core.hash, **divided.plan()}
        store = RunDirectory(directory, {**what, "encoder": loaded._core.hash, "settings": plan})
    call = {**settings, "precision": plan["precision"], "head": head, "seed": seed, "threads": threads}
    planned = {
        f"fold-{number}": PlannedTrial({"fold": number}, divided, number, lambda: loaded, call)
        for number in divided.numbers
    }
    with store.locked():
        run_trials(
            planned, store, engine=engine, jobs=concurrent, unit="fold", progress=progress, record_failures=False
        )
        records, tables = [], []
        for name, trial in planned.items():
            records.append({key: value for key, value in store.records[name].items() if key not in ("trial", "status")})
            table = prediction_table(store.predictions(name))
            table.insert(0, "fold", trial.fold)
            tables.append(table)
        result = CrossValidation(divided, {**plan, **divided.plan(), "encoder": loaded.name}, records, tables)
        result.leaks, result.leakage = leaks, leakage
        store.write_tables(folds=result.folds, scores=result.scores, pooled=result.pooled)
    return result
