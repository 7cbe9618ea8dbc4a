"""Fine-tuned relation models: prediction, scores, saving and loading."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from biorel import _biorel
from biorel._html import fields_html, title_html
from biorel._pickling import VERSION, check_version, files_of, opened
from biorel._progress import LongWork
from biorel._types import Device, PathLike, Precision
from biorel._warnings import warn
from biorel.data.corpus import Corpus
from biorel.data.tables import Offsets, Table, read_table
from biorel.errors import ConfigError
from biorel.evaluation.scores import Scores, score_predictions
from biorel.models.devices import choose
from biorel.models.explanations import Explanations
from biorel.models.hub import fetch_model, push
from biorel.models.model_card import SYNTHETIC, ReportedScores, read_card, rename_in_card, write_card
from biorel.models.sentences import checked_sentences
from biorel.models.table_prediction import is_table, table_pairs


class RelationModel(Explanations):
    """A fine-tuned relation classifier: encoder, head, labels and entity marking.

    Created by ``finetune`` (``run.model``) or ``load``.
    """

    def __init__(
        self,
        core: _biorel.Model,
        compute: _biorel.Compute,
        *,
        name: str | None = None,
        readme: str | None = None,
        synthetic: bool = False,
    ) -> None:
        super().__init__(core, compute)
        self._name = name
        self._hash: str | None = None
        self._readme = readme  # of the directory from which it was loaded; its author may have changed it
        self._synthetic = synthetic or SYNTHETIC in (readme or "")  # trained on the sample

    @property
    def head(self) -> str:
        """The paper's head that classifies."""
        return self._core.head

    @property
    def marking(self) -> str:
        """How entities are marked."""
        return self._core.marking

    @property
    def card(self) -> dict[str, Any]:
        """The metadata that is saved: task, labels, marking, training settings, encoder, hash of the data."""
        return cast("dict[str, Any]", json.loads(self._core.card))

    @property
    def hash(self) -> str:
        """SHA-256 of everything that determines predictions: the same before and after saving, in any directory."""
        if self._hash is None:
            self._hash = self._core.hash
        return self._hash

    @property
    def identity(self) -> str:
        """Name (of its directory, else of its task) and the first digits of its hash, as tables show it."""
        return f"{self._name or self._core.task.name}@{self.hash[:12]}"

    def predict(
        self,
        sentences: Sequence[Mapping[str, Any]] | pd.DataFrame,
        *,
        columns: Mapping[str, str] | None = None,
        offsets: Offsets = "characters",
        progress: bool = True,
    ) -> pd.DataFrame:
        """Classify the pairs of a table, or every pair of entities in sentences whose types can be related.

        Parameters
        ----------
        sentences : sequence of dict, or DataFrame
            A table with one row per pair and the columns that trained the model, without labels. Or sentences, each
            with ``text`` and ``entities``, a list of dicts with ``start`` and ``end`` (characters, end-exclusive)
            and ``type`` (as in the training corpus: ``drug``, ``protein``, ``CHEMICAL``, ...; it may be missing where
            the model knows one tag only). Sentences and entities may have an ``id``. To a model of document scope a
            "sentence" is a whole document, and entities with the same ``concept`` are one argument.
        columns : mapping of str to str, optional
            Of a table: our name and yours for columns with other names than in training, as in ``load_corpus``.
        offsets : {"characters", "bytes"}
            Of a table: what its offsets count, as in ``load_corpus``.
        progress : bool
            In a run longer than a minute, write how long it will take, and show its progress.

        Returns
        -------
        pandas.DataFrame
            Of a table: its rows, index and columns, then ``relation``, its ``probability``, and one column
            ``p_<label>`` per label; a column of yours with such a name becomes ``given_<name>``. Of sentences: one row
            per pair: ``sentence``; ``entity1``, ``type1``, ``start1``, ``end1``, and the same for the second (of the
            nearest mentions at document scope, which also has ``concept1``); ``relation`` and so on. The other rows or
            sentences do not affect the classification of a row or sentence.

        Raises
        ------
        CorpusError
            When a field is missing or an offset is outside the text; the message names the sentence or row.

        Warns
        -----
        UserWarning
            When entities have an unknown type; they form no pairs.

        Examples
        --------
        >>> text = "Velotrazine increases the clearance of nalexpidol."
        >>> entities = [{"start": 0, "end": 11, "type": "drug"}, {"start": 39, "end": 49, "type": "drug"}]
        >>> table = model.predict([{"text": text, "entities": entities}])
        >>> table[["entity1", "entity2"]].values.tolist()
        [['Velotrazine', 'nalexpidol']]
        >>> rows = pd.DataFrame({"text": [text], "entity1": ["velotrazine"], "entity2": ["nalexpidol"]})
        >>> model.predict(rows).columns[:5].tolist()
        ['text', 'entity1', 'entity2', 'relation', 'probability']
        """
        if isinstance(sentences, (str, os.PathLike)):
            message = "sentences: must be a table or sentences, not a path; read it first, as with pandas.read_csv"
            raise ConfigError(message, "sentences")
        if isinstance(sentences, Iterator):
            sentences = list(sentences)
        if is_table(sentences, self._core.task):
            return self.predict_table(read_table(sentences), columns, offsets, progress=progress)
        if columns is not None or offsets != "characters":
            field = "offsets" if columns is None else "columns"
            raise ConfigError(f"{field}: applies to a table with one row per pair, not to sentences", field)
        pairs = self._core.pairs(checked_sentences(sentences, self._core.task))
        _warn_of_unknown_types(pairs.unknown_types, self._core.task.types)
        columns = pairs.columns()
        predicted = self._classified(pairs.instances, progress)
        return pd.DataFrame(columns).join(self._decisions(predicted, "relation"))

    def predict_table(
        self,
        table: Table,
        columns: Mapping[str, str] | None = None,
        offsets: Offsets = "characters",
        *,
        progress: bool = True,
    ) -> pd.DataFrame:
        """The predictions for the rows of a table, as ``predict`` returns them."""
        pairs = table_pairs(self._core.task, table, columns, offsets)
        predicted = self._classified(self._core.instances(pairs, ["all"]), progress)
        frame = table.frame
        decisions = self._decisions(predicted, "relation").reindex(range(len(frame))).set_axis(frame.index)
        given = {name: f"given_{name}" for name in frame.columns if name in decisions.columns}
        return pd.concat([frame.rename(columns=given), decisions], axis=1)

    def predictions(self, corpus: Corpus, split: str = "test", *, progress: bool = True) -> pd.DataFrame:
        """Classify the candidate pairs of a split of a corpus.

        Parameters
        ----------
        corpus : Corpus
            A corpus whose labels are among the model's, by name; it may lack some, and their order may differ.
        split : str
            One of its splits.
        progress : bool
            In a run longer than a minute, write how long it will take, and show its progress.

        Returns
        -------
        pandas.DataFrame
            One row per pair: the columns of ``Corpus.instances``, with ``label`` renamed to ``gold``; ``predicted``,
            its ``probability``, and one column ``p_<label>`` per label. A pair that was dropped because its entities
            are too far apart has no prediction.

        Examples
        --------
        >>> table = model.predictions(biorel.load_sample("ddi"), "test")
        >>> len(table), table["predicted"].isin(model.labels).all().item()
        (142, True)
        """
        instances = self._instances(corpus, split)
        predicted = self._classified(instances, progress)
        table = corpus.name_rows(pd.DataFrame(instances.columns())).rename(columns={"label": "gold"})
        return table.join(self._decisions(predicted, "predicted"))

    def evaluate(self, corpus: Corpus, split: str = "test", *, progress: bool = True) -> Scores:
        """Score the model on a split of a corpus.

        Parameters
        ----------
        corpus, split, progress
            As ``predictions`` takes them.

        Returns
        -------
        Scores
            A DataFrame with one row per class and per average. The protocol is printed with it and is in ``.attrs``.
            Gold positives that could not become an instance count as misses. Labels that the corpus lacks have a
            support of 0.

        Examples
        --------
        >>> scores = model.evaluate(biorel.load_sample("ddi"), "test")
        >>> scores.attrs["protocol"]
        'micro-F1 over the 4 positive classes, test, 142 pairs'
        """
        predictions = self.predictions(corpus, split, progress=progress)
        return score_predictions(predictions, corpus, split, task=self._core.task)

    def save(
        self,
        directory: PathLike,
        *,
        scores: ReportedScores | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Save the model as a directory, which ``load`` reads and transformers' ``AutoModel`` opens as an encoder.

        The directory is written atomically. Its README.md is a model card: task, labels, scores with their protocol,
        hash of the training data, settings, limitations and usage; no text of the corpus.

        Parameters
        ----------
        directory : path
            A new directory, or one with an earlier model of biorel, which is replaced.
        scores : DataFrame or sequence of DataFrame, optional
            Scores for the card: ``run.scores``, ``cross_validation.scores``, ``comparison.results``, or several.
            ``Run.save`` passes its own.
        metadata : mapping, optional
            Fields of the card's front matter, which replace or add to the known ones: ``license``, ``datasets`` (ids on
            the hub), ``language``, ``base_model``, ``tags``, ... No licence is guessed: the terms of the encoder and of
            the corpus apply to you too.

        Raises
        ------
        ConfigError
            When the directory contains something else, or a table of scores has no protocol.
        OSError
            When it cannot be written; no partial directory is left behind.

        Notes
        -----
        A loaded model keeps its README.md, with its author's changes, unless `scores` or `metadata` are given: then a
        new one is written.

        Examples
        --------
        >>> model.save(folder / "ddi-attention", metadata={"license": "cc-by-nc-4.0"})
        >>> biorel.load(folder / "ddi-attention").labels
        ['false', 'mechanism', 'effect', 'advise', 'int']
        """
        name = Path(os.path.abspath(directory)).name
        self._core.save(os.fspath(directory), self._written_card(name, scores, metadata))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        scores: ReportedScores | None = None,
        metadata: Mapping[str, Any] | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
    ) -> str:
        """Upload the model to the Hugging Face hub, from which ``load`` loads it by name.

        Requires ``pip install "biorel[hub]"``, and ``hf auth login`` or a `token`.

        Parameters
        ----------
        repo_id : str
            ``owner/name``. A missing repository is created; files with the same names are replaced, in a new commit.
        scores, metadata
            As ``save`` takes them.
        private : bool, optional
            Whether only you can see it. Has no effect on an existing repository.
        token : str or bool, optional
            Token of the hub; by default the one with which you are logged in.
        revision : str, optional
            An existing branch; the main one by default.
        commit_message : str, optional
            By default, a message with biorel's version.

        Returns
        -------
        str
            The URL of the commit.

        Raises
        ------
        ConfigError
            When huggingface_hub is not installed, or the hub refuses; the message says why.

        Examples
        --------
        >>> model.push_to_hub("not a name")
        Traceback (most recent call last):
        biorel.errors.ConfigError: repo_id: `not a name` cannot be pushed to: ...
        """
        with tempfile.TemporaryDirectory(prefix="biorel-") as folder:
            saved = Path(folder) / "model"
            self._core.save(os.fspath(saved), self._written_card(repo_id, scores, metadata))
            return push(saved, repo_id, private=private, token=token, revision=revision, commit_message=commit_message)

    def _written_card(self, name: str, scores: ReportedScores | None, metadata: Mapping[str, Any] | None) -> str:
        if self._readme is not None and scores is None and metadata is None:
            return rename_in_card(self._readme, name)
        return write_card(
            self.card,
            name=name,
            headline=self._core.task.headline,
            synthetic=self._synthetic,
            scores=scores,
            metadata=metadata,
        )

    def _classified(self, instances: _biorel.Instances, progress: bool) -> _biorel.Predicted:
        with LongWork(len(instances), "prediction", "pairs", show=progress) as work:
            return self._core.predict(instances, self._compute, work.report)

    def _decisions(self, predicted: _biorel.Predicted, name: str) -> pd.DataFrame:
        labels = np.array(self.labels, dtype=object)
        best = predicted.probabilities.argmax(axis=1)
        rows = pd.Index(predicted.kept)
        table = pd.DataFrame({name: labels[best], "probability": predicted.probabilities.max(axis=1)}, index=rows)
        for position, label in enumerate(labels):
            table[f"p_{label}"] = predicted.probabilities[:, position]
        return table

    def _repr_html_(self) -> str:
        card = self.card
        fields = {"encoder": card["encoder"], "head": self.head, "marking": self.marking}
        fields |= {"labels": ", ".join(self.labels), "steps": f"{card['steps']:,}", "device": self._compute.device}
        fields |= {"precision": self._compute.precision, "identity": self.identity}
        return f"{title_html(f'RelationModel {self._core.task.name}')}{fields_html(fields)}"

    def __getstate__(self) -> dict[str, Any]:
        """The complete model, for a process with the same version of biorel."""
        compute = (self._compute.device, self._compute.precision, self._compute.threads)
        files = files_of(lambda place: self._core.save(os.fspath(place), ""))
        about = {"name": self._name, "readme": self._readme, "synthetic": self._synthetic}
        return {"version": VERSION, "compute": compute, "files": files, "about": about}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read and check the state from the other process; device and precision are the same."""
        check_version(state["version"])
        core = opened(state["files"], lambda place: _biorel.Model.load(os.fspath(place)))
        RelationModel.__init__(self, core, choose(*state["compute"]), **state["about"])

    def __repr__(self) -> str:
        """Task, head and encoder."""
        card = self.card
        task, encoder, steps = card["task"]["name"], card["encoder"], card["steps"]
        return f"RelationModel({task!r}, head {self.head!r}, encoder {encoder!r}, {steps} steps)"


