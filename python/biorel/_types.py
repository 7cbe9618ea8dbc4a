"""Type aliases that several packages share."""

from __future__ import annotations

import os
from typing import Any, Literal, TypeAlias

Head: TypeAlias = Literal[
    "cls",
    "lstm",
    "attention",
    "lstm-no-cls",
    "attention-no-cls",
    "lstm-all-cls",
    "attention-all-cls",
    "entity",
    "entity-attention",
]
TooLong: TypeAlias = Literal["error", "drop", "join"]

PathLike: TypeAlias = str | os.PathLike[str]
Marking: TypeAlias = Literal["typed", "blue", "markers", "levitated", "levitated-visible"]
Scope: TypeAlias = Literal["sentence", "document"]
By: TypeAlias = Literal["document", "given", "instance", "split"]

Casing: TypeAlias = Literal["cased", "uncased"]
Precision: TypeAlias = Literal["auto", "f32", "bf16"]

# auto, cpu, cuda, cuda:1 and so on, reference.
Device: TypeAlias = str

DocumentFormat: TypeAlias = Literal[
    "pubtator",
    "bioc-json",
    "bioc-xml",
    "brat",
    "bionlp",
    "drugprot",
    "prodigy",
    "bigbio",
    "label-studio",
    "inception",
    "text",
]

# What word weights are computed from.
Kind: TypeAlias = Literal["head", "encoder", "gradient"]

Engine: TypeAlias = Literal["local", "ray"]

Row: TypeAlias = dict[str, Any]
