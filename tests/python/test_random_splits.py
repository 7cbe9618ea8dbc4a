"""Splits by fraction, and training data held out for evaluation."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest
from biorel.cli.main import main
from tiny_bert import write_encoder


def test_splits_by_fraction() -> None:
    corpus = biorel.load_sample("aimed")
    split = corpus.split(0.25, dev=0.1, seed=3)
    documents = [set(split.sentences(name)["document"]) for name in split.splits]
    assert split.splits == ["train", "dev", "test"]
    assert sum(map(len, documents)) == len(set.union(*documents)) == 24
    pairs = split.statistics().set_index("split")["pairs"]
    assert pairs.sum() == 302
    assert abs(pairs["test"] - 0.25 * 302) < 15
    assert abs(pairs["dev"] - 0.1 * 302) < 15
    for name in split.splits:
        pd.testing.assert_frame_equal(corpus.split(0.25, dev=0.1, seed=3).instances(name), split.instances(name))
    assert set(corpus.split(0.25, dev=0.1, seed=4).sentences("test")["document"]) != documents[2]
    assert corpus.split(0.0, dev=0.3).splits == ["train", "dev"]
    with pytest.warns(UserWarning, match=r"splits by instance leak: \d+ sentences are in both train and test"):
        by_instance = corpus.split(0.5, by="instance")
    assert by_instance.statistics()["pairs"].tolist() == [151, 151]
    for options, words in (
        ({"test": 1.0}, "test: must be a fraction"),
        ({"test": 0.0}, "test: test \\+ dev must be more than 0"),
        ({"test": 0.6, "dev": 0.4}, "test: test \\+ dev"),
        ({"test": "0.2"}, "test: must be a fraction from 0 to less than 1, not '0.2'"),
        ({"seed": -1}, "seed: must be a whole number from 0, not -1"),
        ({"seed": 1.5}, "seed: must be a whole number from 0, not 1.5"),
        ({"test": 0.0001}, "part `test` gets no candidate pair"),
        ({"by": "given"}, "by: choose document or instance"),
    ):
        with pytest.raises(biorel.ConfigError, match=words):
            corpus.split(**options)  # type: ignore[arg-type]


def test_lost_positives_stay_with_their_documents() -> None:
    """Of documents that are divided at random, each lost positive is counted once, in the split of its document."""
    text = pd.DataFrame({"document": [f"d{n}" for n in range(12)], "text": "Aaa hurts bbb. Ccc is well."})
    tables = []
    for columns in (
        {"start": [0, 10, 15], "end": [3, 13, 18], "type": "drug", "id": ["A", "B", "C"]},
        {"entity1": ["A", "A"], "entity2": ["B", "C"], "label": ["effect", "advise"]},
    ):
        tables.append(pd.concat([pd.DataFrame(columns).assign(document=name) for name in text["document"]]))
    corpus = biorel.load_corpus("documents", biorel.documents_from_tables(text, *tables))
    for by in ("document", "instance"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = corpus.split(0.25, by=by).statistics()  # type: ignore[arg-type]
        assert table["lost"].tolist() == [9, 3]
        assert table["effect"].tolist() == [9, 3]


def test_a_fraction_of_the_training_split_is_held_out(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    settings: dict[str, Any] = {"max_steps": 2, "eval_steps": 1, "max_length": 96, "progress": False}
    runs = [biorel.finetune(ddi, encoder, dev=0.2, seed=seed, **settings) for seed in (1, 2)]
    assert runs[0].corpus.splits == ["train", "dev", "test"]
    assert runs[0].settings["dev"] == 0.2
    assert len(runs[0].evaluations) == 2
    held_out, same = (set(run.corpus.sentences("dev")["document"]) for run in runs)
    assert held_out == same
    assert not held_out & set(runs[0].corpus.sentences("train")["document"])
    pd.testing.assert_frame_equal(runs[0].corpus.instances("test"), ddi.instances("test"))
    for dev, words in ((1.5, "dev: must be a fraction between 0 and 1"), (0.0, "dev: must be a fraction")):
        with pytest.raises(biorel.ConfigError, match=words):
            biorel.finetune(ddi, encoder, dev=dev, **settings)
    with pytest.raises(biorel.ConfigError, match='write dev="dev"'):
        biorel.finetune(runs[0].corpus, encoder, dev=0.2, **settings)
    with pytest.raises(biorel.ConfigError, match="`train` names several"):
        biorel.finetune(ddi, encoder, train=["train", "test"], test=None, dev=0.2, **settings)


def test_fractions_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    options = [
        "--encoder",
        str(encoder),
        "--max-length",
        "96",
        "--max-steps",
        "1",
        "--no-progress",
        "--eval-steps",
        "1",
    ]
    options += ["--no-progress", "--format", "csv", "--output", str(tmp_path / "model")]
    sample = ["finetune", "aimed", str(biorel.sample_path("aimed")), *options]
    (tmp_path / "run.toml").write_text("dev = 0.2")
    for dev in (["--dev", "0.2"], ["--config", str(tmp_path / "run.toml")]):
        evaluations = tmp_path / "evaluations.csv"
        assert main([*sample, *dev, "--test-fraction", "0.3", "--evaluations", str(evaluations)]) == 0
        assert len(pd.read_csv(evaluations)) == 1
        assert "F1 of the positive class" in capsys.readouterr().err
    assert main([*sample, "--test-fraction", "0.3", "--fold", "1"]) == 1
    assert "--fold" in capsys.readouterr().err