def load(
    directory: PathLike, *, device: Device = "auto", precision: Precision = "auto", threads: int | None = None
) -> RelationModel:
    """Load a model that ``RelationModel.save`` wrote or ``push_to_hub`` uploaded.

    Parameters
    ----------
    directory : path or str
        The model's directory; or ``owner/name`` on the Hugging Face hub, optionally with ``@revision``, which is
        downloaded once and then read from the hub's cache (``pip install "biorel[hub]"``). An existing directory takes
        precedence.
    device : str
        The device, as ``finetune`` takes it. It may differ from that of the training.
    precision : {"auto", "f32", "bf16"}
        As ``finetune`` takes it. It may differ from that of the training.
    threads : int, optional
        Processor threads; all by default.

    Returns
    -------
    RelationModel
        The model.

    Raises
    ------
    FileNotFoundError
        When there is no such directory, and the name cannot be one of the hub.
    ConfigError
        When it is neither a directory nor a model that can be downloaded from the hub; the message says why.
    CheckpointError
        When it is not a relation model, or is corrupt; the message names the file or tensor.

    Examples
    --------
    >>> model.save(folder / "ddi-attention")
    >>> biorel.load(folder / "ddi-attention").head
    'attention'
    """
    compute = choose(device, precision, threads)
    found = fetch_model(directory)
    core = _biorel.Model.load(os.fspath(found))
    # The model's name in predictions: the hub's, or that of the directory.
    name = os.fspath(directory) if found != Path(directory) else os.path.basename(os.path.abspath(directory))
    return RelationModel(core, compute, name=name, readme=read_card(_biorel.Model.place(os.fspath(found))))


def check_model(model: object) -> None:
    """Raise TypeError for anything but a RelationModel, such as its path, a common mistake."""
    if not isinstance(model, RelationModel):
        remedy = (
            "load it with biorel.load(directory)" if isinstance(model, (str, os.PathLike)) else "a run has `.model`"
        )
        raise TypeError(f"model must be a RelationModel, not {type(model).__name__}; {remedy}")


def _warn_of_unknown_types(unknown: dict[str, int], known: list[str]) -> None:
    if unknown:
        counts = ", ".join(f"{count} of type {kind!r}" for kind, count in unknown.items())
        warn(f"entities of types that the model does not know form no pairs: {counts} (it knows {', '.join(known)})")
