"""The result of fine-tuning on several corpora at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
from biorel._types import PathLike
from biorel.errors import ConfigError
from biorel.models.relation_model import RelationModel
from biorel.training.run import Run


class JointRun(Mapping[str, Run]):
    """The runs of several corpora that were trained together, by name. Returned by ``finetune`` for several corpora.

    Each is a run like that of one corpus, with a model, predictions and scores of its own. Their models have the same
    encoder and head; the classifier, and with levitated markers the markers, are their own. The history is that of all
    together.

    Examples
    --------
    >>> corpora = [biorel.load_sample("ddi"), biorel.load_sample("chemprot")]
    >>> joint = biorel.finetune(corpora, "minilm", max_steps=1, progress=False)
    >>> list(joint)
    ['ddi', 'chemprot']
    >>> joint["ddi"].scores.attrs["protocol"]
    'micro-F1 over the 4 positive classes, test, 142 pairs'
    """

    def __init__(self, runs: Mapping[str, Run]) -> None:
        self._runs = dict(runs)

    def __getitem__(self, name: str) -> Run:
        if name not in self._runs:
            raise KeyError(f"{name!r} is not one of {', '.join(self._runs)}")
        return self._runs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def models(self) -> dict[str, RelationModel]:
        """The model of each corpus."""
        return {name: run.model for name, run in self._runs.items()}

    @property
    def history(self) -> pd.DataFrame:
        """One row per optimizer step of all corpora together; as ``Run.history``."""
        return next(iter(self._runs.values())).history

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C stopped the run before its last step."""
        return any(run.interrupted for run in self._runs.values())

    @property
    def scores(self) -> pd.DataFrame:
        """The scores of all corpora on their test splits, with the column ``corpus``; each run's have their protocol.

        Raises
        ------
        ConfigError
            When no corpus has a test split.
        """
        tables = [run.scores.assign(corpus=name) for name, run in self._runs.items() if run.test is not None]
        if not tables:
            raise ConfigError("test: no corpus has a test split to score", "test")
        table = pd.concat([pd.DataFrame(table) for table in tables], ignore_index=True)
        return table[["corpus", *(column for column in table.columns if column != "corpus")]]

    def save(self, directory: PathLike) -> None:
        """Save the model of each corpus in a folder of its name, which ``biorel.load`` opens.

        Parameters
        ----------
        directory : path
            The folder of these folders; it is made if there is none.

        Examples
        --------
        >>> joint = biorel.finetune({"a": biorel.load_sample("ddi")}, "minilm", max_steps=0, progress=False)
        >>> joint.save(folder / "joint")
        >>> biorel.load(folder / "joint" / "a").labels[1]
        'mechanism'
        """
        Path(directory).mkdir(parents=True, exist_ok=True)
        for name, run in self._runs.items():
            run.save(Path(directory) / name)

    def __repr__(self) -> str:
        """Show the run of each corpus."""
        return "JointRun(" + ", ".join(f"{name}: {run!r}" for name, run in self._runs.items()) + ")"
