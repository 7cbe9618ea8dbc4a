"""Fine-tuning: from a corpus and an encoder to scores, predictions and a model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import pandas as pd
from biorel import _biorel
from biorel.callbacks import Callback
from biorel.corpus import Corpus, Marking, PathLike, check_corpus
from biorel.devices import Device, choose
from biorel.encoder import Encoder, Precision, load_encoder
from biorel.errors import ConfigError, TrainingInterrupted
from biorel.model import Kind, RelationModel
from biorel.scores import Scores, score_predictions
from biorel.training_progress import Reporter

Head: TypeAlias = Literal[
    "cls", "lstm", "attention", "lstm-no-cls", "attention-no-cls", "lstm-all-cls", "attention-all-cls"
]
TooLong: TypeAlias = Literal["error", "drop", "join"]
Keep: TypeAlias = Literal["best", "last"]


class Run:
    """What a fine-tuning came to. Made by ``finetune``.

    Attributes
    ----------
    model : RelationModel
        The fine-tuned model.
    corpus : Corpus
        What it was trained and scored on.
    settings : dict
        Every setting, defaults included.
    test : str or None
        The split that ``scores`` and the other tables are about by default.
    interrupted : bool
        Whether Ctrl-C stopped it before its last step.
    step : int
        The step that the model's weights are of: the last, or that of the best evaluation on held-out data.
    counts : dict of str to int
        Training instances: ``trained`` on; of those ``cut`` to a window; ``dropped`` because their entities lie too far
        apart; negatives ``left_out``.
    report : dict
        Where the weights came from, as ``Encoder.report``, and the names of the tensors that were newly
        ``initialised``: the head's.
    """

    def __init__(
        self,
        model: RelationModel,
        corpus: Corpus,
        settings: dict[str, Any],
        outcome: _biorel.Outcome,
        *,
        test: str | None,
        report: dict[str, Any],
    ) -> None:
        self.model = model
        self.corpus = corpus
        self.settings = settings
        self.interrupted = outcome.raised is not None
        self.step = outcome.step
        self.counts = outcome.counts
        self.report = report
        self._history = pd.DataFrame(outcome.history)
        self._evaluations = pd.DataFrame(outcome.evaluations)
        self.test = test
        self._predictions: dict[str, pd.DataFrame] = {}

    @property
    def history(self) -> pd.DataFrame:
        """One row per optimizer step.

        ``step``, ``epoch``, ``loss`` (mean cross-entropy of the batch), ``gradient_norm`` (before clipping),
        ``learning_rate``, ``instances``, ``tokens``, ``seconds``.
        """
        return self._history.copy()

    @property
    def evaluations(self) -> pd.DataFrame:
        """One row per evaluation on held-out data; none without `dev`.

        ``step``, ``epoch``, ``loss`` (mean cross-entropy, unweighted), ``precision``, ``recall`` and ``f1`` in the
        averaging of the corpus's task, ``best`` (whether none before was as good), ``seconds``.
        """
        return self._evaluations.copy()

    @property
    def epochs(self) -> pd.DataFrame:
        """One row per epoch: ``epoch``, ``steps``, mean ``loss``, ``instances``, ``tokens``, ``seconds``."""
        steps = self._history.assign(loss=self._history["loss"] * self._history["instances"])
        table = steps.groupby("epoch", as_index=False).agg(
            steps=("step", "size"),
            loss=("loss", "sum"),
            instances=("instances", "sum"),
            tokens=("tokens", "sum"),
            seconds=("seconds", "sum"),
        )
        table["loss"] /= table["instances"]
        return table

    @property
    def scores(self) -> Scores:
        """Scores on the test split; see ``score``."""
        return self.score(self._default(None))

    def score(self, split: str) -> Scores:
        """Scores on a split.

        Parameters
        ----------
        split : str
            One of the corpus's splits.

        Returns
        -------
        Scores
            As ``RelationModel.evaluate``.

        Examples
        --------
        >>> run.score("train").attrs["protocol"]
        'micro-F1 over the 4 positive classes, train, 406 pairs'
        """
        return score_predictions(self.predictions(split), self.corpus, split)

    def predictions(self, split: str | None = None) -> pd.DataFrame:
        """Predictions on a split, by default the test split.

        Parameters
        ----------
        split : str, optional
            One of the corpus's splits.

        Returns
        -------
        pandas.DataFrame
            As ``RelationModel.predictions``.

        Examples
        --------
        >>> len(run.predictions("test"))
        142
        """
        split = self._default(split)
        if split not in self._predictions:
            self._predictions[split] = self.model.predictions(self.corpus, split)
        return self._predictions[split].copy()

    def attention(self, split: str | None = None, *, kind: Kind = "head") -> pd.DataFrame:
        """Attention of the words of a split, by default the test split.

        Parameters
        ----------
        split : str, optional
            One of the corpus's splits.
        kind : {"head", "encoder", "gradient"}
            As ``RelationModel.attention`` takes it.

        Returns
        -------
        pandas.DataFrame
            As ``RelationModel.attention``.

        Examples
        --------
        >>> run.attention().nlargest(3, "weight")["word"].size
        3
        """
        return self.model.attention(self.corpus, self._default(split), kind=kind)

    def save(self, directory: PathLike, *, metadata: Mapping[str, Any] | None = None) -> None:
        """Save the model with its scores on the test split, if there is one, in its card.

        Parameters
        ----------
        directory : path
            As ``RelationModel.save`` takes it.
        metadata : mapping, optional
            Fields of the card's front matter, such as ``license``; as ``RelationModel.save`` takes them.

        Examples
        --------
        >>> run.save(folder / "ddi-attention", metadata={"license": "cc-by-nc-4.0"})
        >>> "micro-F1 over the 4 positive classes, test" in (folder / "ddi-attention" / "README.md").read_text()
        True
        """
        self.model.save(directory, scores=self._reported(), metadata=metadata)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the model with its scores on the test split, if there is one, in its card.

        Parameters
        ----------
        repo_id : str
            ``owner/name``.
        **options
            As ``RelationModel.push_to_hub`` takes them.

        Returns
        -------
        str
            The commit's address.
        """
        return self.model.push_to_hub(repo_id, **{"scores": self._reported(), **options})

    def _reported(self) -> Scores | None:
        return None if self.test is None else self.scores

    def _default(self, split: str | None) -> str:
        split = split or self.test
        if split is None:
            raise ConfigError(f"split: name one of {', '.join(self.corpus.splits)}; the run had no test split", "split")
        return split

    def __repr__(self) -> str:
        """Model, steps, and the headline score if there is a test split that was predicted."""
        steps = len(self._history)
        state = f"stopped after {steps} steps" if self.interrupted else f"{steps} steps"
        seconds = self._history["seconds"].sum()
        return f"Run({self.model!r}, {state}, {seconds:.0f} s, {self.settings['precision']})"


