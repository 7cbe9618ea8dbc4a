"""Heads on frozen encoders: those that candle-transformers computes, and ``freeze="all"``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import biorel
import numpy as np
import pandas as pd
import pytest
from biorel.cli.main import main
from tiny_bert import HEADS, HIDDEN, INNER, LAYERS, tensors, vocabulary, write_safetensors

LONGEST = 160
SIZES = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER}
DEBERTA = {"relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True}
DEBERTA |= {"pos_att_type": "p2c|c2p", "position_biased_input": False, "type_vocab_size": 0}


def unigram() -> dict[str, Any]:
    """A tokenizer in the form in which transformers writes DeBERTa's."""
    characters = sorted({piece.removeprefix("##") for piece in vocabulary()[5:] if len(piece.removeprefix("##")) == 1})
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    scores = {"▁": -2.0} | dict.fromkeys(characters, -6.0) | {f"▁{word}": -4.0 for word in ("the", "drug", "with")}
    pieces = [[piece, 0.0] for piece in special] + [list(entry) for entry in scores.items()]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    steps = [
        {"type": "Replace", "pattern": {"Regex": "\\s{2,}|[\\n\\r\\t]"}, "content": " "},
        {"type": "NFC"},
        {"type": "Strip", "strip_left": False, "strip_right": True},
    ]
    added = [(number, token) for number, token in enumerate(special)] + [(len(pieces), "[MASK]")]
    return {
        "version": "1.0",
        "added_tokens": [{"id": number, "content": token, "special": True} | flags for number, token in added],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [metaspace]},
        "model": {"type": "Unigram", "unk_id": 3, "vocab": pieces, "byte_fallback": False},
    }


def weights(model_type: str, rows: int) -> dict[str, np.ndarray]:
    """Random weights: those of a tiny BERT under other names, and what BERT has not."""
    found = tensors(rows, positions=LONGEST)
    if model_type == "nomic_bert":
        numbers = np.random.default_rng(1)
        renamed = {"embeddings.LayerNorm": "emb_ln", "attention.output.LayerNorm": "norm1", "output.LayerNorm": "norm2"}
        kept = {}
        for name, values in found.items():
            for old, new in renamed.items():
                if old in name:
                    kept[name.replace(old, new).replace("encoder.layer.", "encoder.layers.")] = values
                    break
        kept |= {name: found[name] for name in found if "word_embeddings" in name or "token_type" in name}
        shapes = {"attn.Wqkv": (3 * HIDDEN, HIDDEN), "attn.out_proj": (HIDDEN, HIDDEN)}
        shapes |= {"mlp.fc11": (INNER, HIDDEN), "mlp.fc12": (INNER, HIDDEN), "mlp.fc2": (HIDDEN, INNER)}
        for layer in range(LAYERS):
            for name, shape in shapes.items():
                values = 0.1 * numbers.standard_normal(shape).astype(np.float32)
                kept[f"encoder.layers.{layer}.{name}.weight"] = values
        return kept
    names = {
        "deberta-v2": {"self.query": "self.query_proj", "self.key": "self.key_proj", "self.value": "self.value_proj"},
        "distilbert": {
            "encoder.layer": "transformer.layer",
            "attention.self.query": "attention.q_lin",
            "attention.self.key": "attention.k_lin",
            "attention.self.value": "attention.v_lin",
            "attention.output.dense": "attention.out_lin",
            "attention.output.LayerNorm": "sa_layer_norm",
            "intermediate.dense": "ffn.lin1",
            "output.dense": "ffn.lin2",
            "output.LayerNorm": "output_layer_norm",
        },
    }[model_type]
    dropped = ["token_type"] + (["position_embeddings"] if model_type == "deberta-v2" else [])
    kept = {}
    for name, values in found.items():
        new = name
        for old, replacement in names.items():
            new = new.replace(old, replacement)
        if not any(part in name for part in dropped):
            kept[new] = values
    if model_type == "deberta-v2":
        kept["encoder.rel_embeddings.weight"] = 0.1 * np.ones((16, HIDDEN), np.float32)
        kept["encoder.LayerNorm.weight"], kept["encoder.LayerNorm.bias"] = np.ones(HIDDEN), np.zeros(HIDDEN)
    return {name: values.astype(np.float32) for name, values in kept.items()}


