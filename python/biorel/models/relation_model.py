"""Fine-tuned relation models: ask them, score them, look into them, save them."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from biorel import _biorel
from biorel._pickling import VERSION, check_version, files_of, opened
from biorel._types import Device, Kind, PathLike, Precision
from biorel.data.corpus import Corpus, check_corpus
from biorel.errors import ConfigError
from biorel.evaluation.scores import Scores, score_predictions
from biorel.models.devices import choose
from biorel.models.hub import fetch_model, push
from biorel.models.model_card import ReportedScores, read_card, rename_in_card, write_card
from biorel.models.sentences import checked_sentences


class RelationModel:
    """A fine-tuned relation classifier: encoder, head, labels, and how entities are marked.

    Made by ``finetune`` (``run.model``) or ``load``.
    """

    def __init__(
        self, core: _biorel.Model, compute: _biorel.Compute, *, name: str | None = None, readme: str | None = None
    ) -> None:
        self._core = core
        self._compute = compute
        self._name = name
        self._hash: str | None = None
        self._readme = readme  # of the directory that it was loaded from, with whatever its author wrote into it

    @property
    def labels(self) -> list[str]:
        """All labels, in the order of the probability columns."""
        return self._core.task.labels

    @property
    def negative(self) -> str | None:
        """The label that means "no relation", if there is one."""
        return self._core.task.negative

    @property
    def head(self) -> str:
        """Which of the paper's heads classifies."""
        return self._core.head

    @property
    def marking(self) -> str:
        """How entities are marked."""
        return self._core.marking

    @property
    def card(self) -> dict[str, Any]:
        """What is saved with the model: task, labels, marking, training settings, encoder, hash of the data."""
        return cast("dict[str, Any]", json.loads(self._core.card))

    @property
    def hash(self) -> str:
        """SHA-256 of all that decides what it predicts: the same before and after saving, wherever it lies."""
        if self._hash is None:
            self._hash = self._core.hash
        return self._hash

    @property
    def identity(self) -> str:
        """Name (that of its directory, else of its task) and the first digits of its hash, as tables have it."""
        return f"{self._name or self._core.task.name}@{self.hash[:12]}"

    def predict(self, sentences: Sequence[Mapping[str, Any]] | pd.DataFrame) -> pd.DataFrame:
        """Classify every pair of entities whose types can stand in a relation.

        Parameters
        ----------
        sentences : sequence of dict, or DataFrame
            Each with ``text`` and ``entities``, a list of dicts with ``start`` and ``end`` (characters, end-exclusive)
            and ``type`` (as in the training corpus: ``drug``, ``protein``, ``CHEMICAL``, ...), and optionally ``id``;
            the sentence may have an ``id`` too.

        Returns
        -------
        pandas.DataFrame
            One row per pair: ``sentence``; ``entity1``, ``type1``, ``start1``, ``end1``, and the same for the second;
            ``relation``, its ``probability``, and one column ``p_<label>`` per label. A sentence is classified alike
            alone and among others.

        Raises
        ------
        CorpusError
            When a sentence lacks something or an offset is outside its text; the message names the sentence.

        Warns
        -----
        UserWarning
            When entities have a type that the model does not know; they form no pairs.

        Examples
        --------
        >>> text = "Velotrazine increases the clearance of nalexpidol."
        >>> entities = [{"start": 0, "end": 11, "type": "drug"}, {"start": 39, "end": 49, "type": "drug"}]
        >>> table = model.predict([{"text": text, "entities": entities}])
        >>> table[["entity1", "entity2"]].values.tolist()
        [['Velotrazine', 'nalexpidol']]
        """
        pairs = self._core.pairs(checked_sentences(sentences))
        _warn_of_unknown_types(pairs.unknown_types, self._core.task.types)
        columns = pairs.columns()
        predicted = self._core.predict(pairs.instances, self._compute)
        return pd.DataFrame(columns).join(self._decisions(predicted, "relation"))

    def predictions(self, corpus: Corpus, split: str = "test") -> pd.DataFrame:
        """Classify the candidate pairs of a corpus's split.

        Parameters
        ----------
        corpus : Corpus
            A corpus with the same labels.
        split : str
            One of its splits.

        Returns
        -------
        pandas.DataFrame
            One row per pair: as ``Corpus.instances``, with ``label`` called ``gold``, and ``predicted``, its
            ``probability``, and one column ``p_<label>`` per label. A pair that was dropped because its entities lie
            too far apart has no prediction.

        Examples
        --------
        >>> table = model.predictions(biorel.load_sample("ddi"), "test")
        >>> len(table), table["predicted"].isin(model.labels).all().item()
        (142, True)
        """
        instances = self._instances(corpus, split)
        predicted = self._core.predict(instances, self._compute)
        table = corpus.name_rows(pd.DataFrame(instances.columns())).rename(columns={"label": "gold"})
        return table.join(self._decisions(predicted, "predicted"))

    def evaluate(self, corpus: Corpus, split: str = "test") -> Scores:
        """Score the model on a corpus's split.

        Parameters
        ----------
        corpus : Corpus
            A corpus with the same labels.
        split : str
            One of its splits.

        Returns
        -------
        Scores
            A DataFrame with one row per class and per average; the protocol is printed with it and in ``.attrs``. Gold
            positives that could not become an instance count as misses.

        Examples
        --------
        >>> scores = model.evaluate(biorel.load_sample("ddi"), "test")
        >>> scores.attrs["protocol"]
        'micro-F1 over the 4 positive classes, test, 142 pairs'
        """
        return score_predictions(self.predictions(corpus, split), corpus, split)

    def attention(self, corpus: Corpus, split: str = "test", *, kind: Kind = "head") -> pd.DataFrame:
        """The weight of each word of each pair's sentence: what the model looked at.

        Parameters
        ----------
        corpus : Corpus
            A corpus with the same labels.
        split : str
            One of its splits.
        kind : {"head", "encoder", "gradient"}
            Whose weights. ``head``: those of an attention head, which the paper reads. ``encoder``: what ``[CLS]``
            attends to in the encoder's last layer, mean of the attention heads. ``gradient``: the gradient of the
            predicted label's logit times the word embedding, without its sign. The last two are there for every head.

        Returns
        -------
        pandas.DataFrame
            One row per word: ``instance``, ``row`` (of your own table, as in ``Corpus.instances``), ``document``,
            ``word``, ``stem``, ``weight`` (its pieces' together; an instance's words sum to 1), ``relative`` (the
            weight times the number of words of the instance: 1 where all are looked at alike), ``pieces`` (how many
            word pieces it has), ``distance`` (in words, to the nearer entity; 0 is the entity itself), ``distance1``
            and ``distance2`` (to either entity), ``is_entity``, ``start`` and ``end`` in the marked text,
            ``original_start`` and ``original_end`` in the sentence (missing for tags, which stand nowhere in it),
            ``gold``, ``predicted``. ``attrs["negative"]`` is the label of pairs without a relation. All of it goes to
            Arrow as it is: ``table.to_parquet(path)`` where pyarrow is installed.

        Raises
        ------
        ConfigError
            When the head does not weigh words; ``attention`` and ``attention-no-cls`` do.

        Examples
        --------
        >>> weights = model.attention(biorel.load_sample("ddi"), "test")
        >>> weights.groupby("instance")["weight"].sum().round(6).unique().tolist()
        [1.0]
        """
        columns = _biorel.attention(self._core, self._instances(corpus, split), kind, self._compute)
        table = corpus.name_rows(pd.DataFrame(columns))
        for name in ("original_start", "original_end"):
            table[name] = table[name].astype("Int64")
        table.attrs["negative"] = self._core.task.negative
        table.attrs["kind"] = kind
        return table

    def layer_weights(self, corpus: Corpus, split: str = "test") -> pd.DataFrame:
        """The weight of each layer's ``[CLS]`` vector: what the head ``attention-all-cls`` looked at.

        Parameters
        ----------
        corpus : Corpus
            A corpus with the same labels.
        split : str
            One of its splits.

        Returns
        -------
        pandas.DataFrame
            One row per instance: ``instance``, ``document``, ``gold``, ``predicted``, and ``layer_1`` to ``layer_<L>``,
            which sum to 1; the first layer is the one above the embeddings.

        Raises
        ------
        ConfigError
            When the head is another one.

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
        draws: int = 10,
        related: bool = True,
        limit: int | None = 500,
        seed: int = 1,
    ) -> pd.DataFrame:
        """Mask the words that got the most attention and predict again, to see whether the decision depends on them.

        The words are replaced by ``[MASK]``; entities and punctuation stay. For comparison as many words are masked
        that the encoder's own attention, the gradient, or chance puts first; and, as attended words are longer than
        others, random words of as many word pieces as each ranking masks. ``biorel.faithfulness`` sums it up.

        Parameters
        ----------
        corpus : Corpus
            A corpus with the same labels.
        split : str
            One of its splits.
        words : sequence of int
            How many words to mask.
        draws : int
            Over how many draws the random words are averaged.
        related : bool
            Only pairs that are predicted to be related: what is "not there" can hardly be masked away.
        limit : int or None
            At most so many instances, drawn by `seed`; None for all.
        seed : int
            Seed of the draws.

        Returns
        -------
        pandas.DataFrame
            One row per instance, ranking and number of words: ``instance``, ``document``, ``gold``, ``predicted``;
            ``ranking`` (``attention``, where the head weighs words; ``encoder``, ``gradient``, ``random``); ``words``
            and ``masked``, which is less where an instance has no more; how many ``pieces`` that were; probability of
            the predicted label ``before`` and ``after``, their difference ``drop``, and whether the decision
            ``changed`` (a share, for random words); ``matched_after`` and ``matched_changed``, the same where random
            words of as many pieces are masked, the last of them perhaps in part (missing for ``random``).

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
        columns = _biorel.mask_words(
            self._core,
            self._instances(corpus, split),
            words=counts,
            draws=draws,
            seed=seed,
            related=related,
            limit=limit,
            compute=self._compute,
        )
        table = pd.DataFrame(columns)
        table.insert(list(table.columns).index("changed"), "drop", table["before"] - table["after"])
        return table

    def save(
        self,
        directory: PathLike,
        *,
        scores: ReportedScores | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Save the model as a directory, which ``load`` reads and transformers' ``AutoModel`` opens as an encoder.

        The directory appears complete or not at all. Its README.md is a model card: task, labels, scores with their
        protocol, hash of the training data, settings, limits, and how to use it; nothing of the corpus's text.

        Parameters
        ----------
        directory : path
            A new directory, or an earlier model of biorel, which is replaced.
        scores : DataFrame or sequence of DataFrame, optional
            What the card reports: ``run.scores``, ``cross_validation.scores``, ``comparison.results``, or several.
            ``Run.save`` gives its own.
        metadata : mapping, optional
            Fields of the card's front matter, instead of or besides those that are known: ``license``, ``datasets``
            (ids on the hub), ``language``, ``base_model``, ``tags``, ... A licence is not guessed: the terms of the
            encoder and of the corpus bind you too.

        Raises
        ------
        ConfigError
            When the directory holds something else, or a table of scores has no protocol.
        OSError
            When it cannot be written; nothing is left behind.

        Notes
        -----
        A model that was loaded keeps its README.md as it is there, with what its author changed in it, unless `scores`
        or `metadata` are given: then a new one is written.

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
        """Upload the model to the Hugging Face hub, from which ``load`` takes it by name.

        Needs ``pip install "biorel[hub]"``, and ``hf auth login`` or a `token`.

        Parameters
        ----------
        repo_id : str
            ``owner/name``. It is made if it is not there; files of the same names are replaced, in a new commit.
        scores, metadata
            As ``save`` takes them.
        private : bool, optional
            Whether only you can see it. Has no effect on a repository that is there already.
        token : str or bool, optional
            Of the hub; by default the one that you are logged in with.
        revision : str, optional
            A branch that is there; the main one by default.
        commit_message : str, optional
            By default one that names biorel and its version.

        Returns
        -------
        str
            The commit's address.

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
        return write_card(self.card, name=name, headline=self._core.task.headline, scores=scores, metadata=metadata)

    def _instances(self, corpus: Corpus, split: str) -> _biorel.Instances:
        check_corpus(corpus)
        return self._core.instances(corpus._core, [split])

    def _decisions(self, predicted: _biorel.Predicted, name: str) -> pd.DataFrame:
        labels = np.array(self.labels, dtype=object)
        best = predicted.probabilities.argmax(axis=1)
        rows = pd.Index(predicted.kept)
        table = pd.DataFrame({name: labels[best], "probability": predicted.probabilities.max(axis=1)}, index=rows)
        for position, label in enumerate(labels):
            table[f"p_{label}"] = predicted.probabilities[:, position]
        return table

    def __getstate__(self) -> dict[str, Any]:
        """All of it, for a process with the same version of biorel."""
        compute = (self._compute.device, self._compute.precision, self._compute.threads)
        files = files_of(lambda place: self._core.save(os.fspath(place), ""))
        names = {"name": self._name, "readme": self._readme}
        return {"version": VERSION, "compute": compute, "files": files, **names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read and check what the other process sent; it computes on the same kind of device, in the same numbers."""
        check_version(state["version"])
        core = opened(state["files"], lambda place: _biorel.Model.load(os.fspath(place)))
        RelationModel.__init__(self, core, choose(*state["compute"]), name=state["name"], readme=state["readme"])

    def __repr__(self) -> str:
        """Task, head and encoder."""
        card = self.card
        task, encoder, steps = card["task"]["name"], card["encoder"], card["steps"]
        return f"RelationModel({task!r}, head {self.head!r}, encoder {encoder!r}, {steps} steps)"


def load(
    directory: PathLike, *, device: Device = "auto", precision: Precision = "auto", threads: int | None = None
) -> RelationModel:
    """Load a model that ``RelationModel.save`` wrote, or that ``push_to_hub`` put on the hub.

    Parameters
    ----------
    directory : path or str
        The model's directory; or ``owner/name`` on the Hugging Face hub, with ``@revision`` behind it if need be, which
        is fetched once and then read from the hub's cache (``pip install "biorel[hub]"``). A directory comes first.
    device : str
        What computes, as ``finetune`` takes it. It need not be that of the training.
    precision : {"auto", "f32", "bf16"}
        As ``finetune`` takes it. It need not be that of the training.
    threads : int, optional
        Processor threads; all by default.

    Returns
    -------
    RelationModel
        The model.

    Raises
    ------
    FileNotFoundError
        When there is no such directory, and it could not be a name of the hub.
    ConfigError
        When it is neither a directory nor a model of the hub that can be fetched; the message says why.
    CheckpointError
        When it is not a relation model, or corrupt; the message names the file or tensor.

    Examples
    --------
    >>> model.save(folder / "ddi-attention")
    >>> biorel.load(folder / "ddi-attention").head
    'attention'
    """
    compute = choose(device, precision, threads)
    found = fetch_model(directory)
    core = _biorel.Model.load(os.fspath(found))
    # What a prediction says that it was made by: the hub's name, or that of the directory.
    name = os.fspath(directory) if found != Path(directory) else os.path.basename(os.path.abspath(directory))
    return RelationModel(core, compute, name=name, readme=read_card(_biorel.Model.place(os.fspath(found))))


def _warn_of_unknown_types(unknown: dict[str, int], known: list[str]) -> None:
    if unknown:
        counts = ", ".join(f"{count} of type {kind!r}" for kind, count in unknown.items())
        warnings.warn(
            f"entities of types that the model does not know form no pairs: {counts} (it knows {', '.join(known)})",
            stacklevel=3,
        )
