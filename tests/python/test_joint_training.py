"""Several corpora trained together: one encoder and head, a classifier and a model for each."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import biorel
import numpy as np
import pandas as pd
import pytest

FEW: dict[str, Any] = {"max_length": 96, "max_steps": 4, "learning_rate": 1e-3, "batch_size": 8, "progress": False}
FORMS = [
    {"head": "attention", "marking": "typed"},
    {"head": "entity-attention", "marking": "levitated"},
    {"head": "entity", "marking": "levitated-visible"},
]


@pytest.fixture(scope="module")
def corpora() -> dict[str, biorel.Corpus]:
    return {name: biorel.load_sample(name) for name in ("ddi", "chemprot")}


@pytest.fixture(scope="module")
def joint(corpora: dict[str, biorel.Corpus], encoder: biorel.Encoder) -> Any:
    return biorel.finetune(corpora, encoder, **FEW, head="entity-attention", marking="levitated")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form["marking"])
def test_one_corpus_has_the_bits_of_an_ordinary_run(
    form: dict[str, Any], corpora: dict[str, biorel.Corpus], encoder: biorel.Encoder
) -> None:
    alone = biorel.finetune(corpora["ddi"], encoder, **FEW, **form)
    joint: Any = biorel.finetune([corpora["ddi"]], encoder, **FEW, **form)
    assert list(joint) == ["ddi"]
    assert joint.history["loss"].tolist() == alone.history["loss"].tolist()
    pd.testing.assert_frame_equal(joint["ddi"].predictions(), alone.predictions())


def test_each_corpus_has_a_run(joint: Any, corpora: dict[str, biorel.Corpus]) -> None:
    assert isinstance(joint, biorel.JointRun)
    assert list(joint) == list(joint.models) == ["ddi", "chemprot"]
    for name, corpus in corpora.items():
        assert joint[name].model.labels == corpus.labels
        assert joint[name].counts["trained"] == len(corpus.instances("train"))
        assert len(joint[name].predictions()) == len(corpus.instances("test"))
        own = joint.scores[joint.scores["corpus"] == name].drop(columns="corpus").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, pd.DataFrame(joint[name].scores), check_names=False)
    assert len(joint.history) == 4
    assert not joint.interrupted
    assert "ddi: Run(" in repr(joint)
    with pytest.raises(KeyError, match="'aimed' is not one of ddi, chemprot"):
        joint["aimed"]


def test_the_models_share_an_encoder(joint: Any, tmp_path: Path) -> None:
    joint.save(tmp_path / "models")
    states = []
    for name in joint:
        encoder = biorel.load_encoder(tmp_path / "models" / name)
        states.append(encoder.encode(["Tamoquidol increases the plasma concentration of brelozine."])[0])
    assert np.array_equal(states[0], states[1])


def test_saved_models_are_ordinary_models(joint: Any, tmp_path: Path) -> None:
    joint.save(tmp_path / "models")
    for name, run in joint.items():
        model = biorel.load(tmp_path / "models" / name)
        found = model.predictions(run.corpus, "test", progress=False)
        pd.testing.assert_frame_equal(found, run.predictions())


def test_the_same_seed_gives_the_same_bits(
    joint: Any, corpora: dict[str, biorel.Corpus], encoder: biorel.Encoder
) -> None:
    again: Any = biorel.finetune(corpora, encoder, **FEW, head="entity-attention", marking="levitated")
    assert again.history["loss"].tolist() == joint.history["loss"].tolist()


def test_small_corpora_are_repeated(corpora: dict[str, biorel.Corpus], encoder: biorel.Encoder) -> None:
    settings = {**FEW, "max_steps": None, "epochs": 1, "batch_size": 64}
    small = corpora["chemprot"]
    few = small.divide({"train": list(dict.fromkeys(small.instances("train")["document"]))[:3]})
    counts = [len(corpora["ddi"].instances("train")), len(few.instances("train"))]
    assert counts[1] < counts[0] / 4
    for temperature in (1.0, 2.0):
        joint: Any = biorel.finetune({"a": corpora["ddi"], "b": few}, encoder, temperature=temperature, **settings)
        repeats = math.sqrt(counts[0] / counts[1]) if temperature == 2.0 else 1.0
        assert joint.history["instances"].sum() == pytest.approx(counts[0] + repeats * counts[1], abs=1)
        assert joint["b"].counts["trained"] == counts[1]


def test_a_killed_run_resumes(corpora: dict[str, biorel.Corpus], encoder: biorel.Encoder, tmp_path: Path) -> None:
    class Stop(biorel.Callback):
        def on_step(self, row: Any) -> None:
            if row["step"] == 2:
                raise RuntimeError("stopped")

    whole: Any = biorel.finetune(corpora, encoder, **FEW)
    checkpoint = tmp_path / "run.checkpoint"
    with pytest.raises(RuntimeError, match="stopped"):
        biorel.finetune(corpora, encoder, **FEW, checkpoint=checkpoint, save_steps=1, callbacks=[Stop()])
    resumed: Any = biorel.finetune(corpora, encoder, **FEW, checkpoint=checkpoint)
    assert resumed.history["loss"].tolist() == whole.history["loss"].tolist()
    for name in corpora:
        columns = [column for column in whole[name].predictions() if column.startswith("p_")]
        assert np.array_equal(resumed[name].predictions()[columns], whole[name].predictions()[columns])


def test_what_does_not_fit_is_an_error(corpora: dict[str, biorel.Corpus], encoder: biorel.Encoder) -> None:
    both = list(corpora.values())
    wrong: dict[str, dict[str, Any]] = {
        "dev: applies to one corpus": {"dev": 0.1},
        "class_weights: applies to one corpus": {"class_weights": "balanced"},
        "temperature: must be at least 1, not 0.5": {"temperature": 0.5},
        "head: `attention` reads the text alone": {"marking": "levitated"},
    }
    for message, setting in wrong.items():
        with pytest.raises(biorel.ConfigError, match=message):
            biorel.finetune(both, encoder, **FEW, **setting)
    with pytest.raises(biorel.ConfigError, match="temperature: applies to several corpora"):
        biorel.finetune(both[0], encoder, **FEW, temperature=2.0)
    with pytest.raises(biorel.ConfigError, match="two are called `ddi`; give names"):
        biorel.finetune([both[0], both[0]], encoder, **FEW)
    with pytest.raises(biorel.ConfigError, match="there is no corpus"):
        biorel.finetune([], encoder, **FEW)
    text: Any = "corpus.tsv"
    with pytest.raises(TypeError, match="load_corpus"):
        biorel.finetune([text], encoder, **FEW)
