"""Explanations of a model's decisions: weights of words and layers, and masked words."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from biorel import _biorel
from biorel._progress import LongWork
from biorel._types import Kind
from biorel.data.corpus import Corpus, check_corpus
from biorel.data.labelled import Labelled
from biorel.errors import ConfigError


class Explanations(Labelled):
    """The methods of ``RelationModel`` that explain its decisions."""

    _core: _biorel.Model

    def __init__(self, core: _biorel.Model, compute: _biorel.Compute) -> None:
        self._core = core
        self._compute = compute

    def attention(
        self, corpus: Corpus, split: str = "test", *, kind: Kind = "head", progress: bool = True
    ) -> pd.DataFrame:
        """The weight of each word in the sentence of each pair: what the model attended to.

        Parameters
        ----------
        corpus, split
            As ``RelationModel.predictions`` takes them.
        kind : {"head", "encoder", "gradient"}
            Which weights. ``head``: those of the attention pooling in the classifier's head, which the paper reads.
            ``encoder``: the attention of ``[CLS]`` in the encoder's last layer, averaged over its attention heads.
            ``gradient``: the gradient of the predicted label's logit times the word embedding, as an absolute value.
            Every head has the last two.
        progress : bool
            In a run longer than a minute, write how long it will take, and show its progress.

        Returns
        -------
        pandas.DataFrame
            One row per word: ``instance``, ``row`` (of your own table, as in ``Corpus.instances``), ``document``,
            ``word``, ``stem``, ``weight`` (the sum over its pieces; the words of an instance sum to 1), ``relative``
            (the weight times the number of words of the instance: 1 for uniform weights), ``pieces`` (its number of
            word pieces), ``distance`` (in words, to the nearer entity; 0 is the entity itself), ``distance1`` and
            ``distance2`` (to each entity), ``is_entity``, ``start`` and ``end`` in the marked text,
            ``original_start`` and ``original_end`` in the sentence (missing for tags, which are not in it), ``gold``,
            ``predicted``. ``attrs["negative"]`` is the label of pairs without a relation. Arrow takes the table
            unchanged: ``table.to_parquet(path)`` needs pyarrow.

        Raises
        ------
        ConfigError
            For ``kind="head"`` when the head does not weight words; ``attention``, ``attention-no-cls`` and
            ``entity-attention`` do.

        Examples
        --------
        >>> weights = model.attention(biorel.load_sample("ddi"), "test")
        >>> weights.groupby("instance")["weight"].sum().round(6).unique().tolist()
        [1.0]
        """
        instances = self._instances(corpus, split)
        with LongWork(len(instances), "attention", "pairs", show=progress) as work:
            columns = _biorel.attention(self._core, instances, kind, self._compute, work.report)
        table = corpus.name_rows(pd.DataFrame(columns))
        for name in ("original_start", "original_end"):
            table[name] = table[name].astype("Int64")
        table.attrs["negative"] = self._core.task.negative
        table.attrs["kind"] = kind
        return table

    def layer_weights(self, corpus: Corpus, split: str = "test") -> pd.DataFrame:
        """The weight of each layer's ``[CLS]`` vector in the head ``attention-all-cls``.

        Parameters
        ----------
        corpus, split
            As ``RelationModel.predictions`` takes them.

        Returns
        -------
        pandas.DataFrame
            One row per instance: ``instance``, ``document``, ``gold``, ``predicted``, and ``layer_1`` to ``layer_<L>``,
            which sum to 1. The first layer is the one above the embeddings.

        Raises
        ------
        ConfigError
            For another head.

        Examples
        --------
        >>> model.layer_weights(biorel.load_sample("ddi"), "test")
        Traceback (most recent call last):
        biorel.errors.ConfigError: head: `attention` does not weigh layers; choose one that does (attention-all-cls)
        """
        instances = self._instances(corpus, split)
        kept, labels, weights = _biorel.layer_weights(self._core, instances, self._compute)
        table = pd.DataFrame(instances.columns())[["id", "document", "label"]].iloc[kept].reset_index(drop=True)
        table.columns = pd.Index(["instance", "document", "gold"])
        table["predicted"] = [self.labels[label] for label in labels]
        for layer in range(weights.shape[1]):
            table[f"layer_{layer + 1}"] = weights[:, layer]
        return table

    def mask_words(
        self,
        corpus: Corpus,
        split: str = "test",
        *,
        words: Sequence[int] = (1, 3, 5),
        n_random: int = 10,
        related: bool = True,
        limit: int | None = 500,
        seed: int = 1,
        progress: bool = True,
    ) -> pd.DataFrame:
        """Mask the words with the highest attention and predict again, to test whether the decision depends on them.

        The words are replaced by ``[MASK]``; entities and punctuation stay. As baselines, the same number of words is
        masked by the encoder's attention, by the gradient and at random. Attended words are longer than others, so
        random words with as many word pieces as each ranking masks are another baseline. ``biorel.faithfulness``
        summarises the table.

        Parameters
        ----------
        corpus, split
            As ``RelationModel.predictions`` takes them.
        words : sequence of int
            Numbers of words to mask.
        n_random : int
            Number of random choices of words that are averaged.
        related : bool
            Take only pairs that are predicted to be related: masking can hardly remove the absence of a relation.
        limit : int or None
            Maximum number of instances, drawn with `seed`; None for all.
        seed : int
            Seed of all random choices.
        progress : bool
            In a run longer than a minute, write how long it will take, and show its progress.

        Returns
        -------
        pandas.DataFrame
            One row per instance, ranking and number of words: ``instance``, ``document``, ``gold``, ``predicted``;
            ``ranking`` (``attention``, if the head weights words; ``encoder``, ``gradient``, ``random``); ``words`` to
            mask and ``masked``, which is lower if an instance has fewer; ``pieces``, the number of masked word pieces;
            the probability of the predicted label ``before`` and ``after``, their difference ``drop``, and whether the
            decision ``changed`` (a fraction, for random words); ``matched_after`` and ``matched_changed``, the same
            for random words with as many pieces, of which the last may be masked in part (missing for ``random``).

        Raises
        ------
        ConfigError
            For numbers out of range, or a vocabulary without ``[MASK]``.

        Examples
        --------
        >>> table = model.mask_words(biorel.load_sample("ddi"), words=[2], limit=3, related=False)
        >>> table["ranking"].tolist()[:4]
        ['attention', 'encoder', 'gradient', 'random']
        """
        counts = list(words)
        if limit is not None and limit < 1:
            raise ConfigError(f"limit: must be at least 1, not {limit}", "limit")
        instances = self._instances(corpus, split)
        with LongWork(min(len(instances), limit or len(instances)), "masking", "pairs", show=progress) as work:
            columns = _biorel.mask_words(
                self._core,
                instances,
                words=counts,
                n_random=n_random,
                seed=seed,
                related=related,
                limit=limit,
                compute=self._compute,
                report=work.report,
            )
        table = pd.DataFrame(columns)
        table.insert(list(table.columns).index("changed"), "drop", table["before"] - table["after"])
        return table

    def _instances(self, corpus: Corpus, split: str) -> _biorel.Instances:
        check_corpus(corpus)
        return self._core.instances(corpus._core, [split])
