"""What a corpus and a model have in common: the labels of their task."""

from __future__ import annotations

from biorel import _biorel


class Labelled:
    """Base of ``Corpus`` and ``RelationModel``."""

    _core: _biorel.Corpus | _biorel.Model

    @property
    def labels(self) -> list[str]:
        """All labels, in the order of every table."""
        return self._core.task.labels

    @property
    def negative(self) -> str | None:
        """The label that means "no relation", if there is one."""
        return self._core.task.negative
