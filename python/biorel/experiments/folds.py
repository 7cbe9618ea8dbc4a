"""The folds of a corpus."""

from __future__ import annotations

from typing import NamedTuple

from biorel._types import By, Row
from biorel.data.corpus import Corpus
from biorel.errors import ConfigError


class Folds(NamedTuple):
    """All folds of a corpus; `numbers` are what ``part`` takes."""

    corpus: Corpus
    by: By
    seed: int
    numbers: list[int]

    def part(self, number: int) -> Corpus:
        """The corpus as ``train`` and ``test``, with this fold held out."""
        return self.corpus.with_core(self.corpus._core.fold(number, len(self.numbers), self.by, self.seed))

    def describe(self) -> str:
        """As a protocol has it: ``10 folds by document``."""
        count = len(self.numbers)
        return f"{count} folds as the corpus gives them" if self.by == "given" else f"{count} folds by {self.by}"

    def plan(self) -> Row:
        """What decides the folds."""
        return {"by": self.by, "folds": len(self.numbers), "fold_seed": None if self.by == "given" else self.seed}


def folds_of(corpus: Corpus, folds: int | None, by: By | None, seed: int) -> Folds:
    """The corpus's own folds where it has some, unless something else is asked for."""
    given = corpus._core.given_folds
    by = by or ("document" if given is None else "given")
    if by == "given" and folds is not None and folds != given and given is not None:
        message = f'folds: {corpus.name} states {given} folds, not {folds}; leave `folds` out, or choose by="document"'
        raise ConfigError(message, "folds")
    return Folds(corpus, by, seed, corpus._core.fold_numbers(10 if folds is None else folds, by, seed))