def write(folder: Path, model_type: str) -> Path:
    """A tiny encoder with random weights; DeBERTa with a unigram tokenizer, the others with WordPiece."""
    folder.mkdir()
    pieces = vocabulary()
    if model_type == "deberta-v2":
        description = unigram()
        (folder / "tokenizer.json").write_text(json.dumps(description))
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "DebertaV2Tokenizer"}))
        rows = len(description["model"]["vocab"]) + 10
    else:
        (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
        rows = len(pieces)
    common = {"model_type": model_type, "vocab_size": rows, "max_position_embeddings": LONGEST}
    distil = {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER}
    nomic = {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "n_inner": INNER, "n_positions": LONGEST}
    own = {"deberta-v2": SIZES | DEBERTA, "distilbert": distil, "nomic_bert": nomic}[model_type]
    (folder / "config.json").write_text(json.dumps(common | own))
    write_safetensors(folder / "model.safetensors", weights(model_type, rows))
    return folder


@pytest.mark.parametrize("model_type", ["deberta-v2", "nomic_bert"])
def test_from_a_frozen_encoder_to_a_saved_model(model_type: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "encoder", model_type)
    encoder = biorel.load_encoder(folder)
    corpus = biorel.load_sample("ddi")
    texts = corpus.instances("test")["text"].tolist()[:20]
    together = encoder.encode(texts)
    for text, states in zip(texts, together, strict=True):
        assert states.shape == (len(encoder.tokenize(text)) + 2, HIDDEN)
        [alone] = encoder.encode([text])
        assert np.abs(alone - states).max() <= 1e-5
    settings: dict[str, Any] = {"max_length": 150, "too_long": "drop", "progress": False}
    with pytest.raises(biorel.ConfigError, match=rf'freeze: .*`{model_type}`.*cannot be trained; freeze="all" trains'):
        biorel.finetune(corpus, folder, max_steps=1, **settings)
    with pytest.raises(biorel.ConfigError, match=rf"marking: levitated.*`{model_type}`"):
        biorel.finetune(corpus, folder, freeze="all", head="entity", marking="levitated", **settings)
    with pytest.raises(
        biorel.ConfigError, match=f"max_length: 161 is too long for this encoder; its limit is {LONGEST}"
    ):
        biorel.finetune(corpus, folder, freeze="all", max_length=161, progress=False)
    run = biorel.finetune(corpus, folder, freeze="all", learning_rate=1e-2, epochs=3, **settings)
    assert run.settings["freeze"] == "all"
    losses = run.history["loss"]
    assert losses.iloc[-5:].mean() < losses.iloc[:5].mean()
    assert np.allclose(run.attention().groupby("instance")["weight"].sum(), 1, atol=1e-5)
    with pytest.raises(biorel.ConfigError, match=f"`{model_type}` is computed by candle-transformers"):
        run.model.attention(corpus, kind="gradient")
    run.model.save(tmp_path / "model")
    model = biorel.load(tmp_path / "model")
    pd.testing.assert_frame_equal(model.evaluate(corpus), run.scores)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == model_type
    # The saved model is an encoder too.
    for states, again in zip(together, biorel.load_encoder(tmp_path / "model").encode(texts), strict=True):
        assert np.array_equal(states, again)
    with pytest.raises(biorel.ConfigError, match=rf"masked language model of `{model_type}` is not supported"):
        biorel.adapt(encoder, texts, progress=False)


def test_streams_and_comparisons(tmp_path: Path) -> None:
    folder = write(tmp_path / "encoder", "deberta-v2")
    corpus = biorel.load_sample("ddi")
    settings: dict[str, Any] = {"max_length": 150, "max_steps": 2, "freeze": "all", "progress": False}
    heads = ["cls", "lstm-all-cls", "entity-attention"]
    comparison = biorel.compare(corpus, directory=tmp_path / "runs", encoders=[folder], heads=heads, **settings)
    assert set(comparison.results["head"]) == set(heads)
    model = biorel.finetune(corpus, folder, **settings).model
    text = "Aspirin increases the effect of warfarin."
    entities = [{"start": 0, "end": 7, "type": "drug"}, {"start": 32, "end": 40, "type": "drug"}]
    [row] = model.predict([{"text": text, "entities": entities}]).to_dict("records")
    path = tmp_path / "documents.pubtator"
    path.write_text(f"1|t|{text}\n1|a|\n1\t0\t7\tAspirin\tdrug\n1\t32\t40\twarfarin\tdrug\n\n")
    [streamed] = biorel.predict_documents(model, path, progress=False).to_dict("records")
    assert streamed["relation"] == row["relation"]


def test_a_distilbert_is_trained(tmp_path: Path) -> None:
    encoder = biorel.load_encoder(write(tmp_path / "encoder", "distilbert"))
    corpus = biorel.load_sample("ddi")
    run = biorel.finetune(corpus, encoder, max_steps=3, progress=False)
    run.model.save(tmp_path / "model")
    pd.testing.assert_frame_equal(biorel.load(tmp_path / "model").evaluate(corpus), run.scores)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("distilbert", ["DistilBertModel"])
    text = corpus.instances("train")["text"].iloc[0]
    before, after = encoder.encode([text]), biorel.load_encoder(tmp_path / "model").encode([text])
    assert not np.array_equal(before[0], after[0])


def test_a_head_alone_on_an_encoder_that_could_be_trained(encoder: biorel.Encoder, tmp_path: Path) -> None:
    corpus = biorel.load_sample("ddi")
    settings: dict[str, Any] = {
        "max_steps": 6,
        "dropout": 0.0,
        "learning_rate": 1e-2,
        "precision": "f32",
        "max_length": 90,
    }
    frozen = biorel.finetune(corpus, encoder, freeze="all", progress=False, **settings)
    by_number = biorel.finetune(corpus, encoder, freeze=LAYERS, progress=False, **settings)
    np.testing.assert_allclose(frozen.history["loss"], by_number.history["loss"], atol=1e-5)
    frozen.model.save(tmp_path / "model")
    text = corpus.instances("train")["text"].iloc[0]
    [before], [after] = encoder.encode([text]), biorel.load_encoder(tmp_path / "model").encode([text])
    assert np.array_equal(before, after)


@pytest.mark.parametrize("value", ["some", 1.5, -1])
def test_values_of_freeze(value: object, encoder: biorel.Encoder) -> None:
    with pytest.raises(biorel.ConfigError, match='freeze: must be "all" or a number of layers, not'):
        biorel.finetune(biorel.load_sample("ddi"), encoder, freeze=value, progress=False)  # type: ignore[arg-type]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "encoder", "nomic_bert")
    sample = [
        "finetune",
        "ddi",
        str(biorel.sample_path("ddi")),
        "--encoder",
        str(folder),
        "--max-steps",
        "1",
        "--no-progress",
    ]
    output = ["--output", str(tmp_path / "model")]
    assert main([*sample, "--freeze", "2", *output]) != 0
    assert 'freeze="all"' in capsys.readouterr().err
    assert main([*sample, "--freeze", "all", *output]) == 0
    (tmp_path / "settings.toml").write_text('freeze = "all"\n')
    again = ["--output", str(tmp_path / "again"), "--config", str(tmp_path / "settings.toml")]
    assert main([*sample, *again]) == 0
    assert (tmp_path / "again" / "biorel.json").is_file()
