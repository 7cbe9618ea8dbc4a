"""Several relation models of one task as one: the mean of their probabilities."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from biorel import _biorel
from biorel._files import atomic_write_directory
from biorel._pickling import files_of
from biorel._types import Device, PathLike, Precision
from biorel.data.corpus import Corpus
from biorel.data.tables import Offsets
from biorel.errors import CheckpointError, ConfigError
from biorel.evaluation.scores import Scores, score_predictions
from biorel.models.relation_model import RelationModel, load

# The file that makes a directory an ensemble.
_FILE = "ensemble.json"
_FORMAT = 1

_Predict: TypeAlias = Callable[[RelationModel], pd.DataFrame]


class Ensemble:
    """Relation models of one task that decide together. Made by ``ensemble``.

    Attributes
    ----------
    models : list of RelationModel
        The members.
    labels : list of str
        The labels, in the order of the first member.
    """

    def __init__(self, models: Sequence[RelationModel]) -> None:
        self.models = list(models)
        self.labels: list[str] = self.models[0].labels

    def predict(
        self,
        sentences: Sequence[Mapping[str, Any]] | pd.DataFrame,
        *,
        columns: Mapping[str, str] | None = None,
        offsets: Offsets = "characters",
        progress: bool = True,
    ) -> pd.DataFrame:
        """Classify pairs by the mean of the members' probabilities.

        Parameters
        ----------
        sentences, columns, offsets, progress
            As ``RelationModel.predict`` takes them.

        Returns
        -------
        pandas.DataFrame
            The table of ``RelationModel.predict``. A pair that a member cannot classify, because its entities are too
            far apart for it, has the mean of the others.

        Raises
        ------
        CorpusError
            As ``RelationModel.predict``.

        Examples
        --------
        >>> both = biorel.ensemble([model, model])
        >>> entities = [{"start": 0, "end": 7, "type": "drug"}, {"start": 15, "end": 23, "type": "drug"}]
        >>> sentences = [{"text": "Aspirin raises warfarin.", "entities": entities}]
        >>> both.predict(sentences)["relation"].equals(model.predict(sentences)["relation"])
        True
        """
        given: dict[str, Any] = {"columns": columns, "offsets": offsets, "progress": progress}
        return self._mean(lambda model: model.predict(sentences, **given), "relation")

    def predictions(self, corpus: Corpus, split: str = "test", *, progress: bool = True) -> pd.DataFrame:
        """Classify the candidate pairs of a split of a corpus.

        Parameters
        ----------
        corpus, split, progress
            As ``RelationModel.predictions`` takes them.

        Returns
        -------
        pandas.DataFrame
            The table of ``RelationModel.predictions``; its ``text`` is that of the first member.
        """
        return self._mean(lambda model: model.predictions(corpus, split, progress=progress), "predicted")

    def evaluate(self, corpus: Corpus, split: str = "test", *, progress: bool = True) -> Scores:
        """Score the ensemble on a split of a corpus.

        Parameters
        ----------
        corpus, split, progress
            As ``RelationModel.evaluate`` takes them.

        Returns
        -------
        Scores
            As ``RelationModel.evaluate``.

        Examples
        --------
        >>> sample = biorel.load_sample("ddi")
        >>> biorel.ensemble([model, model]).evaluate(sample).equals(model.evaluate(sample))
        True
        """
        predictions = self.predictions(corpus, split, progress=progress)
        return score_predictions(predictions, corpus, split, task=self.models[0]._core.task)

    def save(self, directory: PathLike) -> None:
        """Save all members in one directory, which ``load_ensemble`` reads. It is written atomically.

        Parameters
        ----------
        directory : path
            A new directory, or one with an earlier ensemble, which is replaced.

        Raises
        ------
        ConfigError
            When `directory` has something else.
        """
        path = Path(directory)
        if path.exists() and not (path / _FILE).is_file() and not (path.is_dir() and not any(path.iterdir())):
            raise ConfigError(f"directory: {path} exists and is not an ensemble; choose another name", "directory")
        _biorel.check_replaceable(path)
        names = [f"model-{number}" for number in range(1, len(self.models) + 1)]
        about = json.dumps({"format": _FORMAT, "models": names}, indent=2) + "\n"
        files = {_FILE: about.encode()}
        for name, model in zip(names, self.models, strict=True):
            files |= {f"{name}/{file}": content for file, content in files_of(model.save).items()}
        atomic_write_directory(path, files)

    def _mean(self, predict: _Predict, name: str) -> pd.DataFrame:
        """The first member's table with the decision of all."""
        columns = [f"p_{label}" for label in self.labels]
        tables = list(self._aligned([predict(model) for model in self.models], name))
        stacked = np.stack([table[columns].to_numpy(float) for table in tables])  # (models, pairs, labels)
        known = ~np.isnan(stacked).any(axis=2)
        total = np.where(known[:, :, None], stacked, 0.0).sum(axis=0)
        with np.errstate(invalid="ignore"):
            mean = total / known.sum(axis=0)[:, None]
        table = tables[0].copy()
        decided = known.any(axis=0)
        best = np.where(decided, np.nan_to_num(mean).argmax(axis=1), 0)
        table[name] = pd.Series(np.array(self.labels, dtype=object)[best], index=table.index).where(decided)
        table["probability"] = mean.max(axis=1)
        table[columns] = mean
        return table

    def _aligned(self, tables: list[pd.DataFrame], name: str) -> Iterator[pd.DataFrame]:
        """The tables in the order of the first; members with another marking may order pairs differently."""
        key = ["id"] if "id" in tables[0] and name == "predicted" else _key(tables[0])
        for table in tables:
            if key is None or table[key].equals(tables[0][key]):
                yield table
            else:
                wanted, own = (_places(one, key) for one in (tables[0], table))
                yield table.iloc[own.get_indexer(wanted)].set_axis(tables[0].index)

    def __repr__(self) -> str:
        """Show the members."""
        return f"Ensemble({', '.join(map(repr, self.models))})"


