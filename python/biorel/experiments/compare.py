"""Compare heads, encoders and other settings over seeds and folds, in a run directory that survives interruptions."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Literal

from biorel._biorel import __version__
from biorel._numbers import plain
from biorel._types import By, Engine, Head, PathLike
from biorel.data.corpus import Corpus, check_corpus
from biorel.errors import ConfigError
from biorel.experiments.comparison import Comparison
from biorel.experiments.executor import checked_jobs
from biorel.experiments.folds import Folds, folds_of, warn_without_positives
from biorel.experiments.grid import Grid, Trial
from biorel.experiments.leakage import count_leaks, find_leaks, warn_of_leaks
from biorel.experiments.run_directory import RunDirectory
from biorel.experiments.runner import PlannedTrial, run_trials
from biorel.experiments.trial import checked_settings
from biorel.experiments.variants import Variant, checked_variants
from biorel.models.encoder import Encoder, load_encoder
from biorel.training.presets import PairPreset, with_preset


def compare(
    corpus: Corpus,
    *,
    directory: PathLike,
    heads: Sequence[Head] = ("cls", "attention"),
    encoders: Sequence[str | PathLike | Encoder] = ("minilm",),
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    seeds: Sequence[int] = (1,),
    folds: int | Literal["given"] | None = None,
    by: By | None = None,
    fold_seed: int = 1,
    preset: PairPreset | None = None,
    retry_failed: bool = False,
    save_models: bool | Sequence[str] = False,
    jobs: int | None = None,
    engine: Engine = "local",
    progress: bool = True,
    **settings: Any,
) -> Comparison:
    """Fine-tune every head with every encoder, variant, seed and fold, in a directory from which a killed run resumes.

    Call it again with the same arguments to resume, or with more heads, encoders, variants or seeds to extend the
    comparison. Finished trials are not repeated.

    Parameters
    ----------
    corpus : Corpus
        The training and test data.
    directory : path
        A new directory, or that of an earlier call with the same corpus, folds and settings.
    heads : sequence of str
        As in ``finetune``.
    encoders : sequence of str, path or Encoder
        As in ``load_encoder``.
    variants : mapping of str to mapping, optional
        Variants by their names, each with the settings of ``finetune`` that replace the common ones, such as
        ``{"typed": {}, "one-pass": {"marking": "levitated", "head": "entity"}}``, or ``{"one-pass": {"preset":
        "one-pass"}}``. A variant with a `head` is trained only with it, the others with all `heads`. Tables then have
        the column ``variant``.
    seeds : sequence of int
        The training seeds.
    folds : int, "given" or None
        The number of folds of a cross-validation, or the corpus's own; None trains on ``train`` and scores ``test``.
    by : {"document", "instance", "given"}, optional
        What a fold keeps together; as in ``cross_validate``.
    fold_seed : int
        The seed of the division into folds.
    preset : {"paper", "standard", "quick"}, optional
        Settings of ``finetune``, which `settings` override: ``standard`` is all pairs at the learning rate and epochs
        that were chosen on training data, ``paper`` the defaults, ``quick`` few steps; as in ``reproduce``.
    retry_failed : bool
        Repeat the trials that failed in an earlier call.
    save_models : bool or sequence of str
        Save the models of all trials, or of some heads or variants, for ``Comparison.model``. A trial that has finished
        without saving its model is repeated, with the same bits.
    jobs : int, optional
        How many trials (or folds) run concurrently: by default one, with Ray as many as the cluster has room for. On
        the processor they share its threads, or have `threads` each; on a GPU they share it. The results are the same.
    engine : {"local", "ray"}
        Run in this process, or as tasks of a Ray cluster (``pip install "biorel[ray]"``): the one that this process is
        connected to (``ray.init``) or that RAY_ADDRESS names, else a new one on this machine. A task takes `threads`
        processors (1 by default), and with ``device="cuda"`` one GPU; it is restarted if its worker or node dies. All
        nodes need the same version of biorel.
    progress : bool
        Show progress bars.
    **settings
        Other settings of ``finetune``, the same for all trials but those of variants that replace them.

    Returns
    -------
    Comparison
        All trials, their means and standard deviations, and paired tests.

    Raises
    ------
    ConfigError
        For a setting out of range, an encoder that cannot be found, or the directory of another experiment. If a trial
        fails later, the failure is recorded and the others run; only errors of the operating system (a full disk) stop
        them.

    Warns
    -----
    UserWarning
        When the last line of ``trials.jsonl`` is incomplete because a run was killed, so that its trial is repeated;
        for ``by="instance"``, with the amount of leakage; and for folds without a positive pair, whose F1 is 0 in the
        mean.

    Examples
    --------
    >>> comparison = biorel.compare(
    ...     biorel.load_sample("ddi"), directory=folder / "comparison", max_steps=1, progress=False
    ... )
    >>> comparison.trials[["encoder", "head", "seed", "status"]].values.tolist()
    [['minilm', 'cls', 1, 'finished'], ['minilm', 'attention', 1, 'finished']]
    """
    heads, encoders, seeds = _listed(heads, "heads"), _listed(encoders, "encoders"), _listed(seeds, "seeds")
    check_corpus(corpus)
    folds, fold_seed, jobs = plain([folds, fold_seed, jobs])
    variants, save_models, settings = plain([variants, save_models, settings])
    settings = with_preset(preset, settings)
    if "head" in settings and preset is not None:
        message = f"preset: `{preset}` has a head of its own; make it a variant, such as"
        raise ConfigError(f'{message} {{"{preset}": {{"preset": "{preset}"}}}}', "preset")
    check = partial(checked_settings, seeds=seeds, folds=folds is not None or by is not None, engine=engine)
    shared, found = checked_variants(variants, heads, map(_encoder_name, encoders), settings, check)
    concurrent, threads = checked_jobs(engine, jobs, settings, shared["device"])
    divided: Folds | None = None
    if folds is not None or by is not None:
        divided = folds_of(corpus, folds, by, fold_seed)
        if divided.by == "instance":
            warn_of_leaks(count_leaks(find_leaks(divided, 0.8), divided.numbers))
        warn_without_positives(divided, "`pooled_f1`")
    elif not {"train", "test"} <= set(corpus.splits):
        message = f"folds: {corpus.name} has no splits train and test; give a number of folds"
        raise ConfigError(message + (', or "given"' if corpus._core.given_folds else ""), "folds")
    for variant in found:
        if isinstance(variant.settings.get("dev"), str):
            corpus._core.lost(variant.settings["dev"])  # raises now, and not in every trial, for an unknown split
    saved = _saved(save_models, found)
    numbers: list[int | None] = [None] if divided is None else list(divided.numbers)
    hashes = _encoder_hashes(encoders)
    plan = {
        "kind": "comparison",
        "biorel": __version__,
        "corpus": corpus._core.hash,
        **({"folds": None} if divided is None else divided.plan()),
        "settings": shared,
        **({} if variants is None else {"variants": {variant.name: variant.changes for variant in found}}),
    }
    load = _encoder_loader({name: given for name, (given, _) in hashes.items()})
    names: dict[Trial, str] = {}
    planned: dict[str, PlannedTrial] = {}
    # Heads and variants vary fastest, so that a partial comparison already has all of them.
    for encoder, fold, seed, variant in itertools.product(hashes, numbers, dict.fromkeys(seeds), found):
        for head in variant.heads:
            trial = Trial(encoder, head, variant.name, seed, fold)
            names[trial] = name = trial.name(hashes[encoder][1])
            call = {
                **variant.settings,
                "precision": variant.changes.get("precision", shared["precision"]),
                "head": head,
                "seed": seed,
                "threads": threads,
            }
            source = corpus if divided is None else divided
            save = head in saved or variant.name in saved
            planned[name] = PlannedTrial(trial.fields(), source, fold, partial(load, encoder), call, save)
    run = RunDirectory(directory, plan)
    with run.locked():
        run_trials(
            planned,
            run,
            engine=engine,
            jobs=concurrent,
            unit="trial",
            progress=progress,
            record_failures=True,
            retry_failed=retry_failed,
        )
        compute = {"device": shared["device"], "precision": shared["precision"], "threads": settings.get("threads")}
        changes = {variant.name: variant.changes for variant in found if variant.name is not None}
        comparison = Comparison(Grid(corpus, run, names, divided), shared, changes, compute=compute)
        run.write_tables(trials=comparison.trials, results=comparison.results)
    return comparison


def _listed(values: Any, field: str) -> list[Any]:
    """The entries of an axis of the grid."""
    try:
        entries = [] if isinstance(values, (str, Mapping)) else [*values]
    except TypeError:  # one value, such as seeds=1
        entries = []
    if not entries:
        raise ConfigError(f"{field}: must be a list with at least one entry, not {values!r}", field)
    found: list[Any] = plain(entries)
    return found


def _saved(save_models: bool | Sequence[str], variants: list[Variant]) -> set[str]:
    """The heads and variants whose models are saved."""
    heads = dict.fromkeys(head for variant in variants for head in variant.heads)
    if isinstance(save_models, bool):
        return set(heads) if save_models else set()
    names = [variant.name for variant in variants if variant.name is not None]
    for name in save_models:
        if name not in heads and name not in names:
            existing = f"heads {', '.join(heads)}" + (f" or variants {', '.join(names)}" if names else "")
            raise ConfigError(f"save_models: `{name}` is not one of the {existing}", "save_models")
    return set(save_models)


def _encoder_name(given: str | PathLike | Encoder) -> str:
    return given.name if isinstance(given, Encoder) else os.fspath(given)


def _encoder_hashes(encoders: Sequence[str | PathLike | Encoder]) -> dict[str, tuple[str | PathLike | Encoder, str]]:
    """Each encoder with its hash, by name; raises before any training for one that cannot be loaded."""
    found: dict[str, tuple[str | PathLike | Encoder, str]] = {}
    for given in encoders:
        name = _encoder_name(given)
        if name in found:
            raise ConfigError(f"encoders: `{name}` appears twice", "encoders")
        found[name] = given, load_encoder(given)._core.hash
    return found


def _encoder_loader(encoders: Mapping[str, str | PathLike | Encoder]) -> Callable[[str], Encoder]:
    """A function that loads encoders by name; it caches one, since the trials of an encoder are consecutive."""
    return lru_cache(maxsize=1)(lambda name: load_encoder(encoders[name]))
