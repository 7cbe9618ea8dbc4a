"""Scores of other programs' predictions, and embeddings for other programs."""

from __future__ import annotations

import biorel
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_fscore_support


@pytest.mark.parametrize("task", ["aimed", "ddi", "chemprot"])
def test_scores_of_any_predictions_equal_scikit_learns(task: str) -> None:
    corpus = biorel.load_sample(task)
    rng = np.random.default_rng(1)
    gold, predicted = rng.choice(corpus.labels, (2, 300))
    scores = biorel.score(gold, predicted, task=task, name="theirs")
    positive = [label for label in corpus.labels if label != corpus.negative]
    expected = precision_recall_fscore_support(gold, predicted, labels=positive, average="micro", zero_division=0)
    rows = scores.set_index("class")
    row = rows.loc["micro" if "micro" in rows.index else positive[0]]
    assert row[["precision", "recall", "f1"]].tolist() == pytest.approx(expected[:3])
    assert "theirs, 300 pairs" in scores.protocol


def test_scores_of_a_run_are_those_of_its_predictions(run: biorel.Run) -> None:
    table = run.predictions()
    for task in ("ddi", run.corpus, run.model):
        again = biorel.score(table["gold"], table["predicted"], task=task, name="test")
        assert again.equals(run.scores)
        assert again.protocol == run.scores.protocol


def test_a_missing_prediction_is_a_miss() -> None:
    for missing in (None, float("nan")):
        scores = biorel.score(["effect", "effect"], ["effect", missing], task="ddi").set_index("class")
        assert scores.loc["effect", ["precision", "recall", "support"]].tolist() == [1.0, 0.5, 2]


@pytest.mark.parametrize(
    ("gold", "predicted", "task", "words"),
    [
        (["effect"], [], "ddi", "predicted: has 0 labels, but gold has 1"),
        (
            ["effect", "Effect"],
            ["effect", "int"],
            "ddi",
            "gold: row 1: `Effect` is not a label; choose from false,",
        ),
        (["effect"], ["none"], "ddi", "predicted: row 0: `none` is not a label"),
        ([None], ["int"], "ddi", "gold: row 0: `None` is not a label"),
        (["effect"], ["effect"], "ppi", "task: `ppi` is not one of aimed, ddi, chemprot"),
    ],
)
def test_errors_name_the_row(gold: list[str], predicted: list[str], task: str, words: str) -> None:
    with pytest.raises(biorel.ConfigError) as error:
        biorel.score(gold, predicted, task=task)  # type: ignore[arg-type]
    assert words in str(error.value)


def test_embeddings_pool_the_states(encoder: biorel.Encoder) -> None:
    texts = ["binds", "a drug increases the effect"]
    states = encoder.encode(texts)
    expected = {"mean": lambda one: one.mean(axis=0), "cls": lambda one: one[0], "max": lambda one: one.max(axis=0)}
    for pooling, pool in expected.items():
        vectors = encoder.embed(texts, pooling=pooling)  # type: ignore[arg-type]
        assert vectors.dtype == np.float32
        assert np.array_equal(vectors, np.stack([pool(one) for one in states]))
    assert encoder.embed([]).shape == (0, encoder.config["hidden_size"])
    with pytest.raises(biorel.ConfigError, match="pooling: must be mean, cls or max, not 'sum'"):
        encoder.embed(texts, pooling="sum")  # type: ignore[arg-type]


def test_embeddings_are_features_for_scikit_learn(encoder: biorel.Encoder) -> None:
    pairs = biorel.load_sample("ddi").instances("train").head(60)
    features = encoder.embed(pairs["text"].str.slice(0, 60).tolist())
    classifier = LogisticRegression(max_iter=1000).fit(features, pairs["label"])
    assert classifier.predict(features).shape == (60,)
