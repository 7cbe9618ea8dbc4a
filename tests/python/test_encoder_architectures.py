"""Encoders of other architectures and tokenizers, from the directory to a saved relation model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import biorel
import numpy as np
import pandas as pd
import pytest
from tiny_bert import write_encoder, write_safetensors

SUBWORDS = Path(__file__).parents[1] / "golden" / "tokenizer" / "subwords"
LONGEST = 140


def write(folder: Path, model_type: str, tokenizer: str) -> Path:
    """A tiny encoder with a tokenizer of the tests."""
    rows = 910
    words = np.random.default_rng(1).standard_normal((rows, 32)).astype(np.float32)
    write_encoder(folder, positions=LONGEST + 2, embeddings__word_embeddings__weight=words)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": model_type, "vocab_size": rows}
    config |= {"pad_token_id": 1, "embedding_size": 32, "local_attention": 16}
    if model_type == "modernbert":
        config |= {"max_position_embeddings": 1_024, "norm_eps": 1e-5}
        write_safetensors(folder / "model.safetensors", modernbert(config, words))
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("vocab.txt", "tokenizer_config.json"):
        (folder / name).unlink()
    for file in (SUBWORDS / tokenizer).iterdir():
        shutil.copy(file, folder)
    return folder


def modernbert(config: dict[str, Any], words: np.ndarray) -> dict[str, np.ndarray]:
    """Random weights of a ModernBERT."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    numbers = np.random.default_rng(2)
    weights = {"embeddings.tok_embeddings": words}
    for layer in range(config["num_hidden_layers"]):
        sizes = {"attn.Wqkv": (3 * hidden, hidden), "attn.Wo": (hidden, hidden)}
        sizes |= {"mlp.Wi": (2 * inner, hidden), "mlp.Wo": (hidden, inner)}
        weights |= {f"layers.{layer}.{name}": numbers.normal(0, 0.1, size) for name, size in sizes.items()}
    norms = ["embeddings.norm", "layers.0.mlp_norm", "layers.1.attn_norm", "layers.1.mlp_norm", "final_norm"]
    weights |= {name: np.ones(hidden) for name in norms}
    return {f"model.{name}.weight": values.astype(np.float32) for name, values in weights.items()}


@pytest.mark.parametrize(
    ("model_type", "tokenizer", "marking"),
    [
        ("roberta", "roberta", "typed"),
        ("xlm-roberta", "unigram", "levitated"),
        ("electra", "modernbert", "typed"),
        ("modernbert", "modernbert", "typed"),
        ("modernbert", "modernbert", "levitated"),
    ],
)
def test_from_an_encoder_to_a_saved_model(model_type: str, tokenizer: str, marking: str, tmp_path: Path) -> None:
    encoder = biorel.load_encoder(write(tmp_path / "encoder", model_type, tokenizer))
    assert encoder.casing == "cased"
    corpus = biorel.load_sample("ddi")
    head = "entity-attention" if marking == "levitated" else "attention"
    settings = {"max_length": 120, "max_steps": 3, "marking": marking, "progress": False}
    run = biorel.finetune(corpus, encoder, head=head, too_long="drop", **settings)
    attention = run.attention()
    assert np.allclose(attention.groupby("instance")["weight"].sum(), 1, atol=1e-5)
    assert not attention["word"].str.contains(r"\s|Ġ|▁").any()
    run.model.save(tmp_path / "model")
    pd.testing.assert_frame_equal(biorel.load(tmp_path / "model").evaluate(corpus), run.scores)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    names = {"roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel", "electra": "ElectraModel"}
    name = names.get(model_type, "ModernBertModel")
    assert (config["model_type"], config["architectures"]) == (model_type, [name])
    assert not (tmp_path / "model" / "vocab.txt").exists()


def test_positions_of_roberta_follow_those_of_padding(tmp_path: Path) -> None:
    encoder = biorel.load_encoder(write(tmp_path / "encoder", "roberta", "roberta"))
    assert encoder.encode([" ".join(["a"] * (LONGEST - 2))])[0].shape == (LONGEST, 32)
    with pytest.raises(biorel.ConfigError, match=f"has {LONGEST + 1} pieces.*this encoder takes {LONGEST}"):
        encoder.encode([" ".join(["a"] * (LONGEST - 1))])


def test_texts_of_more_than_512_pieces(tmp_path: Path) -> None:
    encoder = biorel.load_encoder(write(tmp_path / "encoder", "modernbert", "modernbert"))
    text = " ".join(["binds"] * 1_000)
    pieces = len(encoder.tokenize(text)) + 2
    assert pieces > 1_024
    with pytest.raises(biorel.ConfigError, match=f"has {pieces} pieces.*this encoder takes 1024"):
        encoder.encode([text])
    [states] = encoder.encode([text[:1_500]])
    assert len(states) > 512
    assert np.isfinite(states).all()
    corpus = biorel.load_sample("ddi")
    run = biorel.finetune(corpus, encoder, head="cls", max_length=1_000, max_steps=1, progress=False)
    assert run.settings["max_length"] == 1_000
    with pytest.raises(biorel.ConfigError, match="max_length: 2000 is too long for this encoder; its limit is 1024"):
        biorel.finetune(corpus, encoder, max_length=2_000, max_steps=1, progress=False)
    adapted = biorel.adapt(encoder, [text], held_out=0, max_length=1_000, max_steps=1, progress=False)
    assert (adapted.parts, adapted.pieces) == (4, pieces + 3 * 2)


def test_words_of_every_tokenizer_are_the_same(tmp_path: Path) -> None:
    text = "IL-2  binds the β-catenin, p53."
    for model_type, tokenizer in (("roberta", "roberta"), ("electra", "modernbert"), ("xlm-roberta", "unigram")):
        pieces = biorel.load_encoder(write(tmp_path / tokenizer, model_type, tokenizer)).tokenize(text)
        spans = pieces[pieces["start"] < pieces["end"]].groupby("word").agg({"start": "min", "end": "max"})
        words = [text[start:end] for start, end in zip(spans["start"], spans["end"], strict=True)]
        expected = ["IL", "-", "2", "binds", "the", "β", "-", "catenin", ",", "p53", "."]
        joined = ["IL", "-2", *expected[3:]]  # the unigram model has a piece that reaches over two words
        assert words == (joined if tokenizer == "unigram" else expected)
