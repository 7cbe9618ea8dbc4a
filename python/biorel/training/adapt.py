"""Adapting an encoder to a user's own texts, before fine-tuning."""

from __future__ import annotations

import codecs
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from biorel import _biorel
from biorel._progress import Counter
from biorel._types import Device, PathLike, Precision
from biorel.data.corpus import Corpus
from biorel.data.documents import Document, encodable, read_documents
from biorel.errors import ConfigError
from biorel.models.devices import choose
from biorel.models.encoder import Encoder, load_encoder
from biorel.training.progress import Reporter

Texts: TypeAlias = "PathLike | Corpus | Iterable[str | Document | Corpus]"

# Texts are tokenised together up to this number, and to this number of characters.
_TEXTS = 1024
_CHARACTERS = 1 << 20


class Adaptation:
    """The result of ``adapt``.

    Attributes
    ----------
    encoder : Encoder
        The adapted encoder, for ``finetune`` and everything else that takes one.
    settings : dict
        Every setting, including defaults.
    texts, held_out : int
        Numbers of texts that were trained on and held out.
    parts, pieces : int
        The texts after those longer than `max_length` were divided, and their word pieces.
    perplexity : pandas.DataFrame or None
        Of the held-out texts: rows ``before`` and ``after``, columns ``loss`` (mean cross-entropy of the masked pieces,
        in nats) and ``perplexity``, its exponential. None if nothing was held out.
    new_decoder : bool
        Whether the parameters above the encoder were initialised. Sentence encoders such as MiniLM come without them:
        the perplexity before then says nothing about the encoder.
    """

    def __init__(
        self,
        encoder: Encoder,
        settings: dict[str, Any],
        adapted: _biorel.Adapted,
        counts: tuple[int, int],
    ) -> None:
        self.encoder = encoder
        self.settings = settings
        self.texts, self.held_out = counts
        self.parts = adapted.parts
        self.pieces = adapted.pieces
        self.new_decoder = adapted.new_decoder
        self.perplexity: pd.DataFrame | None = None
        if adapted.held_out_loss is not None:
            losses = np.array(adapted.held_out_loss)
            table = {"loss": losses, "perplexity": np.exp(losses)}
            self.perplexity = pd.DataFrame(table, index=pd.Index(["before", "after"]))
        self._history = adapted.history

    @property
    def history(self) -> pd.DataFrame:
        """One row per step, with the columns of ``Run.history``; ``instances`` are parts of texts."""
        return pd.DataFrame(self._history)

    def save(self, directory: PathLike) -> None:
        """Write the encoder as a directory that ``load_encoder`` and transformers' ``AutoModel`` open.

        The parameters above the encoder are written too, so that ``adapt`` can continue from there.

        Parameters
        ----------
        directory : path
            A new directory, or one with an encoder, which is replaced.

        Raises
        ------
        ConfigError
            When `directory` has something else.
        """
        self.encoder.save(directory)

    def __repr__(self) -> str:
        """Show the sizes and the perplexity."""
        sizes = f"{self.encoder.name!r}, {self.texts:,} texts, {len(self.history):,} steps"
        if self.perplexity is None:
            return f"Adaptation({sizes})"
        before, after = self.perplexity["perplexity"]
        return f"Adaptation({sizes}, perplexity {before:.1f} to {after:.1f})"


