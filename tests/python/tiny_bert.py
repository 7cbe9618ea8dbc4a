"""A tiny BERT with random weights, with which most tests take milliseconds and need no download."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import biorel
import numpy as np

LAYERS, HIDDEN, HEADS, INNER, POSITIONS = 2, 32, 2, 64, 96


def vocabulary() -> list[str]:
    """Word pieces for every text of the sample: its words and all single characters."""
    texts = []
    for name in ("ddi", "aimed", "chemprot"):
        corpus = biorel.load_sample(name)
        for split in corpus.splits:
            texts += corpus.instances(split)["text"].tolist()
    words = sorted({word for text in texts for word in text.lower().replace("@", " ").split() if word.isalpha()})
    characters = sorted({character for text in texts for character in text.lower() if not character.isspace()})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *characters, *(f"##{character}" for character in characters), *words]
    return list(dict.fromkeys([*pieces, "drug", "protein", "chemical", "gene"]))


def tensors(
    rows: int,
    seed: int = 0,
    *,
    layers: int = LAYERS,
    hidden: int = HIDDEN,
    inner: int = INNER,
    positions: int = POSITIONS,
) -> dict[str, np.ndarray]:
    """Random weights under transformers' names."""
    numbers = np.random.default_rng(seed)

    def matrix(*shape: int) -> np.ndarray:
        return (numbers.standard_normal(shape) * 0.1).astype(np.float32)

    found: dict[str, np.ndarray] = {
        "embeddings.word_embeddings.weight": matrix(rows, hidden),
        "embeddings.position_embeddings.weight": matrix(positions, hidden),
        "embeddings.token_type_embeddings.weight": matrix(2, hidden),
    }

    def norm(name: str) -> None:
        found[f"{name}.weight"] = np.ones(hidden, np.float32)
        found[f"{name}.bias"] = np.zeros(hidden, np.float32)

    def linear(name: str, outputs: int, inputs: int) -> None:
        found[f"{name}.weight"] = matrix(outputs, inputs)
        found[f"{name}.bias"] = np.zeros(outputs, np.float32)

    norm("embeddings.LayerNorm")
    for layer in range(layers):
        prefix = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{prefix}.attention.self.{part}", hidden, hidden)
        linear(f"{prefix}.attention.output.dense", hidden, hidden)
        norm(f"{prefix}.attention.output.LayerNorm")
        linear(f"{prefix}.intermediate.dense", inner, hidden)
        linear(f"{prefix}.output.dense", hidden, inner)
        norm(f"{prefix}.output.LayerNorm")
    return found


def write_safetensors(path: Path, weights: dict[str, np.ndarray]) -> None:
    """Write a length, a JSON header and the bytes, which is the whole format; no package is needed."""
    header, offset = {}, 0
    for name, values in weights.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(values.tobytes() for values in weights.values()))


def write_encoder(folder: Path, positions: int = POSITIONS, **changes: np.ndarray) -> Path:
    """An encoder directory; `changes` replaces tensors (dots written as double underscores)."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = vocabulary()
    config = {
        "model_type": "bert",
        "vocab_size": len(pieces),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": positions,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    weights = tensors(len(pieces), positions=positions)
    weights |= {name.replace("__", "."): values for name, values in changes.items()}
    write_safetensors(folder / "model.safetensors", weights)
    return folder
