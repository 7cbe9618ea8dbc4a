from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "CORPORA",
    "HEADS",
    "Compute",
    "Corpus",
    "Document",
    "DocumentReader",
    "Encoder",
    "Instances",
    "Model",
    "Outcome",
    "Pairs",
    "Part",
    "Predicted",
    "ReadOptions",
    "Settings",
    "Stream",
    "Task",
    "__version__",
    "attention",
    "bootstrap",
    "bootstrap_mean",
    "finetune",
    "gpus",
    "layer_weights",
    "least_documents",
    "list_inputs",
    "mask_words",
    "mcnemar",
    "mcnemar_by_unit",
    "predict_documents",
    "rank_correlations",
    "score",
    "sign_test",
    "stem_contrasts",
    "stem_weights",
    "t_interval",
    "write_directory",
    "write_documents",
]
CORPORA: tuple[str, ...]
HEADS: tuple[str, ...]
__version__: str

_Columns = dict[str, Any]

@final
class Task:
    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> list[str]: ...
    @property
    def negative(self) -> str | None: ...
    @property
    def headline(self) -> str: ...
    @property
    def types(self) -> list[str]: ...

@final
class ReadOptions:
    def __new__(
        cls,
        *,
        splits: str | None = None,
        columns: dict[str, str] = ...,
        labels: list[str] | None = None,
        negative: str | None = None,
        pairs: list[tuple[str, str]] | None = None,
        skip_errors: bool = False,
    ) -> ReadOptions: ...

@final
class Corpus:
    @staticmethod
    def read(name: str, paths: list[str], options: ReadOptions) -> Corpus: ...
    @staticmethod
    def from_columns(columns: _Columns, options: ReadOptions) -> Corpus: ...
    @staticmethod
    def from_documents(documents: list[Document], options: ReadOptions) -> Corpus: ...
    @staticmethod
    def from_bytes(bytes: bytes) -> Corpus: ...
    def to_bytes(self) -> bytes: ...
    @property
    def name(self) -> str: ...
    @property
    def task(self) -> Task: ...
    @property
    def splits(self) -> list[str]: ...
    def statistics(self) -> _Columns: ...
    def sentences(self, split: str) -> _Columns: ...
    @property
    def summary(self) -> list[str]: ...
    def findings(self) -> _Columns: ...
    def lost(self, split: str) -> list[int]: ...
    def instances(self, splits: list[str], marking: str) -> Instances: ...
    def divide(self, parts: list[tuple[str, list[str]]]) -> Corpus: ...
    def fold(self, index: int, folds: int, by: str, seed: int) -> Corpus: ...
    def fold_numbers(self, folds: int, by: str, seed: int) -> list[int]: ...
    @property
    def given_folds(self) -> int | None: ...
    @property
    def hash(self) -> str: ...
    def leakage(self, train: str, test: str, threshold: float) -> _Columns: ...

# Kind, start, text, whether it is one sentence.
_Passage = tuple[str, int, str, bool]
# Identifier, type, concepts, segments; and the text.
_Mention = tuple[str, str, list[str], list[tuple[int, int]]]
_ShownMention = tuple[str, str, list[str], list[tuple[int, int]], str]
# Identifier, type, arguments: the index of a mention, or a concept.
_Relation = tuple[str, str, int | str, int | str]