def adapt(
    encoder: str | PathLike | Encoder,
    texts: Texts,
    *,
    held_out: float = 0.05,
    mask_rate: float = 0.15,
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    epochs: int = 3,
    max_steps: int | None = None,
    max_length: int = 128,
    seed: int = 1,
    warmup_ratio: float = 0.06,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    gradient_accumulation_steps: int = 1,
    gradient_checkpointing: bool = False,
    precision: Precision = "auto",
    checkpoint: PathLike | None = None,
    save_steps: int = 100,
    device: Device = "auto",
    threads: int | None = None,
    progress: bool = True,
) -> Adaptation:
    """Train an encoder further on unlabelled texts, as the masked language model that BERT is pre-trained with.

    Fine-tuning then starts from an encoder that knows the texts' words (Gururangan et al. 2020). Whole words are
    masked; of the masked pieces 80 % become ``[MASK]`` and 10 % a random piece. The decoder is the word embedding.

    The texts are read once, one by one, before the first step, and written as word pieces to a temporary file: four
    bytes for each piece, beside `checkpoint` if there is one, else in the system's temporary directory. Memory does not
    grow with their length, and by less than 50 bytes for each text or part of one.

    Parameters
    ----------
    encoder : str, path or Encoder
        As ``load_encoder`` takes it.
    texts : path, Corpus, or iterable of str, Document and Corpus
        What to train on; an iterator will do. A corpus gives the text of its documents, except those of the split
        ``test``. A path is a file or folder that ``read_documents`` reads, or plain text: a ``.txt`` file, or a folder
        of nothing else. Blank lines divide its texts; in a file without blank lines every line is a text.
    held_out : float
        The fraction of the texts whose perplexity is measured before and after, and on which nothing is trained.
    mask_rate : float
        The share of the word pieces that are to be predicted.
    learning_rate : float
        The highest learning rate. It rises during the warm-up steps, then falls linearly to 0.
    batch_size : int
        Texts, or parts of them, per step.
    epochs : int
        Passes over the texts. They are masked anew in each.
    max_steps : int, optional
        Stop after this number of steps, or continue until it, instead of counting epochs.
    max_length : int
        Longest part of a text, in word pieces. Longer texts are divided between words.
    seed : int
        Of the order, the masks, the dropout and the choice of the texts that are held out.
    warmup_ratio : float
        The share of the steps in which the learning rate rises.
    weight_decay : float
        Decay of the weights, without biases and LayerNorm.
    max_grad_norm : float
        Gradients are scaled down to this norm; 0 turns that off.
    gradient_accumulation_steps : int
        Batches per step.
    gradient_checkpointing : bool
        Save memory: compute activations again in the backward pass.
    precision : {"auto", "f32", "bf16"}
        Precision of the large matrix products; ``auto`` is bf16 where the processor or GPU has instructions for it.
    checkpoint : path, optional
        A file from which a run that was killed, or stopped by Ctrl-C, resumes and ends with the same bits.
    save_steps : int
        Steps between two checkpoints.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; ``auto`` is the first usable GPU, else the processor.
    threads : int, optional
        Processor threads; all by default.
    progress : bool
        Show how many texts have been read, then a progress bar of the steps.

    Returns
    -------
    Adaptation
        The adapted encoder, with the history and the perplexity.

    Raises
    ------
    ConfigError
        For a setting out of range, texts that are none, or an encoder without ``[MASK]``.
    CorpusError
        For a file that cannot be read, or a text with a lone surrogate; the message names it.
    OSError
        When the disk with the temporary file is full.
    TrainingError
        When the loss or a gradient is not finite; the message names the step.

    Examples
    --------
    >>> adapted = biorel.adapt("minilm", biorel.load_sample("ddi"), max_steps=1, progress=False)
    >>> adapted.texts, adapted.held_out
    (27, 1)
    >>> adapted.perplexity.columns.tolist()
    ['loss', 'perplexity']
    >>> run = biorel.finetune(biorel.load_sample("ddi"), adapted.encoder, max_steps=1, progress=False)
    """
    given = locals()
    compute = choose(device, precision, threads)
    settings = {name: given[name] for name in _CORE}
    core_settings = _biorel.Settings({**settings, "precision": compute.precision})
    if not 0 <= held_out < 1:
        raise ConfigError(f"held_out: must be a fraction from 0 to below 1, not {held_out}", "held_out")
    loaded = load_encoder(encoder)
    directory = tempfile.gettempdir() if checkpoint is None else os.path.dirname(os.path.abspath(checkpoint))
    spool = _biorel.Spool(loaded._core, core_settings, mask_rate, directory)
    with Counter("reading texts", "texts", show=progress) as counter:
        _fill(spool, texts_of(texts), compute, counter)
    others = _choose(len(spool), held_out, seed)
    settings |= {
        "encoder": loaded.name,
        "held_out": held_out,
        "mask_rate": mask_rate,
        "precision": compute.precision,
        "device": compute.device,
    }
    with Reporter([], settings, progress, "adapting") as reporter:
        adapted = _biorel.adapt(
            spool,
            others,
            core_settings,
            mask_rate=mask_rate,
            compute=compute,
            checkpoint=None if checkpoint is None else os.fspath(checkpoint),
            save_steps=save_steps,
            report=reporter.report,
        )
        if adapted.raised is not None:
            raise adapted.raised
    counts = len(spool) - len(others), len(others)
    return Adaptation(Encoder(adapted.encoder, f"{loaded.name}-adapted"), settings, adapted, counts)


