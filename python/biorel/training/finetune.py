"""Fine-tuning: from a corpus and an encoder to scores, predictions and a model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from biorel import _biorel
from biorel._types import Device, Head, Marking, PathLike, Precision, TooLong
from biorel._warnings import warn
from biorel.data.corpus import Corpus, check_corpus
from biorel.data.sample import is_sample
from biorel.errors import ConfigError
from biorel.models.devices import choose
from biorel.models.encoder import Encoder, load_encoder
from biorel.models.relation_model import RelationModel
from biorel.training.callbacks import Callback
from biorel.training.joint_run import JointRun
from biorel.training.presets import Preset, takes_preset
from biorel.training.progress import Reporter
from biorel.training.run import Run, TrainingInterrupted

# The settings that the core validates, with their defaults. They are declared in the core and in the signature below.
CORE_SETTINGS: dict[str, Any] = json.loads(_biorel.Settings({}).json)


@takes_preset
def finetune(
    corpus: Corpus | Sequence[Corpus] | Mapping[str, Corpus],
    encoder: str | PathLike | Encoder = "minilm",
    *,
    preset: Preset | None = None,
    head: Head = "attention",
    train: str | Sequence[str] = "train",
    dev: str | float | None = None,
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
    freeze: int | Literal["all"] | None = None,
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
    temperature: float = 1.0,
    progress: bool = True,
) -> Run:
    """Fine-tune an encoder with one of the paper's heads, and evaluate it.

    The defaults are the paper's settings. The same seed, settings and machine give the same bits.

    Parameters
    ----------
    corpus : Corpus, sequence of Corpus, or mapping of str to Corpus
        The training and test data. Divide a corpus without a ``train`` split (AIMed) first: ``corpus.fold(0)``. Several
        corpora are trained together, with one encoder and head and a classifier for each; a mapping gives them names.
    encoder : str, path or Encoder
        As in ``load_encoder``.
    preset : {"paper", "standard", "one-pass", "quick"}, optional
        Several settings at once, which those that are given override: ``standard`` is a pass for each pair, three
        epochs at a learning rate that was chosen on training data; ``one-pass`` classifies all pairs of a sentence in
        one pass (``marking="levitated"``), ten epochs at a rate chosen in the same way; ``paper`` are the defaults;
        ``quick`` is a trial of 300 steps.
    head : str
        What the classifier reads (paper, section III-B): ``cls``, ``lstm``, ``attention``, ``lstm-no-cls``,
        ``attention-no-cls``, ``lstm-all-cls`` or ``attention-all-cls``; or, not in the paper, the vectors of the two
        entities (``entity``), also with attention over the words given these (``entity-attention``).
    train : str or sequence of str
        The split or splits to train on.
    dev : str or float, optional
        A split to evaluate on during training, or the fraction of the training split that is held out for it, in whole
        documents (the same for every seed); the best model on it is then kept (`load_best_model`).
    test : str or None
        The split to score; with None, or if the corpus does not have it, nothing is scored.
    marking : {"typed", "blue", "markers", "levitated", "levitated-visible"}
        How entities are marked; see ``Corpus.instances``. With ``levitated`` all pairs of a sentence are classified in
        one pass, which needs ``head="entity"`` or ``"entity-attention"``. A corpus at document scope needs it too, best
        with ``max_length=508``.
    learning_rate : float
        Peak learning rate.
    batch_size : int
        Instances per optimizer step.
    epochs : int
        Passes over the training instances.
    max_steps : int, optional
        Number of optimizer steps; overrides `epochs`, also in the learning rate schedule. 0 returns the untrained
        model, whose attention is a baseline (``compare_stems``).
    max_length : int
        Maximum number of word pieces per instance, including ``[CLS]`` and ``[SEP]``. A longer instance is cut to a
        window that keeps both entities.
    too_long : {"join", "drop", "error"}
        What to do with an instance if the text from one entity to the other does not fit: join a window around each
        entity, without the text between; drop the instance (a positive one counts as a miss); or raise an error.
    seed : int
        Seed of the head's initial weights, the order of the instances, and dropout.
    warmup_ratio : float
        Share of the steps during which the learning rate rises from 0 to its peak; from there it falls linearly to 0,
        as in transformers' ``get_linear_schedule_with_warmup``. After the warm-up, BERT's own optimizer, and so the
        paper's code, continues at ``learning_rate * (1 - t / T)``, as ``compat="su2020"`` does. The default rate is
        1 / (1 - `warmup_ratio`) times as high at each of these steps, 1.11 times for 0.1.
    weight_decay : float
        Decoupled weight decay, except for biases and LayerNorm.
    max_grad_norm : float
        Gradients with a larger norm are scaled down to it; 0 disables clipping.
    adam_beta1 : float
        Adam's decay rate of the first moment.
    adam_beta2 : float
        Adam's decay rate of the second moment.
    adam_epsilon : float
        Adam's epsilon.
    bias_correction : bool
        Correct the bias of the moments towards zero; BERT's own optimizer does not.
    dropout : float, optional
        Dropout inside the encoder; by default the rates of its configuration.
    head_dropout : float
        Dropout before the classifier.
    gradient_accumulation_steps : int
        Batches per optimizer step: a step uses `batch_size` times as many instances in the memory of one batch.
    class_weights : "balanced" or mapping of str to float, optional
        Weight of each label in the loss; ``balanced`` is inversely proportional to the frequency. Labels missing in the
        mapping have weight 1.
    focal_gamma : float
        Focal loss: an instance whose label has probability p has weight ``(1 - p) ** focal_gamma``; 0 is cross-entropy.
    layerwise_lr_decay : float
        The learning rate of each layer is this factor times that of the layer above; 1 for equal rates.
    freeze : int or "all", optional
        Freeze the embeddings and this many of the first layers; 0 freezes only the embeddings. With ``all`` nothing but
        the head is trained: the encoder has no dropout, and its hidden states are computed once for each sentence and
        kept (up to 4 GiB), so that further epochs take seconds. Encoders of type DeBERTa and NomicBERT, which cannot be
        trained, need it.
    negative_ratio : float, optional
        Train on this many negative instances per positive one, sampled with `seed`; on all by default.
    eval_steps : int, optional
        Steps between evaluations on `dev`; by default once per epoch. There is always an evaluation at the end.
    patience : int, optional
        Early stopping: stop after this many evaluations in a row without improvement.
    load_best_model : bool
        With `dev`, keep the weights with the highest F1 on it (for ties, the lowest loss); otherwise the last weights.
    compat : "su2020" or None
        ``su2020`` follows the paper's published code where it differs from the paper or the paper does not say: every
        instance is padded to `max_length`, and the heads read ``[SEP]`` and the padding like words; ``cls`` uses BERT's
        tanh pooler, initialised from the checkpoint; LSTMs have Keras's initial values (Glorot uniform and
        orthogonal); the learning rate falls as in BERT's optimizer (see `warmup_ratio`). The README of that code uses
        ``batch_size=16``. It is slow and serves for comparison. Word weights are then normalised over the words. Three
        details are not followed: Keras's hard sigmoid in the LSTM's gates, cutting long sentences at their end, and
        dropping the last, smaller batch of an epoch.
    gradient_checkpointing : bool
        Store only the inputs of the encoder's layers and recompute the rest in the backward pass: less memory, more
        time, the same bits.
    precision : {"auto", "f32", "bf16"}
        Precision of the large matrix products. ``bf16`` rounds their operands to 8 significant bits and accumulates in
        f32; weights, optimizer, attention and LayerNorm stay in f32. ``auto`` is bf16 on a GPU and on processors with
        instructions for it, else f32; ``run.settings["precision"]`` has the choice.
    callbacks : sequence of Callback
        Called at every step and evaluation; see ``biorel.callbacks``.
    checkpoint : path, optional
        A file for the training checkpoint. If it exists, the run resumes from it, with the same bits as an
        uninterrupted run; a checkpoint of other settings, data or another encoder is an error.
    save_steps : int
        Steps between checkpoints; one is also written when the run ends or is stopped.
    device : str
        The device to compute on: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``. ``cuda`` is an NVIDIA GPU and needs the
        CUDA part; ``auto`` is the first usable GPU, else the processor, and ``run.settings["device"]`` has the choice.
        See ``biorel.devices``. ``reference`` is the slow specification that the other engines are tested against.
    threads : int, optional
        Processor threads; all by default.
    temperature : float
        For several corpora: one of n instances has a share of each epoch that is proportional to ``n ** (1 /
        temperature)``. With 1 every instance is read once in an epoch; with more, those of small corpora are repeated.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Run
        The model with its scores, history and predictions; for several corpora a ``JointRun``, a mapping of their names
        to the run of each.

    Raises
    ------
    ConfigError
        For a setting out of range, or a split that the corpus does not have.
    DeviceError
        For a device that cannot be used, or whose memory is exhausted; the message names the remedy.
    TrainingError
        When the loss or a gradient is not finite; the message names the step.
    TrainingInterrupted
        After Ctrl-C; its ``run`` has the model as trained so far.

    Warns
    -----
    UserWarning
        When instances were cut or dropped because of `max_length`, and when `dev` shares documents with `train`, as in
        the BLUE benchmark's form of DDI (362 documents).

    Examples
    --------
    >>> run = biorel.finetune(biorel.load_sample("ddi"), "minilm", max_steps=1, progress=False)
    >>> run.history[["step", "epoch", "instances"]]
       step  epoch  instances
    0     1      1         32
    """
    given = locals()
    if not isinstance(callbacks, Sequence):
        raise ConfigError(f"callbacks: must be a list, not {type(callbacks).__name__}", "callbacks")
    corpora = _named(corpus)
    joint = not isinstance(corpus, Corpus)
    compute = choose(device, precision, threads)
    settings = {name: given[name] for name in CORE_SETTINGS}
    if joint:
        _check_joint(dev, class_weights)
    elif temperature != 1.0:
        raise ConfigError("temperature: applies to several corpora that are trained together", "temperature")
    labels = next(iter(corpora.values())).labels
    settings |= {"class_weights": _label_weights(class_weights, labels), "precision": compute.precision}
    core_settings = _biorel.Settings(settings)
    train_splits = [train] if isinstance(train, str) else list(train)
    tests = {name: _test_split(one, train_splits, test, dev) for name, one in corpora.items()}
    dev_split = dev if isinstance(dev, str) else None
    if isinstance(dev, (int, float)):
        corpora = {name: hold_out_dev(one, train_splits, dev) for name, one in corpora.items()}
        dev_split = "dev"
    held_out = None if joint else _dev_instances(next(iter(corpora.values())), train_splits, dev_split, marking)
    instances = {name: one._core.instances(train_splits, marking) for name, one in corpora.items()}
    loaded = load_encoder(encoder)
    settings |= {
        "schedule": "bert" if compat == "su2020" else "linear",
        "device": compute.device,
        "marking": marking,
        "train": train_splits,
        "dev": dev,
        "test": test if joint else next(iter(tests.values())),
        "encoder": loaded.name,
    }
    if joint:
        settings["temperature"] = temperature
    common: dict[str, Any] = {
        "compute": compute,
        "checkpoint": None if checkpoint is None else os.fspath(checkpoint),
        "save_steps": save_steps,
    }
    with Reporter(callbacks, settings, progress) as reporter:
        common["report"] = reporter.report
        encoded = (loaded._core, loaded.name)
        if joint:
            parts = list(instances.values())
            outcomes = _biorel.finetune_jointly(*encoded, parts, core_settings, temperature=temperature, **common)
        else:
            (only,) = instances.values()
            outcomes = [_biorel.finetune(*encoded, only, core_settings, dev=held_out, **common)]
        runs = {}
        for (name, one), outcome in zip(corpora.items(), outcomes, strict=True):
            _warn_of_losses(outcome.counts, max_length)
            runs[name] = Run(
                RelationModel(outcome.model, compute, synthetic=is_sample(one, train_splits)),
                one,
                settings,
                outcome,
                test=tests[name],
                report={**loaded.report, "initialised": outcome.initialised},
                progress=progress,
            )
        # Typed as the run of one corpus, which nearly all calls are for; two overloads would repeat all parameters.
        run: Any = JointRun(runs) if joint else next(iter(runs.values()))
        raised = outcomes[0].raised
        if isinstance(raised, KeyboardInterrupt):
            steps = len(run.history)
            raise TrainingInterrupted(f"stopped after step {steps}; the model so far is in .run of this exception", run)
        if raised is not None:
            raise raised
        reporter.end(run)
    result: Run = run
    return result


def _named(corpus: Corpus | Sequence[Corpus] | Mapping[str, Corpus]) -> dict[str, Corpus]:
    """The corpora by their names."""
    corpora: dict[str, Corpus] = {}
    if isinstance(corpus, Mapping):
        corpora = dict(corpus)
    elif isinstance(corpus, Sequence) and not isinstance(corpus, str):
        for one in corpus:
            check_corpus(one)
            if one.name in corpora:
                message = f"corpus: two are called `{one.name}`; give names to them, as in {{'a': first, 'b': second}}"
                raise ConfigError(message, "corpus")
            corpora[one.name] = one
    else:
        check_corpus(corpus)
        corpora = {corpus.name: corpus}
    if not corpora:
        raise ConfigError("corpus: there is no corpus to train on", "corpus")
    for one in corpora.values():
        check_corpus(one)
    return corpora


def _check_joint(dev: str | float | None, class_weights: object) -> None:
    """Refuse the settings that belong to one corpus."""
    for field, value in (("dev", dev), ("class_weights", class_weights)):
        if value is not None:
            raise ConfigError(f"{field}: applies to one corpus; leave it out where several are trained together", field)


def _label_weights(weights: str | Mapping[str, float] | None, labels: list[str]) -> str | list[float] | None:
    if not isinstance(weights, Mapping):
        return weights
    for label in weights:
        if label not in labels:
            raise ConfigError(
                f"class_weights: `{label}` is not a label; choose from {', '.join(labels)}", "class_weights"
            )
    return [weights.get(label, 1.0) for label in labels]


def _test_split(corpus: Corpus, train: list[str], test: str | None, dev: str | float | None) -> str | None:
    if "train" in train and "train" not in corpus.splits:
        raise ConfigError(
            f"train: {corpus.name} has no split `train`, only {', '.join(corpus.splits)}; divide it with "
            "corpus.split(test=0.2) (--test-fraction 0.2) or corpus.fold(0) (--fold 0), or name the split to train on "
            "(--train)",
            "train",
        )
    if test is not None and not isinstance(test, str):
        message = f"test: must be the name of a split, not {test!r}; corpus.split(test=0.2) makes one"
        raise ConfigError(message, "test")
    if test == "test" and test not in corpus.splits:
        if others := [split for split in corpus.splits if split not in train and split != dev]:
            remedy = f"to score one of the others ({', '.join(others)}), name it, as in test={others[-1]!r}"
            warn(f"test: {corpus.name} has no split `test`, so nothing is scored; {remedy}")
        return None
    if test is None:
        return None
    if test == dev == "test":  # the scores of another split may be wanted, as a search does
        raise ConfigError(f"dev: the best model would be chosen on `{dev}`, which is also scored", "dev")
    if test in train:
        raise ConfigError(f"test: `{test}` is also trained on, so scores on it would be meaningless", "test")
    corpus._core.instances([test], "typed")  # an unknown split is an error now, not after the training
    return test


def hold_out_dev(corpus: Corpus, train: list[str], fraction: float) -> Corpus:
    """The corpus of `dev=FRACTION`: move a fraction of the training split to a new split `dev`."""
    if not 0 < fraction < 1:
        raise ConfigError(f"dev: must be a fraction between 0 and 1, or the name of a split, not {fraction}", "dev")
    if len(train) > 1:
        raise ConfigError("dev: a fraction is held out of one training split; `train` names several", "dev")
    if "dev" in corpus.splits:
        raise ConfigError(f'dev: {corpus.name} has a split `dev`; write dev="dev" to evaluate on it', "dev")
    return corpus.hold_out(train[0], "dev", fraction)


def _dev_instances(
    corpus: Corpus, train: list[str], dev: str | None, marking: Marking
) -> tuple[_biorel.Instances, list[int]] | None:
    if dev is None:
        return None
    if dev in train:
        raise ConfigError(f"dev: `{dev}` is also trained on, so scores on it would be meaningless", "dev")
    _warn_of_shared_documents(corpus, train, dev)
    return corpus._core.instances([dev], marking), corpus._core.lost(dev)


def _warn_of_shared_documents(corpus: Corpus, train: list[str], dev: str) -> None:
    """Warn if `dev` shares documents with `train`: their sentences are alike, so selection prefers overfitting."""
    held_out, trained = (
        {document for split in splits for document in corpus.instances(split)["document"]} for splits in ([dev], train)
    )
    shared = len(held_out & trained)
    if shared:
        warn(
            f"dev: {shared} of the {len(held_out)} documents of `{dev}` are trained on too, so scores on it are too "
            "good for early stopping or model selection; divide the documents with corpus.divide() instead"
        )


def _warn_of_losses(counts: Mapping[str, int], max_length: int) -> None:
    if counts["cut"]:
        warn(f"{counts['cut']} training instances were cut to {max_length} word pieces around their entities")
    if counts["dropped"]:
        warn(f"{counts['dropped']} training instances were dropped: their entities are too far apart")
