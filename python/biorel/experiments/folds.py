"""The folds of a corpus: by document or instance, its own, or its splits."""

from __future__ import annotations

from typing import Literal, NamedTuple

from biorel._numbers import whole_number
from biorel._types import By, Row
from biorel._warnings import warn
from biorel.data.corpus import Corpus
from biorel.errors import ConfigError


class Folds(NamedTuple):
    """All folds of a corpus; `numbers` are the arguments of ``part``."""

    corpus: Corpus
    by: By
    seed: int
    numbers: list[int]

    def part(self, number: int) -> Corpus:
        """The corpus as ``train`` and ``test``, with this fold held out."""
        if self.by == "split":
            documents = documents_of_splits(self.corpus)
            test = documents.pop(self.corpus.splits[number])
            train = [document for own in documents.values() for document in own]
            return self.corpus.with_core(self.corpus._core.divide([("train", train), ("test", test)]))
        return self.corpus.with_core(self.corpus._core.fold(number, len(self.numbers), self.by, self.seed))

    def describe(self) -> str:
        """Describe the folds for a protocol: ``10 folds by document``."""
        count = len(self.numbers)
        if self.by == "split":
            return f"{count} folds, one for each split ({', '.join(self.corpus.splits)})"
        return f"{count} folds as the corpus gives them" if self.by == "given" else f"{count} folds by {self.by}"

    def plan(self) -> Row:
        """The settings that determine the folds."""
        seed = None if self.by in ("given", "split") else self.seed
        return {"by": self.by, "folds": len(self.numbers), "fold_seed": seed}

    def names(self) -> list[str] | None:
        """What each fold holds out, if the folds have names."""
        return self.corpus.splits if self.by == "split" else None


def documents_of_splits(corpus: Corpus) -> dict[str, list[str]]:
    """The documents of each split, also those whose only relations were lost."""
    findings = corpus.findings().dropna(subset=["split", "document"])
    lost = findings.groupby("split")["document"].agg(list).to_dict() if len(findings) else {}
    found = {
        split: list(dict.fromkeys([*corpus.sentences(split)["document"], *lost.get(split, [])]))
        for split in corpus.splits
    }
    home: dict[str, str] = {}
    for split, documents in found.items():
        for document in documents:
            if home.setdefault(document, split) != split:
                message = f'by: document {document} is in {home[document]} and in {split}; choose by="document"'
                raise ConfigError(message, "by")
    return found


def folds_of(corpus: Corpus, folds: int | Literal["given"] | None, by: By | None, seed: int) -> Folds:
    """Divide a corpus into folds; by default into its own if it has some."""
    whole_number(seed, "fold_seed")
    if folds == "given":
        if by not in (None, "given"):
            raise ConfigError(f'folds: "given" is by="given", not by="{by}"; leave one of them out', "folds")
        folds, by = None, "given"
    elif folds is not None:
        folds = whole_number(folds, "folds", 2, also=', or "given"')
    if by == "split":
        if folds is not None:
            raise ConfigError('folds: each split is a fold; leave it out, or choose by="document"', "folds")
        if len(corpus.splits) < 2:
            raise ConfigError(f'by: {corpus.name} has one split; choose by="document"', "by")
        documents_of_splits(corpus)
        return Folds(corpus, by, seed, list(range(len(corpus.splits))))
    given = corpus._core.given_folds
    by = by or ("document" if given is None else "given")
    if by == "given" and folds is not None and folds != given and given is not None:
        message = f'folds: {corpus.name} states {given} folds, not {folds}; omit `folds`, or choose by="document"'
        raise ConfigError(message, "folds")
    return Folds(corpus, by, seed, corpus._core.fold_numbers(10 if folds is None else folds, by, seed))


def warn_without_positives(folds: Folds, pooled: str) -> None:
    """Warn of folds whose F1 is 0 for any model; `pooled` says where the pooled scores are."""
    names = folds.names()
    empty = []
    for number in folds.numbers:
        part = folds.part(number)
        labels = part.instances("test")["label"]
        if not sum(part._core.lost("test")) and (labels == part.negative).all():
            empty.append(str(number) if names is None else names[number])
    if empty:
        remedy = "" if folds.by == "split" else "; or give fewer folds"
        remedy += ', or by="instance" (which leaks)' if folds.by == "document" else ""
        warn(
            f"folds: no positive pair is tested in {', '.join(empty)}, so F1 is 0 there and lowers the mean; use the "
            f"pooled scores ({pooled}){remedy}"
        )
