"""Faithfulness of attention: how masking words changes predictions, and whether two models rank words alike.

After DeYoung et al. (ERASER, ACL 2020) and Jain & Wallace ("Attention is not Explanation", NAACL 2019).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from biorel import _biorel
from biorel._tables import require_columns
from biorel.errors import ConfigError
from biorel.evaluation.scores import Scores


def faithfulness(
    masked: pd.DataFrame, *, samples: int = 10_000, confidence_level: float = 0.95, seed: int = 1
) -> Scores:
    """Summarise how masking words changed the predictions.

    The weight of a word is the sum of its pieces' weights, so words with much attention are long, and the same number
    of random words has fewer pieces. The decisive comparison is therefore with random words that have the same number
    of *pieces*; the comparison with the same number of words is also given.

    Parameters
    ----------
    masked : pandas.DataFrame
        A table from ``RelationModel.mask_words``.
    samples : int
        Number of bootstrap samples of documents; 0 for no intervals.
    confidence_level : float
        Confidence level of the intervals.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Scores
        One row per number of ``words`` and ``ranking``: ``instances``; mean number of masked ``pieces``; mean ``drop``
        in the predicted label's probability with its interval ``low`` to ``high``; the proportion of predictions that
        ``changed``; and, paired by instance, the drop minus that of random words with the same number of pieces,
        ``over_random``, with its interval ``over_low`` to ``over_high``. If that interval includes 0 or lies below, the
        ranking explains no more than chance, and ``better`` is False. ``over_words``, with its interval
        ``over_words_low`` to ``over_words_high``, is the drop minus that of the same number of random words, which have
        fewer pieces. With fewer than 10 documents there are no intervals.

    Raises
    ------
    ConfigError
        For a table that is not from ``mask_words``.

    Examples
    --------
    >>> masked = model.mask_words(biorel.load_sample("ddi"), words=[1, 3], limit=8, related=False)
    >>> table = biorel.faithfulness(masked, samples=100)
    >>> table[["words", "ranking"]].values.tolist()[:2]
    [[1, 'attention'], [1, 'encoder']]
    """
    needed = ["instance", "document", "ranking", "words", "pieces", "before", "drop", "changed", "matched_after"]
    require_columns(masked, needed, "masked", "give the table of mask_words()")
    bootstrap = _Bootstrap(samples, confidence_level, seed)
    over_pieces, over_words = (
        ["over_random", "over_low", "over_high"],
        ["over_words", "over_words_low", "over_words_high"],
    )
    rows = []
    for words in sorted(masked["words"].unique()):
        part = masked[masked["words"] == words]
        chance = part[part["ranking"] == "random"].set_index("instance")["drop"]
        for ranking in ("attention", "encoder", "gradient", "random"):
            group = part[part["ranking"] == ranking]
            if group.empty:
                continue
            mean, _, low, high = bootstrap.mean(group["drop"], group["document"])
            row: dict[str, Any] = {"words": words, "ranking": ranking, "instances": len(group)}
            row |= {"pieces": group["pieces"].mean(), "drop": mean, "low": low, "high": high}
            row |= {"changed": group["changed"].mean()} | dict.fromkeys([*over_pieces, "better", *over_words])
            if ranking != "random":
                matched = group["before"] - group["matched_after"]
                for names, random in (
                    (over_pieces, matched.to_numpy()),
                    (over_words, chance.reindex(group["instance"]).to_numpy()),
                ):
                    mean, _, low, high = bootstrap.mean(group["drop"] - random, group["document"])
                    row |= dict(zip(names, (mean, low, high), strict=True))
                row["better"] = None if np.isnan(row["over_low"]) else bool(row["over_low"] > 0)
            rows.append(row)
    columns = ["words", "ranking", "instances", "pieces", "drop", "low", "high", "changed"]
    summary = pd.DataFrame(rows, columns=[*columns, *over_pieces, "better", *over_words])
    floats = dict.fromkeys([*over_pieces, *over_words], float)
    table = Scores(summary.astype({**floats, "better": "boolean"}))
    table.attrs["protocol"] = (
        "drop in the predicted label's probability when the top words are masked, entities kept; over_random: compared "
        "with random words of as many pieces, over_words: with as many random words; "
        f"{100 * confidence_level:g} % bootstrap-t intervals from {samples} samples of whole documents, none below "
        f"{_biorel.least_documents()} documents"
    )
    return table


def rank_agreement(
    tables: Mapping[str, pd.DataFrame], *, samples: int = 10_000, confidence_level: float = 0.95, seed: int = 1
) -> Scores:
    """Rank correlation of the word weights of several models (seeds, heads) or kinds of weights.

    Parameters
    ----------
    tables : mapping of str to pandas.DataFrame
        Two or more tables from ``RelationModel.attention`` for the same instances, by name.
    samples, confidence_level, seed
        Settings of the bootstrap over documents, as in ``faithfulness``.

    Returns
    -------
    Scores
        One row per pair of tables: ``first``, ``second``, ``instances``, the mean over instances of Spearman's rank
        correlation of the words' weights ``rho``, its ``sd`` over instances, and the interval ``low`` to ``high`` of
        the mean (none below 10 documents). Entities and punctuation are left out, and so are instances with fewer than
        three other words.

    Raises
    ------
    ConfigError
        When the tables do not have the same words.

    Examples
    --------
    >>> tables = {"head": run.attention(), "gradient": run.attention(kind="gradient")}
    >>> biorel.rank_agreement(tables, samples=100)[["first", "second"]].values.tolist()
    [['head', 'gradient']]
    """
    if not isinstance(tables, Mapping) or len(tables) < 2:
        raise ConfigError("tables: must name two tables or more, {name: table}", "tables")
    rows = []
    for (first, a), (second, b) in itertools.combinations(tables.items(), 2):
        position = ["instance", "start", "end"]
        if len(a) != len(b) or not a[position].reset_index(drop=True).equals(b[position].reset_index(drop=True)):
            message = f"tables: `{first}` and `{second}` do not have the same words; use the same split and marking"
            raise ConfigError(message, "tables")
        counts = (~a["is_entity"] & a["stem"].str.contains(r"\w")).to_numpy()
        kept = a[counts]
        sizes = kept.groupby("instance", sort=False).size()
        starts = [0, *sizes.cumsum().tolist()]
        rho = _biorel.rank_correlations(
            kept["weight"].to_numpy(np.float64, copy=True), b["weight"].to_numpy(np.float64, copy=True)[counts], starts
        )
        documents = kept.drop_duplicates("instance")["document"].to_numpy()
        known = ~np.isnan(rho) & (sizes.to_numpy() >= 3)
        if not known.any():
            raise ConfigError(f"tables: `{first}` and `{second}` have no instance with three words to rank", "tables")
        mean, sd, low, high = _Bootstrap(samples, confidence_level, seed).mean(
            pd.Series(rho[known]), pd.Series(documents[known])
        )
        row = {"first": first, "second": second, "instances": int(known.sum()), "rho": mean, "sd": sd}
        rows.append({**row, "low": low, "high": high})
    table = Scores(pd.DataFrame(rows))
    table.attrs["protocol"] = (
        "mean over instances of Spearman's correlation of word weights, entities and punctuation left out; "
        f"{100 * confidence_level:g} % bootstrap-t intervals from {samples} samples of whole documents, none below "
        f"{_biorel.least_documents()} documents"
    )
    return table


class _Bootstrap(NamedTuple):
    """The settings of a bootstrap over documents."""

    samples: int
    confidence_level: float
    seed: int

    def mean(self, values: pd.Series[Any], documents: pd.Series[Any]) -> tuple[float, float, float, float]:
        """Mean, standard deviation, and the ends of the mean's interval."""
        positions, _ = pd.factorize(documents, sort=True)
        return _biorel.bootstrap_mean(values.astype(float).tolist(), positions.tolist(), **self._asdict())
