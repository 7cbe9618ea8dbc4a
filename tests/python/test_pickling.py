"""Pickles of corpora, encoders and models."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest


def test_a_corpus_is_pickled_completely(ddi: biorel.Corpus) -> None:
    again = pickle.loads(pickle.dumps(ddi))
    assert again._core.hash == ddi._core.hash
    assert again.name == ddi.name
    assert again.summary == ddi.summary
    for split in ddi.splits:
        pd.testing.assert_frame_equal(again.sentences(split), ddi.sentences(split))
        pd.testing.assert_frame_equal(again.instances(split), ddi.instances(split))
        assert again._core.lost(split) == ddi._core.lost(split)
    pd.testing.assert_frame_equal(again.findings(), ddi.findings())


def test_given_folds_are_pickled() -> None:
    corpus = biorel.load_sample("aimed")
    again = pickle.loads(pickle.dumps(corpus))
    assert again._core.given_folds == corpus._core.given_folds
    assert again.fold(1)._core.hash == corpus.fold(1)._core.hash


def test_an_encoder_is_pickled_with_its_weights(encoder: biorel.Encoder) -> None:
    again = pickle.loads(pickle.dumps(encoder))
    assert again._core.hash == encoder._core.hash
    assert (again.name, again.casing, again.config) == (encoder.name, encoder.casing, encoder.config)
    assert again.tokenize("acetyltransferase")["id"].tolist() == encoder.tokenize("acetyltransferase")["id"].tolist()


def test_a_pickled_model_predicts_the_same(run: biorel.Run, ddi: biorel.Corpus) -> None:
    model = run.model
    expected = model.predictions(ddi)
    again = pickle.loads(pickle.dumps(model))
    assert (again.hash, again.identity, again.card) == (model.hash, model.identity, model.card)
    pd.testing.assert_frame_equal(again.predictions(ddi), expected, check_exact=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pd.testing.assert_frame_equal(pool.apply(model.predictions, (ddi,)), expected, check_exact=True)


def test_a_saved_model_is_the_same_model(run: biorel.Run, tmp_path: Path) -> None:
    run.save(tmp_path / "model")
    assert biorel.load(tmp_path / "model").hash == run.model.hash


def test_an_error_is_pickled_with_its_fields() -> None:
    error = pickle.loads(pickle.dumps(biorel.ConfigError("threads: 0 is out of range", "threads")))
    assert (type(error), str(error), error.field) == (biorel.ConfigError, "threads: 0 is out of range", "threads")


@pytest.mark.parametrize("kind", ["corpus", "encoder", "model"])
def test_another_version_is_refused(kind: str, ddi: biorel.Corpus, run: biorel.Run, encoder: biorel.Encoder) -> None:
    given: Any = {"corpus": ddi, "encoder": encoder, "model": run.model}[kind]
    state = {**given.__getstate__(), "version": "0.0.1"}
    with pytest.raises(biorel.ConfigError, match=r"pickled by biorel 0\.0\.1"):
        type(given).__new__(type(given)).__setstate__(state)


def test_a_corrupt_corpus_is_refused(ddi: biorel.Corpus) -> None:
    content = ddi._core.to_bytes()
    with pytest.raises(biorel.CorpusError, match="was not written by this version"):
        biorel._biorel.Corpus.from_bytes(content[:-10])
    # The content is checked as the readers check it.
    with pytest.raises(biorel.CorpusError, match="outside of the text"):
        biorel._biorel.Corpus.from_bytes(content.replace(b'"end":', b'"end":9'))