def _places(table: pd.DataFrame, key: list[str]) -> pd.MultiIndex:
    """The key of each row, with a number that tells equal ones apart."""
    return pd.MultiIndex.from_frame(table[key].assign(number=table.groupby(key).cumcount()))


def _key(table: pd.DataFrame) -> list[str] | None:
    """The columns that identify a pair of a sentence; None for a user's table, whose order is kept."""
    key = ["sentence", "start1", "end1", "start2", "end2"]
    return key if set(key) <= set(table.columns) else None


def ensemble(
    models: Sequence[RelationModel | PathLike],
    *,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
) -> Ensemble:
    """Join relation models of one task, such as those of several seeds, heads or encoders.

    The probabilities of a pair are the means of the members'.

    Parameters
    ----------
    models : sequence of RelationModel or path
        Two or more models with the same labels, or directories for ``load``.
    device, precision, threads
        Of the models that are loaded, as ``load`` takes them.

    Returns
    -------
    Ensemble
        ``predict``, ``predictions`` and ``evaluate`` as a model has them.

    Raises
    ------
    ConfigError
        For fewer than two models, or models whose labels or negative labels differ.

    Examples
    --------
    >>> both = biorel.ensemble([model, model])
    >>> both.save(folder / "both")
    >>> len(biorel.load_ensemble(folder / "both").models)
    2
    """
    if isinstance(models, (str, os.PathLike)) or len(models) < 2:
        raise ConfigError(f"models: must be a list of two models or more, not {models!r:.80}", "models")
    how: dict[str, Any] = {"device": device, "precision": precision, "threads": threads}
    opened = [model if isinstance(model, RelationModel) else load(model, **how) for model in models]
    first = opened[0]._core.task
    for model in opened[1:]:
        task = model._core.task
        if sorted(task.labels) != sorted(first.labels) or task.negative != first.negative:
            raise ConfigError(
                f"models: {model!r} has the labels {', '.join(task.labels)} (negative: {task.negative}), and the first "
                f"one {', '.join(first.labels)} (negative: {first.negative}); an ensemble needs the same",
                "models",
            )
    return Ensemble(opened)


def load_ensemble(
    directory: PathLike, *, device: Device = "auto", precision: Precision = "auto", threads: int | None = None
) -> Ensemble:
    """Load what ``Ensemble.save`` wrote.

    Parameters
    ----------
    directory : path
        The directory.
    device, precision, threads
        As ``load`` takes them.

    Returns
    -------
    Ensemble
        The ensemble.

    Raises
    ------
    CheckpointError
        When the directory is not an ensemble.
    """
    path = Path(directory)
    try:
        about = json.loads((path / _FILE).read_text(encoding="utf-8"))
        names = [str(name) for name in about["models"]] if about["format"] == _FORMAT else []
    except FileNotFoundError:
        hint = "; a single model is loaded by biorel.load" if (path / "biorel.json").is_file() else ""
        raise CheckpointError(f"{path}: not an ensemble (there is no {_FILE}){hint}") from None
    except (ValueError, KeyError, TypeError):
        names = []
    if not names:
        raise CheckpointError(f"{path / _FILE}: not the description of an ensemble that this version reads")
    return ensemble([path / name for name in names], device=device, precision=precision, threads=threads)
