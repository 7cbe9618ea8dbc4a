"""Fine-tuning: from a corpus and an encoder to scores, predictions and a model."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from biorel import _biorel
from biorel._types import Device, Head, Marking, PathLike, Precision, TooLong
from biorel.data.corpus import Corpus, check_corpus
from biorel.errors import ConfigError
from biorel.models.devices import choose
from biorel.models.encoder import Encoder, load_encoder
from biorel.models.relation_model import RelationModel
from biorel.training.callbacks import Callback
from biorel.training.progress import Reporter
from biorel.training.run import Run, TrainingInterrupted

# The settings that the core checks, with its defaults. They are declared there and in the signature below.
CORE_SETTINGS: dict[str, Any] = json.loads(_biorel.Settings({}).json)


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
    warmup_ratio: float = 0.1,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    adam_beta1: float = 0.9,
    adam_beta2: float = 0.999,
    adam_epsilon: float = 1e-6,
    bias_correction: bool = False,
    dropout: float | None = None,
    head_dropout: float = 0.1,
    gradient_accumulation_steps: int = 1,
    class_weights: Literal["balanced"] | Mapping[str, float] | None = None,
    focal_gamma: float = 0.0,
    layerwise_lr_decay: float = 1.0,
    freeze: int | None = None,
    negative_ratio: float | None = None,
    eval_steps: int | None = None,
    patience: int | None = None,
    load_best_model: bool = True,
    compat: Literal["su2020"] | None = None,
    gradient_checkpointing: bool = False,
    precision: Precision = "auto",
    callbacks: Sequence[Callback] = (),
    checkpoint: PathLike | None = None,
    save_steps: int = 100,
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
        A split to score while training; the model is then the one that did best on it (`load_best_model`).
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
        Stop after this many optimizer steps, whatever `epochs` says; the schedule then ends there. 0 trains nothing:
        the untrained model, whose attention is a baseline (``compare_stems``).
    max_length : int
        Word pieces per instance, ``[CLS]`` and ``[SEP]`` included. A longer instance is cut to a window that keeps both
        entities.
    too_long : {"join", "drop", "error"}
        What to do with an instance whose two entities, with all between them, do not fit: keep a window around each
        entity and leave out what lies between; leave it out and count it, a positive one as a miss; or stop.
    seed : int
        Seed of the head's initial weights, the order of the instances, and dropout.
    warmup_ratio : float
        Share of the steps during which the learning rate rises from 0 to its peak; from there it falls linearly to 0,
        as transformers' ``get_linear_schedule_with_warmup`` has it. BERT's own optimizer, and with it the paper's code,
        goes on at ``learning_rate * (1 - t / T)`` after the warm-up: ``compat="su2020"`` does. The default is at each
        step 1 / (1 - `warmup_ratio`) times as high, 1.11 times with 0.1.
    weight_decay : float
        Decoupled weight decay; biases and LayerNorm are exempt.
    max_grad_norm : float
        The gradient is scaled down to this norm; 0 turns clipping off.
    adam_beta1 : float
        Adam's decay rate of the first moment.
    adam_beta2 : float
        Adam's decay rate of the second moment.
    adam_epsilon : float
        Adam's epsilon.
    bias_correction : bool
        Correct the moments' bias towards zero; BERT's own optimizer does not.
    dropout : float, optional
        Dropout inside the encoder; by default its own rates.
    head_dropout : float
        Dropout before the classifier.
    gradient_accumulation_steps : int
        Batches per optimizer step: a step sees `batch_size` times this many instances, in the memory of `batch_size`.
    class_weights : "balanced" or mapping of str to float, optional
        Weight of each label in the loss; ``balanced`` is inversely proportional to its frequency. Labels that the
        mapping does not name weigh 1.
    focal_gamma : float
        Focal loss: an instance whose label has probability p counts ``(1 - p) ** focal_gamma``; 0 is cross-entropy.
    layerwise_lr_decay : float
        The learning rate of each layer is this times that of the layer above; 1 for one rate.
    freeze : int, optional
        Freeze the embeddings and this many layers from the first; 0 freezes the embeddings alone.
    negative_ratio : float, optional
        Train on this many negative instances for each positive one, drawn by `seed`; all by default.
    eval_steps : int, optional
        Steps between two evaluations on `dev`; by default it is scored at the end of each epoch, and always at the end.
    patience : int, optional
        Stop after this many evaluations in a row of which none was better than the best before.
    load_best_model : bool
        With `dev`, the model has the weights of the highest F1 on it (of equals, the lower loss); otherwise the last.
    compat : "su2020" or None
        ``su2020`` follows the paper's published code where it departs from the paper or the paper is silent: every
        instance is padded to `max_length`, and the heads read ``[SEP]`` and the padding as if they were words; ``cls``
        goes through BERT's tanh pooler, which starts as the checkpoint has it; LSTMs start with Keras's values
        (Glorot's uniform and orthogonal); the learning rate falls as in BERT's optimizer (see `warmup_ratio`). That
        code's README takes ``batch_size=16``. Slow; to see what that is worth. Word weights are then shares of what
        the words got. It is not followed in three things: its LSTM has Keras's hard sigmoid for its gates, long
        sentences lose their end, and the last, smaller batch of an epoch is left out.
    gradient_checkpointing : bool
        Keep only the inputs of the encoder's layers and compute the rest again in the backward: less memory, more
        time, the same bits.
    precision : {"auto", "f32", "bf16"}
        In which numbers the large products are computed. ``bf16`` rounds their factors to 8 significant bits and adds
        up in f32; weights, optimizer, attention and LayerNorm stay in f32. ``auto`` is bf16 where the processor has
        instructions for it and on a GPU, else f32; ``run.settings["precision"]`` says which it was.
    callbacks : sequence of Callback
        Told of every step and evaluation; see ``biorel.callbacks``.
    checkpoint : path, optional
        A file for the training checkpoint. If it exists, the run resumes from it, to the same bits as a run that was
        never stopped; the checkpoint of a run with other settings, data or encoder is refused.
    save_steps : int
        Steps between two writes of `checkpoint`; it is also written when the run ends or is stopped.
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
    given = locals()
    check_corpus(corpus)
    compute = choose(device, precision, threads)
    settings = {name: given[name] for name in CORE_SETTINGS}
    settings |= {"class_weights": _label_weights(class_weights, corpus.labels), "precision": compute.precision}
    core_settings = _biorel.Settings(settings)
    train_splits = [train] if isinstance(train, str) else list(train)
    test_split = _test_split(corpus, train_splits, test)
    held_out = _dev_instances(corpus, train_splits, dev, marking)
    instances = corpus._core.instances(train_splits, marking)
    loaded = load_encoder(encoder)
    settings |= {
        "schedule": "bert" if compat == "su2020" else "linear",
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
            checkpoint=None if checkpoint is None else os.fspath(checkpoint),
            save_steps=save_steps,
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
