"""Search for settings with Optuna, on held-out data, in a run directory from which a killed search resumes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pandas as pd
from biorel._biorel import __version__
from biorel._html import fields_html, table_html, title_html
from biorel._numbers import plain, whole_number
from biorel._types import Head, PathLike, Row
from biorel.data.corpus import Corpus, check_corpus
from biorel.errors import ConfigError
from biorel.evaluation.scores import MEASURES, score_predictions
from biorel.experiments.run_directory import RunDirectory, prediction_table
from biorel.experiments.runner import PlannedTrial, run_trials
from biorel.experiments.search_space import Space, library
from biorel.experiments.trial import checked_settings
from biorel.models.encoder import Encoder, load_encoder
from biorel.training.finetune import hold_out_dev

# How many trials a notebook shows.
_SHOWN = 10


class Search:
    """The result of a search. Returned by ``search``.

    Attributes
    ----------
    corpus : Corpus
        The corpus as given.
    space : pandas.DataFrame
        What was searched, one row per setting: ``setting``, its ``values`` and their ``scale`` (``linear``, ``log`` or
        ``choices``).
    trials : pandas.DataFrame
        One row per trial of the study: ``number``, one column per setting of the space, ``status`` (``finished`` or
        ``failed``), ``precision``, ``recall``, ``f1`` and ``support`` on the held-out data, ``train`` and ``dev``
        (instances), ``steps``, ``seconds``, and ``error``, the reason of a failure. A trial with the settings of an
        earlier one has its result.
    protocol : str
        What the trials were scored on.
    study : optuna.study.Study
        Optuna's study, for its plots and importances.
    """

    def __init__(self, corpus: Corpus, space: Space, fixed: Row, *, study: Any, rows: list[Row], protocol: str) -> None:
        self.corpus = corpus
        self.space = space.table()
        self.study = study
        self.protocol = protocol
        self._settings = list(space.distributions)
        self._fixed = fixed
        columns = ["number", *self._settings, "status", *MEASURES, "support", "train", "dev", "steps", "seconds"]
        table = pd.DataFrame(rows, columns=[*columns, "error"])
        counts = dict.fromkeys(["support", "train", "dev", "steps"], "Int64")
        self.trials = table.astype({**counts, **dict.fromkeys([*MEASURES, "seconds"], float)})

    @property
    def best(self) -> dict[str, Any]:
        """The settings of the trial with the highest F1 on the held-out data: ``finetune(corpus, **search.best)``.

        Of equal trials the first counts. The fixed settings, `encoder`, `dev` and `seed` are among them, so that
        ``finetune`` repeats the trial with the same bits, and also scores the test split.

        Raises
        ------
        ConfigError
            When every trial has failed.
        """
        return {**self._fixed, **self.study.trials[self._best].params}

    @property
    def _best(self) -> int:
        """The number of the best trial."""
        finished = self.trials[self.trials["status"] == "finished"]
        if finished.empty:
            errors = "; ".join(self.trials["error"].unique())
            raise ConfigError(f"space: every trial has failed ({errors})", "space")
        return int(finished["number"].iloc[int(finished["f1"].to_numpy().argmax())])

    def _best_f1(self) -> float:
        return float(self.trials["f1"].iloc[self._best])

    def __repr__(self) -> str:
        """Show the number of trials, the best F1 and its settings."""
        if not (self.trials["status"] == "finished").any():
            return f"Search({len(self.trials)} trials, all failed)"
        number = self._best
        params = self.study.trials[number].params
        settings = ", ".join(f"{name}={value!r}" for name, value in params.items())
        return f"Search({len(self.trials)} trials, best F1 {self._best_f1():.3f} with {settings}; {self.protocol})"

    def _repr_html_(self) -> str:
        if not (self.trials["status"] == "finished").any():
            return title_html(repr(self)) + table_html(self.trials.head(_SHOWN))
        number = self._best
        title = f"Search: {len(self.trials)} trials, best F1 {self._best_f1():.3f} (trial {number})"
        best = {name: self.study.trials[number].params[name] for name in self._settings}
        ranked = self.trials.sort_values("f1", ascending=False, kind="stable").head(_SHOWN)
        shown = ranked.drop(columns=["support", "train", "dev"]).dropna(axis="columns", how="all")
        # Three decimals would hide learning rates.
        shown = shown.astype(dict.fromkeys(self._settings, object))
        for name in self._settings:
            shown[name] = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in shown[name]]
        return title_html(title, self.protocol) + fields_html(best) + table_html(shown) + table_html(self.space)


def search(
    corpus: Corpus,
    *,
    directory: PathLike,
    space: Mapping[str, Any],
    trials: int = 20,
    dev: str | float = 0.1,
    encoder: str | PathLike | Encoder = "minilm",
    head: Head | None = None,
    seed: int = 1,
    progress: bool = True,
    **settings: Any,
) -> Search:
    """Search for settings that give the highest F1 on held-out data, with Optuna (``pip install "biorel[search]"``).

    Each trial is a fine-tuning run with settings that Optuna's sampler (TPE, the tree-structured Parzen estimator)
    chooses from the results of the trials before; so they run one after the other. The test split is never read: score
    it once, with the best settings. Call it again with the same arguments to resume, or with more `trials` to go on.

    Parameters
    ----------
    corpus : Corpus
        The training data, with the split ``train``.
    directory : path
        A new directory, or that of an earlier call with the same arguments. Finished trials are stored in it: on
        resuming they are told to the study again in their order, so that the sampler suggests the same as without the
        interruption.
    space : mapping of str to tuple, list or optuna.distributions.BaseDistribution
        What to search: settings of ``finetune`` (also `head`) with their range ``(low, high)`` or a list of choices. A
        range of whole numbers has only whole numbers; both ends are included. A range of `learning_rate` is on a
        logarithmic scale, all others on a linear one; for another scale, or steps, give an Optuna distribution.
    trials : int
        The number of trials, including earlier ones.
    dev : str or float
        The held-out data, on which trials are scored: a split other than ``test``, or the fraction of the training
        split that is held out in whole documents, as in ``finetune``.
    encoder : str, path or Encoder
        As in ``load_encoder``.
    head : str, optional
        As in ``finetune``, if `space` does not have it; by default ``attention``.
    seed : int
        The seed of the sampler and of every training.
    progress : bool
        Show progress bars.
    **settings
        Other settings of ``finetune``, the same for all trials.

    Returns
    -------
    Search
        All trials, and the best settings.

    Raises
    ------
    ConfigError
        For a setting or an end of its range that ``finetune`` does not take, or the directory of another search. If a
        trial fails later, the failure is recorded and told to the study; only errors of the operating system (a full
        disk) stop the search.

    Examples
    --------
    >>> found = biorel.search(
    ...     biorel.load_sample("ddi"),
    ...     directory=folder / "search",
    ...     space={"learning_rate": (1e-5, 1e-3), "head": ["cls", "entity"]},
    ...     trials=1,
    ...     dev=0.05,
    ...     max_steps=1,
    ...     batch_size=4,
    ...     progress=False,
    ... )
    >>> found.trials["status"].tolist()
    ['finished']
    >>> found.space["scale"].tolist()
    ['log', 'choices']
    >>> sorted(found.best)
    ['batch_size', 'dev', 'encoder', 'head', 'learning_rate', 'max_steps', 'seed']
    """
    check_corpus(corpus)
    trials = whole_number(trials, "trials", 1)
    space, dev, seed, settings = plain([space, dev, seed, settings])
    fixed = {**settings, "encoder": encoder, "seed": seed, "dev": dev} | ({} if head is None else {"head": head})
    searched = Space(space, fixed)
    if "head" not in searched.distributions:
        fixed["head"] = head or "attention"
    shared = _checked(searched, settings, fixed, dev)
    divided, split = _divided(corpus, dev)
    loaded = load_encoder(encoder)
    optuna = library()
    plan = {
        "kind": "search",
        "biorel": __version__,
        "optuna": optuna.__version__,  # another version may suggest other settings
        "corpus": divided._core.hash,
        "encoder": loaded._core.hash,
        "head": fixed.get("head"),
        "seed": seed,
        "dev": dev,
        "space": searched.plan(),
        "settings": {name: value for name, value in shared.items() if name not in searched.distributions},
    }
    common = {**settings, "dev": split, "test": split, "seed": seed, "head": fixed.get("head")}
    common |= {} if "precision" in searched.distributions else {"precision": shared["precision"]}
    run = RunDirectory(directory, plan)
    rows: list[Row] = []
    protocol = ""
    names: dict[str, str] = {}  # of trials by their settings
    with run.locked(), _quiet(optuna):
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        for number in range(trials):
            suggested = study.ask(searched.distributions)
            params = suggested.params
            # Training is deterministic: settings that come again have the result of the first time.
            name = names.setdefault(json.dumps(params, sort_keys=True), f"trial-{number}")
            _check_record(run, name, params)
            trial = PlannedTrial({"number": number, **params}, divided, None, lambda: loaded, {**common, **params})
            run_trials(
                {name: trial},
                run,
                engine="local",
                jobs=1,
                unit="trial",
                progress=progress,
                record_failures=True,
                before=number,
                total=trials,
            )
            record = run.records[name]
            if record["status"] == "finished":
                study.tell(suggested, record["f1"])
                if not protocol:
                    table = prediction_table(run.predictions(name))
                    protocol = score_predictions(table, divided, split).protocol
            else:
                study.tell(suggested, state=optuna.trial.TrialState.FAIL)
            rows.append({**record, "number": number, "dev": record.get("test")})
        found = Search(corpus, searched, fixed, study=study, rows=rows, protocol=protocol)
        run.write_tables(trials=found.trials)
    return found


def _checked(space: Space, settings: Row, fixed: Row, dev: str | float) -> Row:
    """Check every end of every range before any training; returns the settings in full."""
    heads = space.extremes("head") if "head" in space.distributions else [fixed["head"]]
    given = {**settings, "dev": dev}
    # A search leaves out combinations that do not fit: their trials fail.
    check = partial(checked_settings, heads=heads, seeds=[fixed["seed"]], folds=False, engine="local", combined=False)
    shared = check(given)
    for name in space.distributions:
        for value in space.extremes(name):
            if name != "head":
                try:
                    check({**given, name: value})
                except ConfigError as error:
                    raise ConfigError(f"space: {error}", "space") from None
    return shared


def _divided(corpus: Corpus, dev: str | float) -> tuple[Corpus, str]:
    """The corpus with its held-out split, and the name of that."""
    if "train" not in corpus.splits:
        message = f"corpus: {corpus.name} has no split train, only {', '.join(corpus.splits)}"
        raise ConfigError(f"{message}; divide it with corpus.split(test=0.2) or corpus.fold(0)", "corpus")
    if not isinstance(dev, str):
        return hold_out_dev(corpus, ["train"], dev), "dev"
    if dev in ("train", "test"):
        reason = "is trained on" if dev == "train" else "must stay unseen until the settings are chosen"
        raise ConfigError(f"dev: `{dev}` {reason}; name another split, or give a fraction of train", "dev")
    corpus._core.lost(dev)  # raises for an unknown split
    return corpus, dev


def _check_record(run: RunDirectory, name: str, params: Row) -> None:
    """Raise if the trial was trained with other settings than those that the sampler suggests now."""
    record = run.records.get(name)
    if record is not None and (stored := {key: record.get(key) for key in params}) != params:
        message = f"directory: {name} in {run.path} was trained with {stored}, but the sampler suggests {params}"
        raise ConfigError(f"{message}; give a new directory", "directory")


@contextlib.contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without Optuna's messages about every study and trial; ours have the same."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
