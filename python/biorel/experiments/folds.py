"""The folds of a corpus."""

from __future__ import annotations

from typing import NamedTuple

from biorel._types import By, Row
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
        return self.corpus.with_core(self.corpus._core.fold(number, len(self.numbers), self.by, self.seed))

    def describe(self) -> str:
        """Describe the folds for a protocol: ``10 folds by document``."""
        count = len(self.numbers)
        return f"{count} folds as the corpus gives them" if self.by == "given" else f"{count} folds by {self.by}"

    def plan(self) -> Row:
        """The settings that determine the folds."""
        return {"by": self.by, "folds": len(self.numbers), "fold_seed": None if self.by == "given" else self.seed}


def folds_of(corpus: Corpus, folds: int | None, by: By | None, seed: int) -> Folds:
    """Divide a corpus into folds; by default into its own if it has some."""
    given = corpus._core.given_folds
    by = by or ("document" if given is None else "given")
    if by == "given" and folds is not None and folds != given and given is not None:
        message = f'folds: {corpus.name} states {given} folds, not {folds}; omit `folds`, or choose by="document"'
        raise ConfigError(message, "folds")
    return Folds(corpus, by, seed, corpus._core.fold_numbers(10 if folds is None else folds, by, seed))