def finetune(
    corpus: Corpus,
    encoder: str | PathLike | Encoder = "minilm",
    *,
    head: Head = "attention",
    train: str | Sequence[str] = "train",
    dev: str | None = None,
    test: str | None = "test",
    marking: Marking = "typed",
    learning_rate: float = 2e-5,
    batch_size: int = 32,
    epochs: int = 10,
    max_steps: int | None = None,
    max_length: int = 128,
    too_long: TooLong = "join",
    seed: int = 1,
    warmup: float = 0.1,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-6,
    bias_correction: bool = False,
    dropout: float | None = None,
    head_dropout: float = 0.1,
    accumulation: int = 1,
    class_weights: Literal["balanced"] | Mapping[str, float] | None = None,
    focal_gamma: float = 0.0,
    layer_decay: float = 1.0,
    freeze: int | None = None,
    negatives: float | None = None,
    evaluate_every: int | None = None,
    patience: int | None = None,
    keep: Keep = "best",
    compat: Literal["su2020"] | None = None,
    checkpoint_layers: bool = False,
    precision: Precision = "auto",
    callbacks: Sequence[Callback] = (),
    state: PathLike | None = None,
    state_every: int = 100,
    device: Device = "auto",
    threads: int | None = None,
    progress: bool = True,
) -> Run:
    """Fine-tune an encoder with one of the paper's heads, and score it.

    The defaults are the paper's settings. The same seed, settings and machine give the same bits.

    Parameters
    ----------
    corpus : Corpus
        What to learn from. A corpus without a ``train`` split (AIMed) is split first: ``corpus.fold(0)``.
    encoder : str, path or Encoder
        As ``load_encoder`` takes it.
    head : str
        What the classifier reads (paper, section III-B): ``cls``, ``lstm``, ``attention``, ``lstm-no-cls``,
        ``attention-no-cls``, ``lstm-all-cls`` or ``attention-all-cls``.
    train : str or sequence of str
        The split, or the splits together, to learn from.
    dev : str, optional
        A split to score while training; the model is then the one that did best on it (`keep`).
    test : str or None
        The split to score; None, or a corpus without it, scores nothing.
    marking : {"typed", "blue", "markers"}
        How entities are marked; see ``Corpus.instances``.
    learning_rate : float
        Peak learning rate.
    batch_size : int
        Instances per optimizer step.
    epochs : int
        Passes over the training instances.
    max_steps : int, optional
        Stop after this many optimizer steps, whatever `epochs` says; the schedule then ends there.
    max_length : int
        Word pieces per instance, ``[CLS]`` and ``[SEP]`` included. A longer instance is cut to a window that keeps both
        entities.
    too_long : {"join", "drop", "error"}
        What to do with an instance whose two entities, with all between them, do not fit: keep a window around each
        entity and leave out what lies between; leave it out and count it, a positive one as a miss; or stop.
    seed : int
        Seed of the head's initial weights, the order of the instances, and dropout.
    warmup : float
        Share of the steps during which the learning rate rises from 0; it then falls linearly.
    weight_decay : float
        Decoupled weight decay; biases and LayerNorm are exempt.
    max_grad_norm : float
        The gradient is scaled down to this norm; 0 turns clipping off.
    betas : tuple of float
        Adam's decay rates of the two moments.
    epsilon : float
        Adam's epsilon.
    bias_correction : bool
        Correct the moments' bias towards zero; BERT's own optimizer does not.
    dropout : float, optional
        Dropout inside the encoder; by default its own rates.
    head_dropout : float
        Dropout before the classifier.
    accumulation : int
        Batches per optimizer step: a step sees ``batch_size * accumulation`` instances, in the memory of `batch_size`.
    class_weights : "balanced" or mapping of str to float, optional
        Weight of each label in the loss; ``balanced`` is inversely proportional to its frequency. Labels that the
        mapping does not name weigh 1.
    focal_gamma : float
        Focal loss: an instance whose label has probability p counts ``(1 - p) ** focal_gamma``; 0 is cross-entropy.
    layer_decay : float
        The learning rate of each layer is this times that of the layer above; 1 for one rate.
    freeze : int, optional
        Freeze the embeddings and this many layers from the first; 0 freezes the embeddings alone.
    negatives : float, optional
        Train on this many negative instances for each positive one, drawn by `seed`; all by default.
    evaluate_every : int, optional
        Steps between two evaluations on `dev`; by default it is scored at the end of each epoch, and always at the end.
    patience : int, optional
        Stop after this many evaluations in a row of which none was better than the best before.
    keep : {"best", "last"}
        With `dev`, which weights the model has: those of the highest F1 on it (of equals, the lower loss), or the last.
    compat : "su2020" or None
        ``su2020`` follows the paper's published code where it departs from the paper: every instance is padded to
        `max_length`, and the heads read ``[SEP]`` and the padding as if they were words. Slow; to see what that is
        worth. Word weights are then shares of what the words got.
    checkpoint_layers : bool
        Keep only the inputs of the encoder's layers and compute the rest again in the backward: less memory, more
        time, the same bits.
    precision : {"auto", "f32", "bf16"}
        In which numbers the large products are computed. ``bf16`` rounds their factors to 8 significant bits and adds
        up in f32; weights, optimizer, attention and LayerNorm stay in f32. ``auto`` is bf16 where the processor has
        instructions for it and on a GPU, else f32; ``run.settings["precision"]`` says which it was.
    callbacks : sequence of Callback
        Told of every step and evaluation; see ``biorel.callbacks``.
    state : path, optional
        A file that keeps the state of the run. If it is there, the run goes on from it, to the same bits as a run that
        was never stopped; the state of a run with other settings, data or encoder is refused.
    state_every : int
        Steps between two writes of `state`; it is also written when the run ends or is stopped.
    device : str
        What computes, ``auto``, ``cpu``, ``cuda`` or ``cuda:1``. ``cuda`` is an NVIDIA GPU, with biorel's CUDA part;
        ``auto`` is the first GPU if there is one that can be used, else the processor, and ``run.settings["device"]``
        says which it was. See ``biorel.devices``. ``reference`` is the slow specification that the others are tested
        against.
    threads : int, optional
        Processor threads; all by default.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Run
        Scores, history, predictions and the model.

    Raises
    ------
    ConfigError
        For a setting out of range, or splits that the corpus does not have.
    DeviceError
        For a device that cannot be used, or whose memory is exhausted; the message says what to do.
    TrainingError
        When the loss is no longer finite; the message names the step.
    TrainingInterrupted
        After Ctrl-C; its ``run`` is what had been learned by then.

    Warns
    -----
    UserWarning
        When instances were cut or dropped at `max_length`, and when `dev` shares documents with `train`, as in the BLUE
        benchmark's form of DDI (362 documents).

    Examples
    --------
    >>> run = biorel.finetune(biorel.load_sample("ddi"), "minilm", max_steps=1, progress=False)
    >>> run.history[["step", "epoch", "instances"]]
       step  epoch  instances
    0     1      1         32
    """
    check_corpus(corpus)
    compute = choose(device, precision, threads)
    settings: dict[str, Any] = {
        "head": head,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "epochs": epochs,
        "max_steps": max_steps,
        "max_length": max_length,
        "too_long": too_long,
        "seed": seed,
        "warmup": warmup,
        "weight_decay": weight_decay,
        "max_grad_norm": max_grad_norm,
        "betas": betas,
        "epsilon": epsilon,
        "bias_correction": bias_correction,
        "dropout": dropout,
        "head_dropout": head_dropout,
        "accumulation": accumulation,
        "class_weights": _label_weights(class_weights, corpus.labels),
        "focal_gamma": focal_gamma,
        "layer_decay": layer_decay,
        "freeze": freeze,
        "negatives": negatives,
        "evaluate_every": evaluate_every,
        "patience": patience,
        "keep": keep,
        "compat": compat,
        "checkpoint_layers": checkpoint_layers,
        "precision": compute.precision,
    }
    core_settings = _biorel.Settings(settings)
    train_splits = [train] if isinstance(train, str) else list(train)
    test_split = _test_split(corpus, train_splits, test)
    held_out = _dev_instances(corpus, train_splits, dev, marking)
    instances = corpus._core.instances(train_splits, marking)
    loaded = load_encoder(encoder)
    settings |= {
        "device": compute.device,
        "marking": marking,
        "train": train_splits,
        "dev": dev,
        "test": test_split,
        "encoder": loaded.name,
    }
    with Reporter(callbacks, settings, progress) as reporter:
        outcome = _biorel.finetune(
            loaded._core,
            loaded.name,
            instances,
            core_settings,
            dev=held_out,
            compute=compute,
            state=None if state is None else os.fspath(state),
            state_every=state_every,
            report=reporter.tell,
        )
        _warn_of_losses(outcome.counts, max_length)
        run = Run(
            RelationModel(outcome.model, compute),
            corpus,
            settings,
            outcome,
            test=test_split,
            report={**loaded.report, "initialised": outcome.initialised},
        )
        if isinstance(outcome.raised, KeyboardInterrupt):
            steps = len(run.history)
            raise TrainingInterrupted(f"stopped after step {steps}; the model so far is in this exception's .run", run)
        if outcome.raised is not None:
            raise outcome.raised
        reporter.end(run)
    return run


