"""Attention by stem: the paper's Table V and Fig. 4."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from biorel import _biorel
from biorel._numbers import whole_number
from biorel._tables import require_columns
from biorel.errors import ConfigError

# Function words: the stop words of `stop_words="english"`.
ENGLISH = frozenset(
    """a about above after again against all also although am an and any are as at be because been before being
    below between both but by can cannot could did do does doing down during each either few for from further
    had has have having he her here hers him his how however i if in into is it its itself just may me might
    more most must my neither no nor not of off on once only or other our ours out over own same shall she
    should since so some such than that the their theirs them then there these they this those through thus to
    too under until up upon us very via was we were what when where whether which while who whom whose why will
    with within without would yet you your yours""".split()
)

# With fewer documents on a side, intervals and tests do not keep their nominal level.
LEAST_DOCUMENTS = _biorel.least_documents()
_TOO_FEW = f"fewer than {LEAST_DOCUMENTS} documents on a side: no interval, no test"

_Words = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]


def top_stems(
    weights: pd.DataFrame,
    n: int | None = 10,
    *,
    window: int = 3,
    label: str | None = None,
    by_label: bool = False,
    source: Literal["gold", "predicted"] = "gold",
    weight: Literal["sum", "mean"] = "sum",
    min_count: int = 3,
    stop_words: Literal["english"] | Collection[str] | None = None,
    negative: str | None = None,
    samples: int = 1000,
    confidence_level: float = 0.95,
    seed: int = 1,
) -> pd.DataFrame:
    """The stems with the most attention in related pairs (the paper's Table V).

    The table depends more on `min_count` than on the model, because rare stems have extreme means: compare several
    values.

    Parameters
    ----------
    weights : pandas.DataFrame
        A table from ``RelationModel.attention``.
    n : int or None
        Number of stems, or of stems per label, from 1; None for all.
    window : int
        Only words at most this many words from the nearer entity (from 1) are counted, and never the entities. The
        paper has 3.
    label : str, optional
        Count only instances with this label; by default, all with a relation.
    by_label : bool
        One table per relation label, concatenated.
    source : {"gold", "predicted"}
        Whether gold or predicted labels select the instances.
    weight : {"sum", "mean"}
        How the weights of a word's pieces are combined. ``sum`` is the proportion of the attention on the word. It is
        the default because the paper ranks *words* while its softmax is over pieces, and its printed stems are long
        (concomitantli, phosphoryl). ``mean`` does not grow with the length of a word.
    min_count : int
        Leave out stems with fewer words. The paper does not give its threshold.
    stop_words : "english", collection of str, or None
        Words to leave out, regardless of case. The paper leaves none out.
    negative : str, optional
        The label of pairs without a relation; needed if `weights` no longer has it in ``attrs``. An instance must have
        it; for a table without such pairs, set ``weights.attrs["negative"]``.
    samples : int
        Number of bootstrap samples; 0 for no intervals.
    confidence_level : float
        Confidence level of the intervals.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row per stem, in descending order of mean weight: ``label`` with `by_label`; ``stem``; ``word``, its most
        frequent form; mean ``weight``, ``count``, ``documents``, ``sd`` (over words), the bootstrap-t interval ``low``
        to ``high`` of the mean over documents, and a ``note`` if fewer than 10 documents have the stem, which then has
        no interval. ``attrs["protocol"]`` describes what was counted.

    Raises
    ------
    ConfigError
        For an unknown label, or a table that does not contain word weights.

    Examples
    --------
    >>> table = biorel.top_stems(run.attention(), n=3, samples=100)
    >>> list(table.columns)
    ['stem', 'word', 'weight', 'count', 'documents', 'sd', 'low', 'high', 'note']
    """
    if n is not None:
        n = whole_number(n, "n", 1, also=", or None for all")
    _check_numbers(window=window, min_count=min_count, samples=samples, seed=seed)
    words, negative = _counted(weights, window, stop_words, negative, source)
    if weight not in ("sum", "mean"):
        raise ConfigError(f"weight: must be sum or mean, not {weight!r}", "weight")
    if weight == "mean":
        if "pieces" not in words.columns:
            raise ConfigError('weights: has no column pieces, over which weight="mean" takes the mean', "weights")
        words = words.assign(weight=words["weight"] / words["pieces"])
    if label is not None:
        _check_label(weights, label, "label")
    related = words[words[source] != negative]
    if by_label:
        groups = [(name, related[related[source] == name]) for name in sorted(related[source].unique())]
    else:
        groups = [(None, related if label is None else words[words[source] == label])]
    tables = []
    for name, group in groups:
        table = _table(group, min_count, samples, confidence_level, seed).sort_values(
            ["weight", "stem"], ascending=[False, True]
        )
        table = table if n is None else table.head(n)
        if name is not None:
            table.insert(0, "label", name)
        tables.append(table)
    result = pd.concat(tables, ignore_index=True)
    which = f"{source} label `{label}`" if label else f"a relation by the {source} labels"
    intervals = (
        f"{100 * confidence_level:g} % bootstrap-t intervals from {samples} samples of whole documents, none below "
        f"{LEAST_DOCUMENTS} documents"
        if samples
        else "no intervals"
    )
    pieces = "the sum of its pieces'" if weight == "sum" else "the mean of its pieces'"
    result.attrs["protocol"] = (
        f"mean attention of the words at most {window} words from the nearer entity, instances with {which}; a word's "
        f"weight is {pieces}; stems of {min_count} words or more; {intervals}"
    )
    result.attrs["min_count"] = min_count
    return result


def compare_stems(
    weights: pd.DataFrame,
    stems: Sequence[str] | None = None,
    *,
    baseline: pd.DataFrame | None = None,
    window: int = 3,
    source: Literal["gold", "predicted"] = "gold",
    min_count: int = 3,
    stop_words: Literal["english"] | Collection[str] | None = None,
    negative: str | None = None,
    samples: int = 10_000,
    confidence_level: float = 0.95,
    seed: int = 1,
) -> pd.DataFrame:
    """Compare the attention of stems in related and unrelated pairs (the paper's Fig. 4).

    The paper compares mean weights. The weights of a sentence sum to 1, so the words of short sentences have larger
    weights, and related pairs occur in shorter sentences: an untrained model also reproduces the paper's figure. This
    function therefore tests the weight *relative* to the uniform one: the weight times the number of words of the
    instance, which is 1 under uniform attention. Pass the weights of an untrained model as `baseline` to see how much
    of a difference training made.

    Parameters
    ----------
    weights : pandas.DataFrame
        A table from ``RelationModel.attention``.
    stems : sequence of str, optional
        The stems to compare; by default, all with `min_count` words in both groups.
    baseline : pandas.DataFrame, optional
        The same table for an untrained model: ``finetune(..., max_steps=0).attention()``.
    window : int
        As in ``top_stems``.
    source : {"gold", "predicted"}
        Whether gold or predicted labels decide which instances are related.
    min_count : int
        Without `stems`: the minimum number of words in related and in unrelated pairs.
    stop_words : "english", collection of str, or None
        As in ``top_stems``.
    negative : str, optional
        As in ``top_stems``.
    samples : int
        Number of bootstrap samples and of permutations; 0 for neither intervals nor tests.
    confidence_level : float
        Confidence level of the intervals.
    seed : int
        Seed of the samples.

    Returns
    -------
    pandas.DataFrame
        One row per stem: ``stem``, ``word``; the paper's mean weight in ``positive`` and ``negative`` instances; their
        mean relative weight ``positive_relative`` and ``negative_relative`` with intervals (``_low``, ``_high``),
        counts of words and of documents; the ``difference`` of the relative means with its interval ``low`` to
        ``high``; the ``effect`` size of the relative weight (Hedges' g); the two-sided ``p`` of a permutation test over
        documents, and ``q``, p corrected for the number of stems tested (false discovery rate, Benjamini & Hochberg
        1995); and a ``note`` if fewer than 10 documents of either group have the stem, which then has neither interval
        nor test. With `baseline` also ``baseline_positive``, ``baseline_negative``, both with ``_relative`` too,
        ``baseline_difference`` and ``baseline_p``: the same figures of the untrained model.

    Raises
    ------
    ConfigError
        For a stem that does not occur, or a table that does not contain word weights.

    Examples
    --------
    >>> table = biorel.compare_stems(run.attention(), ["increas", "effect"], samples=200)
    >>> table["stem"].tolist()
    ['increas', 'effect']
    """
    _check_numbers(window=window, min_count=min_count, samples=samples, seed=seed)
    words, negative = _counted(weights, window, stop_words, negative, source)
    if isinstance(stems, str):
        raise ConfigError(f"stems: must be a list, not one string; write [{stems!r}]", "stems")
    related = (words[source] != negative).to_numpy()
    if stems is None:
        counts = [words[side]["stem"].value_counts() for side in (related, ~related)]
        frequent = [set(count[count >= min_count].index) for count in counts]
        chosen = sorted(frequent[0] & frequent[1])
    else:
        known = set(words["stem"])
        missing = [stem for stem in stems if stem not in known]
        if missing:
            hint = "give Porter stems, such as `increas` for increases; weights['stem'] lists them"
            names = ", ".join(f"`{stem}`" for stem in missing)
            raise ConfigError(f"stems: {names} not within {window} words of an entity ({hint})", "stems")
        chosen = list(dict.fromkeys(stems))
    resampling = {"samples": samples, "confidence_level": confidence_level, "seed": seed}
    table = _contrasts(words, related, chosen, resampling)
    if baseline is not None:
        plain, _ = _counted(baseline, window, stop_words, negative, source, name="baseline")
        _check_same_words(words, plain)
        # The labels of `weights` say what is related: an untrained model's predictions are meaningless.
        untrained = _contrasts(plain, related, chosen, resampling)
        for column in ("positive", "negative", "positive_relative", "negative_relative", "difference", "p"):
            table[f"baseline_{column}"] = untrained[column]
    if stems is None:
        table = table.sort_values(["difference", "stem"], ascending=[False, True], ignore_index=True)
    tests = (
        f"{100 * confidence_level:g} % bootstrap-t intervals and a permutation test over documents, {samples} samples, "
        f"none below {LEAST_DOCUMENTS} documents on a side; q over {int(table['p'].notna().sum())} stems"
        if samples
        else "no intervals, no tests"
    )
    table.attrs["protocol"] = (
        f"mean attention of the words at most {window} words from the nearer entity, instances with and without a "
        f"relation by the {source} labels; difference, effect, p and q of the weight relative to the uniform one "
        f"(weight x words of the instance); {tests}"
    )
    return table


def _contrasts(words: pd.DataFrame, related: npt.NDArray[np.bool_], stems: list[str], resampling: Any) -> pd.DataFrame:
    """One row per stem: the paper's means, and the test of the relative weight."""
    chosen = words["stem"].isin(stems).to_numpy()
    numbers = {stem: number for number, stem in enumerate(stems)}
    documents, _ = pd.factorize(words["document"], sort=True)
    coded = words.assign(code=words["stem"].map(numbers), position=documents)
    sides = [coded[chosen & side] for side in (related, ~related)]
    tested = _biorel.stem_contrasts(*(_columns(side, "relative") for side in sides), **resampling)
    raw = _biorel.stem_contrasts(*(_columns(side, "weight") for side in sides), **{**resampling, "samples": 0})
    forms = _forms(words[chosen])
    table = pd.DataFrame({"stem": stems, "word": [forms[stem] for stem in stems]})
    for name in ("positive", "negative"):
        table[name] = raw[name]
        table[f"{name}_relative"] = tested[name]
        for end in ("low", "high"):
            table[f"{name}_relative_{end}"] = tested[f"{name}_{end}"]
        for number in ("count", "documents"):
            table[f"{name}_{number}"] = tested[f"{name}_{number}"]
    for name in ("difference", "low", "high", "effect", "p", "q"):
        table[name] = tested[name]
    few = table[["positive_documents", "negative_documents"]].min(axis=1) < LEAST_DOCUMENTS
    table["note"] = np.where(few, _TOO_FEW, "")
    return table


def _check_numbers(*, window: int, min_count: int, samples: int, seed: int) -> None:
    whole_number(window, "window", 1)
    whole_number(min_count, "min_count")
    whole_number(samples, "samples")
    whole_number(seed, "seed")


def _check_label(weights: pd.DataFrame, label: str, field: str) -> None:
    labels = sorted({*weights["gold"].dropna(), *weights["predicted"].dropna()})
    if label not in labels:
        raise ConfigError(f"{field}: no instance has `{label}`; choose from {', '.join(map(str, labels))}", field)


def _check_same_words(words: pd.DataFrame, baseline: pd.DataFrame) -> None:
    key = ["instance", "word"]
    if len(words) != len(baseline) or (words[key].to_numpy() != baseline[key].to_numpy()).any():
        message = "baseline: does not have the same words in the same order; use the same corpus, split and marking"
        raise ConfigError(message, "baseline")


def _counted(
    weights: pd.DataFrame, window: int, stop_words: Any, negative: str | None, source: str, *, name: str = "weights"
) -> tuple[pd.DataFrame, str]:
    """The words to count, and the negative label."""
    needed = ["instance", "document", "word", "stem", "weight", "distance", "is_entity", "gold", "predicted"]
    require_columns(weights, needed, name, "give the table of run.attention() or model.attention()")
    if "relative" not in weights.columns:
        words = weights.groupby("instance")["weight"].transform("size")
        weights = weights.assign(relative=weights["weight"] * words)
    if source not in ("gold", "predicted"):
        raise ConfigError(f"source: must be gold or predicted, not {source!r}", "source")
    known = weights.attrs.get("negative")
    negative = known if negative is None else negative
    if negative is None:
        raise ConfigError("negative: name the label of pairs without a relation", "negative")
    # Of a baseline only the words count, and `weights` has been checked.
    if name == "weights" and negative != known:
        _check_label(weights, negative, "negative")
    near = (weights["distance"] <= window) & ~weights["is_entity"] & weights["stem"].str.contains(r"\w")
    if stop_words is not None:
        out = ENGLISH if isinstance(stop_words, str) and stop_words == "english" else stop_words
        if isinstance(out, str):
            raise ConfigError(f"stop_words: must be 'english' or a list of words, not {stop_words!r}", "stop_words")
        near &= ~weights["word"].str.lower().isin({word.lower() for word in out})
    return weights[near], negative


def _table(words: pd.DataFrame, min_count: int, samples: int, confidence_level: float, seed: int) -> pd.DataFrame:
    counts = words["stem"].map(words["stem"].value_counts())
    words = words[counts >= min_count]
    codes, stems = pd.factorize(words["stem"], sort=True)
    positions, _ = pd.factorize(words["document"], sort=True)
    columns = _biorel.stem_weights(
        _columns(words.assign(code=codes, position=positions), "weight"),
        samples=samples,
        confidence_level=confidence_level,
        seed=seed,
    )
    forms = _forms(words)
    table = pd.DataFrame({"stem": list(stems), "word": [forms[stem] for stem in stems], **columns})
    table["note"] = np.where(table["documents"] < LEAST_DOCUMENTS, _TOO_FEW, "")
    return table


def _columns(words: pd.DataFrame, weight: str) -> _Words:
    return (
        words["code"].to_numpy(np.int64, copy=True),
        words["position"].to_numpy(np.int64, copy=True),
        words[weight].to_numpy(np.float64, copy=True),
    )


def _forms(words: pd.DataFrame) -> dict[str, str]:
    """The most frequent lower-case form of each stem; of equally frequent ones, the alphabetically first."""
    counts = words.assign(form=words["word"].str.lower()).groupby(["stem", "form"]).size().reset_index(name="count")
    counts = counts.sort_values(["stem", "count", "form"], ascending=[True, False, True])
    return dict(counts.drop_duplicates("stem")[["stem", "form"]].itertuples(index=False, name=None))
