"""Corpora as their authors published them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, Literal

import pandas as pd
from biorel import _biorel
from biorel._html import table_html, title_html
from biorel._numbers import whole_number
from biorel._pickling import VERSION, check_version
from biorel._types import By, Marking
from biorel._warnings import warn
from biorel.data.checks import check
from biorel.data.labelled import Labelled
from biorel.errors import ConfigError


def check_corpus(corpus: object) -> None:
    """Raise TypeError for anything but a Corpus, such as its path, a common mistake."""
    if not isinstance(corpus, Corpus):
        given = type(corpus).__name__
        raise TypeError(f"corpus must be a Corpus, not {given}; read it with biorel.load_corpus(name, path)")


class Corpus(Labelled):
    """A corpus in memory: its task, its splits, and what happened while it was read.

    Returned by ``load_corpus``. It is immutable; ``split``, ``fold`` and ``divide`` return new ones.
    """

    _core: _biorel.Corpus

    def __init__(self, core: _biorel.Corpus, rows: pd.Index | None = None, *, negative_named: bool = False) -> None:
        self._core = core
        # Whether the user said which label means no relation; else it was guessed.
        self._negative_named = negative_named
        # The index of the DataFrame that the corpus was read from.
        self._rows = rows

    def with_core(self, core: _biorel.Corpus) -> Corpus:
        """A corpus with other splits of the same data."""
        return Corpus(core, self._rows, negative_named=self._negative_named)

    def name_rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """Replace the row numbers in the column ``row`` by the index of the user's DataFrame."""
        if self._rows is not None and "row" in table.columns:
            named = self._rows.take(table["row"].to_numpy())
            table["row"] = named.to_flat_index() if isinstance(named, pd.MultiIndex) else named
        return table

    @property
    def name(self) -> str:
        """``aimed``, ``ddi``, ``chemprot``, or the name of your table."""
        return self._core.name

    @property
    def splits(self) -> list[str]:
        """The names of the splits."""
        return self._core.splits

    def statistics(self) -> pd.DataFrame:
        """Sizes and label distribution of each split, as in the paper's Table I.

        The paper's own Table I has two rows swapped: 19,460 / 11,820 / 16,943 (48,223 in all) is ChemProt and 18,779 /
        7,244 / 5,761 (31,784) is DDI, both in the form of the BLUE benchmark (for DDI: ``splits="blue"``).

        Returns
        -------
        pandas.DataFrame
            One row per split: ``split``, ``documents`` and ``sentences`` (all, and those with a candidate pair),
            ``entities``, ``pairs``, one column per label, and ``lost``: gold positives in the files that could not
            become a pair, for instance because their two mentions are in different sentences.

        Examples
        --------
        >>> corpus = biorel.load_sample("ddi")
        >>> corpus.statistics()[["split", "documents", "sentences", "pairs", "false", "effect"]]
           split  documents  sentences  pairs  false  effect
        0  train         28        280    406    162      49
        1   test         10        100    142     54      19
        """
        return pd.DataFrame(self._core.statistics())

    def sentences(self, split: str) -> pd.DataFrame:
        """The sentences of a split, including those without a pair.

        Parameters
        ----------
        split : str
            One of ``splits``.

        Returns
        -------
        pandas.DataFrame
            One row per sentence: ``id``, ``document``, ``text``, and the numbers of ``entities`` and ``pairs``.

        Examples
        --------
        >>> biorel.load_sample("ddi").sentences("test")["text"][0]
        'Nalexbital should never be taken together with nalexpidol.'
        """
        return pd.DataFrame(self._core.sentences(split))

    def instances(self, split: str, marking: Marking = "typed") -> pd.DataFrame:
        """The candidate pairs of a split, each with its two entities marked in the text.

        Parameters
        ----------
        split : str
            One of ``splits``.
        marking : {"typed", "blue", "markers", "levitated", "levitated-visible"}
            ``typed``: each entity becomes a tag of its type, ``@DRUG$`` (the paper). ``blue``: the rules of the BLUE
            benchmark. ``markers``: ``[E1] aspirin [/E1]``. ``levitated``: every entity of the sentence becomes its tag,
            so that all pairs of a sentence have the same text, which is encoded once, with markers of the pair behind
            it. ``levitated-visible``: the same with the text unchanged. At document scope a pair has several mentions
            of each concept: the text and the entities show the nearest two, and only these markings mark the others.

        Returns
        -------
        pandas.DataFrame
            One row per pair: ``id``, ``document``, ``sentence``, ``text`` (marked), ``label``, ``entity1``,
            ``entity2``. Pairs of your own table are in its order and have the column ``row`` after ``id``: the index of
            your DataFrame, or the number of the row in its file, from 0 as ``pandas.read_csv`` counts.

        Examples
        --------
        >>> biorel.load_sample("ddi").instances("test")[["text", "label"]].iloc[0].tolist()
        ['@DRUG$ should never be taken together with @DRUG$.', 'advise']
        """
        return self.name_rows(pd.DataFrame(self._core.instances([split], marking).columns()))

    def check(self) -> pd.DataFrame:
        """What may be wrong with the corpus, by severity, with what to do about it.

        Returns
        -------
        pandas.DataFrame
            One row per finding, printed in full: ``severity`` (``error``: probably not meant, and scores would be
            wrong; ``warning``; ``note``), ``split``, ``count``, ``finding``, ``remedy``. It covers offsets in bytes,
            labels that differ only in case or blanks or look like a missing value, a missing negative label, too few
            pairs, one class, labels without training data, entities without types, documents in several splits, and a
            line per kind of ``findings``.

        Examples
        --------
        >>> table = pd.DataFrame({"text": ["a b"] * 3, "entity1": "a", "entity2": "b", "label": ["none", "x", "x"]})
        >>> biorel.load_corpus("table", table).check()[["severity", "finding"]].iloc[0].tolist()
        ['warning', 'only 3 pairs to train on']
        """
        return check(self._core, guessed=not self._negative_named)

    def findings(self) -> pd.DataFrame:
        """Everything that was lost, skipped or repaired while the files were read; nothing is dropped silently.

        Returns
        -------
        pandas.DataFrame
            One row per finding: ``kind`` (``lost``: a gold positive that could not become a pair; ``skipped``: in the
            files but not in the corpus; ``repaired``: read differently from what the file literally says), ``split``,
            ``document`` (missing for a file or a whole table), ``id``, ``label``, ``reason``.

        Examples
        --------
        >>> len(biorel.load_sample("ddi").findings())
        0
        """
        return pd.DataFrame(self._core.findings())

    @property
    def summary(self) -> list[str]:
        """One line per kind of finding, with its count; empty if there are no findings."""
        return self._core.summary

    def divide(self, parts: Mapping[str, Iterable[str]]) -> Corpus:
        """Form new splits from whole documents.

        Parameters
        ----------
        parts : mapping of str to iterable of str
            The identifiers of the documents of each new split. Documents in no split are left out.

        Returns
        -------
        Corpus
            The same sentences in the new splits.

        Raises
        ------
        ConfigError
            For an unknown document, a document in two splits, and a split without a pair.

        Examples
        --------
        >>> corpus = biorel.load_sample("aimed")
        >>> documents = corpus.sentences("all")["document"].unique()
        >>> corpus.divide({"train": documents[:17], "test": documents[17:]}).splits
        ['train', 'test']
        """
        return self.with_core(self._core.divide([(name, list(documents)) for name, documents in parts.items()]))

    def split(
        self,
        test: float = 0.2,
        *,
        dev: float = 0.0,
        by: Literal["document", "instance"] = "document",
        seed: int = 1,
    ) -> Corpus:
        """Divide all documents at random into ``train`` and ``test``, and ``dev`` if wanted.

        Parameters
        ----------
        test, dev : float
            Fractions of the candidate pairs, from 0 (no such split) to less than 1.
        by : {"document", "instance"}
            What stays together. With ``instance``, pairs of one sentence are in several splits and scores are far too
            good.
        seed : int
            The seed of the shuffle.

        Returns
        -------
        Corpus
            The same sentences in the new splits. Splits that the corpus had are not kept.

        Raises
        ------
        ConfigError
            For fractions out of range, and when a split would get no pair.

        Warns
        -----
        UserWarning
            For ``by="instance"``, with the number of sentences in several splits.

        Examples
        --------
        >>> corpus = biorel.load_sample("aimed").split(test=0.2, dev=0.1, seed=1)
        >>> corpus.statistics()[["split", "documents", "pairs"]]
           split  documents  pairs
        0  train         17    208
        1    dev          2     28
        2   test          5     66
        """
        fractions = {"dev": dev, "test": test}
        for name, fraction in fractions.items():
            if not isinstance(fraction, Real) or not 0 <= fraction < 1:
                raise ConfigError(f"{name}: must be a fraction from 0 to less than 1, not {fraction!r}", name)
        if not 0 < test + dev < 1:
            raise ConfigError(f"test: test + dev must be more than 0 and less than 1, not {test + dev}", "test")
        parts = {"train": 1 - test - dev} | {name: fraction for name, fraction in fractions.items() if fraction}
        seed = whole_number(seed, "seed")
        divided = self.with_core(self._core.split([], list(parts.items()), by, seed))
        if by == "instance":
            _warn_of_shared_sentences(divided, "splits")
        return divided

    def hold_out(self, split: str, name: str, fraction: float) -> Corpus:
        """Move a fraction of a split, in whole documents, to a new split; every call moves the same documents."""
        parts = [(split, 1 - fraction), (name, fraction)]
        return self.with_core(self._core.split([split], parts, "document", 1))

    def fold(self, index: int, *, folds: int = 10, by: By | None = None, seed: int = 1) -> Corpus:
        """Hold one fold out: a corpus with the splits ``train`` and ``test``.

        If the file states the published folds (``aimed_pairs.tsv``), these are used and `folds` and `seed` are ignored,
        unless `by` says otherwise. Otherwise the documents are shuffled with `seed` and assigned so that the folds have
        nearly equal numbers of pairs. Documents without a pair are assigned too, and with ``by="instance"`` so are the
        gold positives that could not become a pair: each counts as a miss in exactly one fold.

        Parameters
        ----------
        index : int
            The fold to test on, from 0.
        folds : int
            The number of folds.
        by : {"document", "given", "instance"}, optional
            What a fold keeps together: documents, or what the corpus's own folds do. With ``instance``, pairs of one
            sentence are in both splits and scores are far too good; use it only to reproduce papers that did so.
        seed : int
            The seed of the shuffle.

        Returns
        -------
        Corpus
            All documents, in ``train`` and ``test``.

        Warns
        -----
        UserWarning
            For ``by="instance"``, with the number of sentences in both splits.

        Examples
        --------
        >>> biorel.load_sample("aimed").fold(0, folds=4).statistics()["documents"].tolist()
        [18, 6]
        """
        index = whole_number(index, "index")
        by = by or ("document" if self._core.given_folds is None else "given")
        divided = self.with_core(self._core.fold(index, folds, by, seed))
        if by == "instance":
            _warn_of_shared_sentences(divided, "folds")
        return divided

    def leakage(self, train: str = "train", test: str = "test", *, threshold: float = 0.8) -> pd.DataFrame:
        """What two splits have in common, among sentences with a candidate pair.

        Parameters
        ----------
        train, test : str
            Two of ``splits``.
        threshold : float
            The Jaccard index of their words, from 0 to 1, from which two sentences are near-duplicates.

        Returns
        -------
        pandas.DataFrame
            One row per finding: ``kind`` (``document``, ``sentence``: the same words, ``near-duplicate``), the
            identifiers in ``train`` and ``test``, ``similarity``.

        Examples
        --------
        >>> sorted(biorel.load_sample("ddi").leakage(threshold=0.9)["kind"].unique())
        []
        """
        return pd.DataFrame(self._core.leakage(train, test, threshold))

    def _repr_html_(self) -> str:
        text = f"labels: {', '.join(self.labels)}"
        text += f"; no relation: {self.negative}" if self.negative else ""
        return f"{title_html(f'Corpus {self.name}', text)}{table_html(self.statistics())}"

    def __getstate__(self) -> dict[str, Any]:
        """The whole corpus, for a process with the same version of biorel."""
        return {"version": VERSION, "content": self._core.to_bytes(), "rows": self._rows, "named": self._negative_named}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read and check what another process has pickled."""
        check_version(state["version"])
        self._core = _biorel.Corpus.from_bytes(state["content"])
        self._rows = state["rows"]
        self._negative_named = state["named"]

    def __repr__(self) -> str:
        """One line with the splits' sizes."""
        sizes = ", ".join(f"{row.split}: {row.pairs:,} pairs" for row in self.statistics().itertuples())
        return f"Corpus({self.name!r}, {sizes}; labels {', '.join(self.labels)})"


def _warn_of_shared_sentences(corpus: Corpus, what: str) -> None:
    train = set(corpus.sentences("train")["id"])
    shared = {split: len(train & set(corpus.sentences(split)["id"])) for split in corpus.splits[1:]}
    leaks = " and ".join(f"{count} sentences are in both train and {split}" for split, count in shared.items())
    warn(f"{what} by instance leak: {leaks}, so scores will be too good")