def _label_weights(weights: str | Mapping[str, float] | None, labels: list[str]) -> str | list[float] | None:
    if not isinstance(weights, Mapping):
        return weights
    for label in weights:
        if label not in labels:
            raise ConfigError(
                f"class_weights: `{label}` is not a label; choose from {', '.join(labels)}", "class_weights"
            )
    return [weights.get(label, 1.0) for label in labels]


def _test_split(corpus: Corpus, train: list[str], test: str | None) -> str | None:
    if "train" in train and "train" not in corpus.splits:
        raise ConfigError(
            f"train: {corpus.name} has no split `train`, only {', '.join(corpus.splits)}; hold a fold out with "
            "corpus.fold(0), or name the split to learn from",
            "train",
        )
    if test is None or (test == "test" and test not in corpus.splits):
        return None
    if test in train:
        raise ConfigError(f"test: `{test}` is also trained on; scores on it would mean nothing", "test")
    corpus._core.instances([test], "typed")  # an unknown split is an error now, not after the training
    return test


def _dev_instances(
    corpus: Corpus, train: list[str], dev: str | None, marking: Marking
) -> tuple[_biorel.Instances, list[int]] | None:
    if dev is None:
        return None
    if dev in train:
        raise ConfigError(f"dev: `{dev}` is also trained on; scores on it would mean nothing", "dev")
    _warn_of_shared_documents(corpus, train, dev)
    return corpus._core.instances([dev], marking), corpus._core.lost(dev)


def _warn_of_shared_documents(corpus: Corpus, train: list[str], dev: str) -> None:
    """Sentences of one document are alike: a model is then chosen for what it has already seen."""
    held_out, learned = (
        {document for split in splits for document in corpus.instances(split)["document"]} for splits in ([dev], train)
    )
    shared = len(held_out & learned)
    if shared:
        warnings.warn(
            f"dev: {shared} of the {len(held_out)} documents of `{dev}` are trained on too, so scores on it are too "
            "good to stop or choose a model by; divide the documents with corpus.divide() for a clean one",
            stacklevel=4,
        )


def _warn_of_losses(counts: Mapping[str, int], max_length: int) -> None:
    if counts["cut"]:
        warnings.warn(
            f"{counts['cut']} training instances were cut to {max_length} word pieces around their entities",
            stacklevel=3,
        )
    if counts["dropped"]:
        warnings.warn(
            f"{counts['dropped']} training instances were dropped: their entities lie too far apart", stacklevel=3
        )
