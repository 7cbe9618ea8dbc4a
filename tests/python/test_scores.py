"""Scores equal those of scikit-learn, and count lost positives."""

from __future__ import annotations

import biorel
import numpy as np
import pandas as pd
import pytest
from biorel.evaluation.scores import score_predictions
from sklearn.metrics import precision_recall_fscore_support


def table(gold: np.ndarray, predicted: np.ndarray, labels: list[str]) -> pd.DataFrame:
    names = np.array(labels, dtype=object)
    return pd.DataFrame({"gold": names[gold], "predicted": names[predicted]})


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_learn(ddi: biorel.Corpus, seed: int) -> None:
    numbers = np.random.default_rng(seed)
    gold, predicted = numbers.integers(0, 5, 300), numbers.integers(0, 5 - seed % 2, 300)
    scores = score_predictions(table(gold, predicted, ddi.labels), ddi, "test").set_index("class")
    columns = ["precision", "recall", "f1"]
    per_class = precision_recall_fscore_support(gold, predicted, labels=range(5), zero_division=0)
    np.testing.assert_allclose(scores.loc[ddi.labels, columns].to_numpy(), np.array(per_class[:3]).T, atol=1e-12)
    for name, average, labels in [
        ("micro", "micro", range(1, 5)),
        ("macro", "macro", range(1, 5)),
        ("macro, all classes", "macro", range(5)),
    ]:
        expected = precision_recall_fscore_support(gold, predicted, labels=labels, average=average, zero_division=0)
        np.testing.assert_allclose(scores.loc[name, columns].to_numpy(dtype=float), expected[:3], atol=1e-12)
    binary = precision_recall_fscore_support(gold > 0, predicted > 0, average="binary", zero_division=0)
    np.testing.assert_allclose(scores.loc["binary", columns].to_numpy(dtype=float), binary[:3], atol=1e-12)
    assert scores.loc[ddi.labels, "support"].tolist() == np.bincount(gold, minlength=5).tolist()


def test_a_dropped_positive_is_a_miss(ddi: biorel.Corpus) -> None:
    frame = table(np.array([1, 1, 0, 0]), np.array([1, 1, 0, 0]), ddi.labels)
    assert score_predictions(frame, ddi, "test").set_index("class").loc["micro", "recall"] == 1
    frame.loc[[1, 3], "predicted"] = None
    scores = score_predictions(frame, ddi, "test")
    assert scores.set_index("class").loc["micro", "recall"] == 1 / 2
    assert scores.protocol.endswith("2 pairs and 1 gold positives lost before, counted as misses")


def test_a_part_of_the_scores_is_a_plain_frame(run: biorel.Run) -> None:
    assert type(run.scores[["class", "f1"]]) is pd.DataFrame
    assert type(run.scores.round(2)) is pd.DataFrame
