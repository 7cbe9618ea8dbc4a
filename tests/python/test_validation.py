"""Cross-validation, folds and leakage."""

from __future__ import annotations

from pathlib import Path

import biorel
import pandas as pd
import pytest
from biorel.scores import score_predictions


@pytest.fixture(scope="module")
def cv(encoder: biorel.Encoder) -> biorel.CrossValidation:
    """Three folds of the sample, with enough training to make both kinds of mistake."""
    settings = {"max_length": 96, "max_steps": 15, "learning_rate": 3e-3}
    return biorel.cross_validate(biorel.load_sample("aimed"), encoder, folds=3, progress=False, **settings)


def test_every_pair_is_predicted_once(cv: biorel.CrossValidation) -> None:
    whole = cv.corpus.instances("all")
    assert sorted(cv.predictions["id"]) == sorted(whole["id"])
    assert cv.folds["pairs"].sum() == len(whole) == 302
    assert cv.folds["positives"].sum() == (whole["label"] == "positive").sum()
    assert cv.predictions.groupby("document")["fold"].nunique().eq(1).all()


def test_mean_and_pooled_scores(cv: biorel.CrossValidation) -> None:
    table = cv.scores.set_index("over")
    assert table.loc["mean", "f1"] == pytest.approx(cv.folds["f1"].mean())
    assert table.loc["sd", "recall"] == pytest.approx(cv.folds["recall"].std())
    pooled = score_predictions(cv.predictions, cv.corpus, "all").set_index("class")
    assert table.loc["pooled", "f1"] == pooled.loc["binary", "f1"]
    assert cv.scores.protocol == "F1 of the positive class `positive`, 3 folds by document, 302 pairs"
    assert "3 folds by document" in repr(cv)


def test_a_fold_is_what_finetune_gives(cv: biorel.CrossValidation, encoder: biorel.Encoder) -> None:
    held = cv.corpus.fold(0, folds=3)
    settings = {"max_length": 96, "max_steps": 15, "learning_rate": 3e-3}
    expected = biorel.finetune(held, encoder, progress=False, **settings).predictions()  # type: ignore[arg-type]
    got = cv.predictions.query("fold == 0").drop(columns="fold").reset_index(drop=True)
    pd.testing.assert_frame_equal(got, expected)


def test_folds_by_instance_warn_of_the_leak(encoder: biorel.Encoder) -> None:
    corpus = biorel.load_sample("aimed")
    with pytest.warns(UserWarning, match="sentences stand in train and in test") as warned:
        cv = biorel.cross_validate(corpus, encoder, folds=3, by="instance", max_length=96, max_steps=1, progress=False)
    assert len(warned) == 1
    assert sorted(cv.predictions["id"]) == sorted(corpus.instances("all")["id"])
    with pytest.warns(UserWarning, match="leak"):
        held = corpus.fold(0, folds=3, by="instance")
    assert set(held.leakage()["kind"]) >= {"document", "sentence"}


def test_folds_by_document_share_none() -> None:
    for index in range(3):
        assert "document" not in set(biorel.load_sample("aimed").fold(index, folds=3).leakage()["kind"])


def test_what_a_cross_validation_refuses(encoder: biorel.Encoder) -> None:
    corpus = biorel.load_sample("aimed")
    for setting, value in {"train": "all", "test": "all", "state": "x"}.items():
        with pytest.raises(biorel.ConfigError, match=setting):
            biorel.cross_validate(corpus, encoder, **{setting: value})
    with pytest.raises(biorel.ConfigError, match="folds"):
        biorel.cross_validate(corpus, encoder, folds=1)
    with pytest.raises(biorel.ConfigError, match="document, instance"):
        biorel.cross_validate(corpus, encoder, by="sentence")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="learning_rat"):
        biorel.cross_validate(corpus, encoder, folds=2, learning_rat=1)


def test_published_folds(corpora: Path, encoder: biorel.Encoder) -> None:
    aimed = biorel.load_corpus("aimed", corpora / "aimed" / "aimed_pairs.tsv")
    positives = [105, 97, 102, 102, 89, 124, 151, 102, 59, 69]
    negatives = [516, 449, 491, 485, 434, 475, 454, 614, 432, 484]
    for index in range(10):
        test = aimed.fold(index).statistics().set_index("split").loc["test"]
        assert (test["positive"], test["negative"]) == (positives[index], negatives[index])