@final
class Document:
    def __new__(
        cls,
        id: str,
        passages: list[_Passage],
        mentions: list[_Mention],
        relations: Sequence[_Relation],
        *,
        file: str | None = None,
    ) -> Document: ...
    @property
    def id(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def origin(self) -> tuple[str, int | None, str | None]: ...
    @property
    def passages(self) -> list[_Passage]: ...
    @property
    def mentions(self) -> list[_ShownMention]: ...
    @property
    def relations(self) -> list[_Relation]: ...
    @property
    def findings(self) -> list[tuple[str, str, str]]: ...
    def sentences(self) -> list[tuple[int, str, list[int]]]: ...

@final
class DocumentReader:
    def __new__(cls, inputs: list[tuple[str, str]]) -> DocumentReader: ...
    def __iter__(self) -> DocumentReader: ...
    def __next__(self) -> Document: ...

def list_inputs(
    paths: list[str], format: str | None
) -> tuple[list[tuple[PathLike[str], str]], list[tuple[PathLike[str], str]]]: ...
def write_directory(directory: PathLike[str] | str, files: dict[str, bytes]) -> None: ...
def write_documents(documents: list[Document], format: str) -> str: ...

# File, line, document, reason.
_Failure = tuple[str, int | None, str | None, str]

@final
class Stream:
    def __new__(
        cls,
        model: Model,
        inputs: list[tuple[str, str]],
        start: tuple[int, int],
        *,
        types: dict[str, str],
        part_documents: int,
        part_pairs: int,
        max_pairs: int,
        shard: tuple[int, int],
        keep_raw: bool,
        compute: Compute,
    ) -> Stream: ...
    def next_part(self) -> Part | None: ...
    def close(self) -> None: ...

@final
class Part:
    @property
    def documents(self) -> int: ...
    @property
    def pairs(self) -> int: ...
    @property
    def failures(self) -> list[_Failure]: ...
    @property
    def counts(self) -> dict[str, int]: ...
    @property
    def next(self) -> tuple[int, int]: ...
    @property
    def bytes(self) -> int: ...
    def columns(self, *, related: bool = False, threshold: float = 0.0) -> _Columns: ...
    def text(self, format: str, model: str, threshold: float) -> tuple[str, list[_Failure]]: ...

def predict_documents(
    model: Model,
    documents: list[Document],
    *,
    types: dict[str, str],
    max_pairs: int,
    keep_failures: bool,
    compute: Compute,
) -> Part: ...

@final
class Encoder:
    @staticmethod
    def open(directory: str, casing: str | None) -> Encoder: ...
    def save(self, directory: str) -> None: ...
    @property
    def config(self) -> str: ...
    @property
    def hash(self) -> str: ...
    @property
    def casing(self) -> str: ...
    @property
    def report(self) -> dict[str, Any]: ...
    def tokenize(self, text: str) -> _Columns: ...
    def encode(self, texts: list[str], compute: Compute) -> list[npt.NDArray[np.float32]]: ...

@final
class Instances:
    def __len__(self) -> int: ...
    def columns(self) -> _Columns: ...

@final
class Predicted:
    @property
    def kept(self) -> list[int]: ...
    @property
    def cut(self) -> int: ...
    @property
    def probabilities(self) -> npt.NDArray[np.float32]: ...

@final
class Pairs:
    @property
    def instances(self) -> Instances: ...
    @property
    def unknown_types(self) -> dict[str, int]: ...
    def columns(self) -> _Columns: ...

@final
class Model:
    @staticmethod
    def load(directory: str) -> Model: ...
    @staticmethod
    def place(directory: str) -> Path: ...
    def save(self, directory: str, readme: str) -> None: ...
    @property
    def task(self) -> Task: ...
    @property
    def head(self) -> str: ...
    @property
    def marking(self) -> str: ...
    @property
    def card(self) -> str: ...
    @property
    def hash(self) -> str: ...
    def instances(self, corpus: Corpus, splits: list[str]) -> Instances: ...
    def pairs(self, sentences: list[tuple[str, str, list[tuple[str, str, int, int]]]]) -> Pairs: ...
    def predict(self, instances: Instances, compute: Compute) -> Predicted: ...

@final
class Compute:
    def __new__(cls, device: str, precision: str, threads: int | None) -> Compute: ...
    def __eq__(self, other: object, /) -> bool: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def threads(self) -> int | None: ...
    @property
    def instructions(self) -> str: ...

@final
class Settings:
    def __new__(cls, values: dict[str, Any]) -> Settings: ...
    @property
    def json(self) -> str: ...

@final
class Outcome:
    @property
    def model(self) -> Model: ...
    @property
    def counts(self) -> dict[str, int]: ...
    @property
    def initialised(self) -> list[str]: ...
    @property
    def step(self) -> int: ...
    @property
    def raised(self) -> BaseException | None: ...
    @property
    def history(self) -> _Columns: ...
    @property
    def evaluations(self) -> _Columns: ...

def gpus() -> tuple[list[tuple[str, int, str | None]], str | None]: ...
def finetune(
    encoder: Encoder,
    name: str,
    instances: Instances,
    settings: Settings,
    *,
    dev: tuple[Instances, list[int]] | None,
    compute: Compute,
    checkpoint: str | None,
    save_steps: int,
    report: Callable[[str, _Columns, int], None] | None,
) -> Outcome: ...
def attention(model: Model, instances: Instances, kind: str, compute: Compute) -> _Columns: ...
def layer_weights(
    model: Model, instances: Instances, compute: Compute
) -> tuple[list[int], list[int], npt.NDArray[np.float32]]: ...
def mask_words(
    model: Model,
    instances: Instances,
    *,
    words: list[int],
    n_random: int,
    seed: int,
    related: bool,
    limit: int | None,
    compute: Compute,
) -> _Columns: ...
def rank_correlations(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], starts: list[int]
) -> npt.NDArray[np.float64]: ...
def score(task: Task, gold: list[int], predicted: list[int], lost: list[int], split: str) -> tuple[_Columns, str]: ...

_Words = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]

def stem_weights(words: _Words, *, samples: int, confidence_level: float, seed: int) -> _Columns: ...
def stem_contrasts(first: _Words, second: _Words, *, samples: int, confidence_level: float, seed: int) -> _Columns: ...
def bootstrap_mean(
    values: list[float], documents: list[int], *, samples: int, confidence_level: float, seed: int
) -> tuple[float, float, float, float]: ...
def least_documents() -> int: ...
def bootstrap(
    task: Task,
    gold: list[int],
    first: list[list[int | None]],
    second: list[list[int | None]],
    unit: list[int],
    *,
    samples: int,
    confidence_level: float,
    seed: int,
) -> tuple[float, float, float, float, float, int]: ...
def mcnemar(
    task: Task, gold: list[int], first: list[int | None], second: list[int | None]
) -> tuple[int, int, int, float, float]: ...
def mcnemar_by_unit(
    task: Task,
    gold: list[int],
    first: list[int | None],
    second: list[int | None],
    unit: list[int],
    *,
    samples: int,
    seed: int,
) -> tuple[int, int, int, float, float]: ...
def sign_test(first: list[float], second: list[float]) -> tuple[int, int, int, float, float]: ...
def t_interval(values: list[float], confidence_level: float) -> tuple[float, float] | None: ...
