"""Attention by stem."""

from __future__ import annotations

from typing import Any

import biorel
import numpy as np
import pandas as pd
import pytest


def table(rows: list[tuple[str, str, str, float, int, str]]) -> pd.DataFrame:
    """Word weights from (instance, word, stem, weight, distance, gold); the document is the instance's first letter."""
    made = pd.DataFrame(rows, columns=["instance", "word", "stem", "weight", "distance", "gold"])
    made["document"] = made["instance"].str[0]
    made["predicted"] = made["gold"]
    made["is_entity"] = made["distance"] == 0
    made.attrs["negative"] = "false"
    return made


MINIATURE = table(
    [
        ("a1", "Increases", "increas", 0.5, 1, "effect"),
        ("a1", "increased", "increas", 0.1, 3, "effect"),
        ("a1", "drug", "drug", 0.9, 0, "effect"),  # an entity
        ("a1", "increase", "increas", 0.7, 4, "effect"),  # too far away
        ("a1", ",", ",", 0.8, 1, "effect"),  # no word
        ("b1", "increased", "increas", 0.3, 2, "mechanism"),
        ("b1", "of", "of", 0.6, 1, "mechanism"),
        ("b2", "increased", "increas", 0.2, 1, "false"),
        ("c1", "increases", "increas", 0.0, 1, "false"),
        ("c1", "of", "of", 0.4, 1, "false"),
    ]
)


def test_a_miniature_by_hand() -> None:
    top = biorel.top_stems(MINIATURE, min_count=1, samples=50)
    assert top[["stem", "word", "count", "documents"]].values.tolist() == [
        ["of", "of", 1, 1],
        ["increas", "increased", 3, 2],
    ]
    np.testing.assert_allclose(top["weight"], [0.6, 0.3], atol=1e-15)
    np.testing.assert_allclose(top["sd"], [np.nan, 0.2], atol=1e-15)
    assert "instances with a relation by the gold labels" in top.attrs["protocol"]
    assert biorel.top_stems(MINIATURE, min_count=1, stop_words="english")["stem"].tolist() == ["increas"]
    assert biorel.top_stems(MINIATURE, min_count=1, stop_words=["INCREASED"], reach=4)["count"].tolist() == [2, 1]
    assert biorel.top_stems(MINIATURE, min_count=3)["stem"].tolist() == ["increas"]
    assert biorel.top_stems(MINIATURE, 1, min_count=1)["stem"].tolist() == ["of"]
    by_label = biorel.top_stems(MINIATURE, min_count=1, by_label=True)
    assert by_label[["label", "stem", "count"]].values.tolist() == [
        ["effect", "increas", 2],
        ["mechanism", "of", 1],
        ["mechanism", "increas", 1],
    ]
    only = biorel.top_stems(MINIATURE, label="mechanism", min_count=1)
    assert only["stem"].tolist() == ["of", "increas"]
    assert biorel.top_stems(MINIATURE, label="false", min_count=1)["stem"].tolist() == ["of", "increas"]


def test_related_against_unrelated_by_hand() -> None:
    [row] = biorel.compare_stems(MINIATURE, ["increas"], samples=500).to_dict("records")
    assert (row["word"], row["positive_count"], row["negative_count"]) == ("increased", 3, 2)
    assert row["positive"] == pytest.approx(0.3)
    assert row["negative"] == pytest.approx(0.1)
    assert row["difference"] == pytest.approx(0.2)
    # Pooled variance (2 * 0.04 + 1 * 0.02) / 3; Hedges' correction 1 - 3 / (4 * 3 - 1).
    assert row["effect"] == pytest.approx(0.2 / (0.1 / 3) ** 0.5 * (1 - 3 / 11))
    assert 0 < row["p"] <= row["q"] <= 1
    every = biorel.compare_stems(MINIATURE, min_count=1, samples=50)
    assert every["stem"].tolist() == ["increas", "of"]
    assert np.isnan(every["p"][1])  # one document on each side
    swapped = biorel.compare_stems(MINIATURE, ["of", "increas"], samples=50)
    assert swapped["stem"].tolist() == ["of", "increas"]


def test_the_order_of_the_rows_does_not_matter(run: biorel.Run) -> None:
    weights = run.attention()
    shuffled = weights.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(
        biorel.top_stems(weights, samples=100), biorel.top_stems(shuffled, samples=100, negative="false"), atol=1e-12
    )


def test_means_are_those_of_pandas(run: biorel.Run) -> None:
    weights = run.attention()
    near = weights[(weights["distance"] <= 3) & ~weights["is_entity"] & (weights["gold"] != "false")]
    means = near.groupby("stem")["weight"].agg(["mean", "size"])
    top = biorel.top_stems(weights, None, min_count=1, samples=200).set_index("stem")
    assert set(top.index) == {stem for stem in means.index if any(c.isalnum() for c in stem)}
    np.testing.assert_allclose(top["weight"], means.loc[top.index, "mean"], rtol=1e-12)
    assert (top["count"] == means.loc[top.index, "size"]).all()
    wide = top[top["documents"] >= 5]
    assert ((wide["low"] <= wide["weight"]) & (wide["weight"] <= wide["high"])).mean() > 0.99
    again = biorel.top_stems(weights, None, min_count=1, samples=200).set_index("stem")
    pd.testing.assert_frame_equal(top, again)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: biorel.top_stems(MINIATURE.drop(columns="document")), "weights: has no column document"),
        (lambda: biorel.top_stems(MINIATURE, label="advise"), "no instance has `advise`"),
        (lambda: biorel.top_stems(MINIATURE, source="truth"), "gold or predicted"),  # type: ignore[arg-type]
        (lambda: biorel.top_stems(MINIATURE, stop_words="german"), "stop_words"),
        (lambda: biorel.top_stems(MINIATURE, level=1.5), "level"),
        (lambda: biorel.compare_stems(MINIATURE, "increas"), "must be a list"),
        (lambda: biorel.compare_stems(MINIATURE, ["increase"]), "`increase` not within 3 words.*Porter stems"),
    ],
)
def test_what_cannot_be_counted_is_an_error(call: Any, words: str) -> None:
    with pytest.raises(biorel.ConfigError, match=words):
        call()


def test_the_negative_label_can_be_named() -> None:
    bare = MINIATURE.copy()
    bare.attrs.clear()
    with pytest.raises(biorel.ConfigError, match="negative: name the label"):
        biorel.top_stems(bare)
    assert len(biorel.top_stems(bare, negative="false", min_count=1)) == 2