# The settings of the training loop that a language model has.
_CORE = (
    "learning_rate",
    "batch_size",
    "epochs",
    "max_steps",
    "max_length",
    "seed",
    "warmup_ratio",
    "weight_decay",
    "max_grad_norm",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
)


def _fill(spool: _biorel.Spool, texts: Iterable[str], compute: _biorel.Compute, counter: Counter) -> None:
    """Tokenise all texts, some at once."""

    def extend(block: list[str]) -> None:
        try:
            spool.extend(block, compute)
        except OSError as error:
            reason = f"{error.strerror}: the word pieces of the texts are written to a temporary file there"
            remedy = "set the environment variable TMPDIR, or give a checkpoint, on a larger disk"
            raise OSError(error.errno, f"{reason}; {remedy}", error.filename) from None
        counter.advance(len(spool))

    block: list[str] = []
    characters = 0
    for text in texts:
        block.append(text)
        characters += len(text)
        if len(block) == _TEXTS or characters >= _CHARACTERS:
            extend(block)
            block, characters = [], 0
    extend(block)


def _choose(count: int, held_out: float, seed: int) -> list[int]:
    """The numbers of the texts that are held out, in ascending order."""
    number = max(1, round(count * held_out)) if held_out and count > 1 else 0
    chosen: list[int] = np.sort(np.random.default_rng(seed).permutation(count)[:number]).tolist()
    return chosen


def texts_of(source: Texts) -> Iterator[str]:
    """The texts of what ``adapt`` takes; see there."""
    if isinstance(source, (str, os.PathLike)):
        yield from _texts_of_path(Path(source))
    elif isinstance(source, Corpus):
        yield from _texts_of_corpus(source)
    else:
        for position, item in enumerate(source):
            if isinstance(item, Corpus):
                yield from _texts_of_corpus(item)
            elif isinstance(item, Document):
                yield item.text
            elif isinstance(item, str):
                yield encodable(item, f"texts: item {position}")
            else:
                raise ConfigError(
                    f"texts: item {position} is {item!r:.80}; it must be a str, a Document or a Corpus", "texts"
                )


def _texts_of_corpus(corpus: Corpus) -> Iterator[str]:
    """The text of each document outside of the split ``test``: its sentences in their order, joined."""
    for split in corpus.splits:
        if split != "test":
            yield from corpus._core.document_texts(split)


def check_texts(path: PathLike) -> None:
    """Raise ConfigError unless there is such a file or folder."""
    if not Path(path).exists():
        message = f"texts: there is no file or folder {os.fspath(path)}; texts themselves are given as a list of str"
        raise ConfigError(message, "texts")


def _texts_of_path(path: Path) -> Iterator[str]:
    check_texts(path)
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    if files and all(map(_is_plain, files)):
        for file in files:
            yield from _texts_of_plain(file)
    else:
        yield from (document.text for document in read_documents(path))


def _is_plain(path: Path) -> bool:
    """Whether a file is plain text: neither PubTator's format nor the text of standoff annotations."""
    if path.suffix != ".txt" or any(path.with_suffix(suffix).exists() for suffix in (".ann", ".a1")):
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    return re.match(r"[^|\s]+\|t\|", first) is None


def _texts_of_plain(path: Path) -> Iterator[str]:
    if all(map(str.strip, _lines(path))):
        yield from _lines(path)
        return
    paragraph: list[str] = []
    for line in _lines(path):
        if line.strip():
            paragraph.append(line.strip())
        elif paragraph:
            yield " ".join(paragraph)
            paragraph = []
    if paragraph:
        yield " ".join(paragraph)


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file, one by one, however they end."""
    offset = 0
    with path.open("rb") as file:
        for raw in file:
            start = len(codecs.BOM_UTF8) if offset == 0 and raw.startswith(codecs.BOM_UTF8) else 0
            try:
                yield from raw[start:].decode("utf-8").splitlines()
            except UnicodeDecodeError as error:
                place = f"byte {offset + start + error.start}"
                message = f"texts: {path}: is not UTF-8 at {place}; save it as UTF-8"
                raise ConfigError(message, "texts") from None
            offset += len(raw)
