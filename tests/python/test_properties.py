"""Properties for any text, corpus and predictions: offsets, words, folds, scores."""

from __future__ import annotations

from typing import Any

import biorel
import numpy as np
import pandas as pd
import pytest
from biorel.evaluation.scores import score_predictions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

few = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
# Any character except surrogates; often those that tokenizers treat specially.
TEXT = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("aé\u0301ß中@$[]-. \u200b\n")), max_size=60
)


@st.composite
def sentences(draw: Any) -> dict[str, Any]:
    text = draw(TEXT.filter(bool))
    entities = []
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text) - 1))
        entities.append({"start": start, "end": draw(st.integers(start + 1, len(text))), "type": "drug"})
    return {"text": text, "entities": entities}


@few
@given(batch=st.lists(sentences(), max_size=5))
def test_every_pair_keeps_its_offsets(run: biorel.Run, batch: list[dict[str, Any]]) -> None:
    table = run.model.predict(batch)
    assert len(table) == sum(len(s["entities"]) * (len(s["entities"]) - 1) // 2 for s in batch)
    for row in table.itertuples():
        text = batch[int(row.sentence.removeprefix("s"))]["text"]
        assert text[row.start1 : row.end1] == row.entity1
        assert text[row.start2 : row.end2] == row.entity2
    scored = table[table["relation"].notna()]
    probabilities = scored[[f"p_{label}" for label in run.model.labels]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@few
@given(text=TEXT)
def test_pieces_are_in_text_order(encoder: biorel.Encoder, text: str) -> None:
    table = encoder.tokenize(text)
    assert ((table["start"] <= table["end"]) & (table["end"] <= len(text))).all()
    assert table["end"].is_monotonic_increasing
    steps = table["word"].diff().dropna()
    assert steps.isin([0, 1]).all()
    assert not len(table) or table["word"].iloc[0] == 0


@pytest.mark.filterwarnings("ignore:folds by instance leak")
@settings(few, max_examples=12)
@given(folds=st.integers(2, 20), seed=st.integers(0, 2**32), by=st.sampled_from(["document", "instance"]))
def test_folds_test_every_instance_once(folds: int, seed: int, by: Any) -> None:
    corpus = biorel.load_sample("aimed")
    everything = [i for split in corpus.splits for i in corpus.instances(split)["id"]]
    tested = []
    for number in range(folds):
        part = corpus.fold(number, folds=folds, by=by, seed=seed)
        train, test = part.instances("train"), part.instances("test")
        assert not set(train["id"]) & set(test["id"])
        assert len(train) + len(test) == len(everything)
        if by == "document":
            assert not set(train["document"]) & set(test["document"])
        tested += test["id"].tolist()
    assert sorted(tested) == sorted(everything)


@few
@given(decisions=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_scores_match_scikit_learn(ddi: biorel.Corpus, decisions: list[tuple[int, int]]) -> None:
    labels = ddi.labels
    table = pd.DataFrame([(labels[g], labels[p]) for g, p in decisions], columns=["gold", "predicted"])
    scores = score_predictions(table, ddi, "test", lost=[0] * len(labels)).set_index("class")
    positive = [label for label in labels if label != ddi.negative]
    wanted = precision_recall_fscore_support(
        table["gold"], table["predicted"], labels=positive, average="micro", zero_division=0
    )
    found = scores.loc["micro", ["precision", "recall", "f1"]].astype(float).fillna(0)
    np.testing.assert_allclose(found, wanted[:3], atol=1e-12)
    each = precision_recall_fscore_support(table["gold"], table["predicted"], labels=labels, zero_division=0)
    for index, label in enumerate(labels):
        assert scores.loc[label, "support"] == each[3][index]
        assert float(scores.loc[label, "f1"]) == pytest.approx(each[2][index], abs=1e-12)
