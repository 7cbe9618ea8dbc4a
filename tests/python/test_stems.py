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
    made["pieces"] = 1 + made["word"].str.endswith("es")  # as if `es` were a separate piece
    made.attrs["negative"] = "false"
    return made


MINIATURE = table(
    [
        ("a1", "Increases", "increas", 0.5, 1, "effect"),
        ("a1", "increased", "increas", 0.1, 3, "effect"),
        ("a1", "drug", "drug", 0.9, 0, "effect"),  # an entity
        ("a1", "increase", "increas", 0.7, 4, "effect"),  # too far away
        ("a1", ",", ",", 0.8, 1, "effect"),  # punctuation
        ("b1", "increased", "increas", 0.3, 2, "mechanism"),
        ("b1", "of", "of", 0.6, 1, "mechanism"),
        ("b2", "increased", "increas", 0.2, 1, "false"),
        ("c1", "increases", "increas", 0.0, 1, "false"),
        ("c1", "of", "of", 0.4, 1, "false"),
    ]
)


def test_top_stems_by_hand() -> None:
    top = biorel.top_stems(MINIATURE, min_count=1, samples=50)
    assert top[["stem", "word", "count", "documents"]].values.tolist() == [
        ["of", "of", 1, 1],
        ["increas", "increased", 3, 2],
    ]
    np.testing.assert_allclose(top["weight"], [0.6, 0.3], atol=1e-15)
    np.testing.assert_allclose(top["sd"], [np.nan, 0.2], atol=1e-15)
    assert "instances with a relation by the gold labels" in top.attrs["protocol"]
    assert biorel.top_stems(MINIATURE, min_count=1, stop_words="english")["stem"].tolist() == ["increas"]
    assert biorel.top_stems(MINIATURE, min_count=1, stop_words=["INCREASED"], window=4)["count"].tolist() == [2, 1]
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


def test_the_pieces_of_a_word_are_added_or_averaged() -> None:
    top = biorel.top_stems(MINIATURE, min_count=1, weight="mean").set_index("stem")
    assert top.loc["increas", "weight"] == pytest.approx((0.5 / 2 + 0.1 + 0.3) / 3)
    assert top.loc["of", "weight"] == pytest.approx(0.6)
    assert "the mean of its pieces'" in top.attrs["protocol"]
    assert top.attrs["min_count"] == 1
    assert "stems of 1 words or more" in top.attrs["protocol"]
    with pytest.raises(biorel.ConfigError, match="no column pieces"):
        biorel.top_stems(MINIATURE.drop(columns="pieces"), weight="mean")
    with pytest.raises(biorel.ConfigError, match="must be sum or mean"):
        biorel.top_stems(MINIATURE, weight="max")  # type: ignore[arg-type]


def test_compare_stems_by_hand() -> None:
    [row] = biorel.compare_stems(MINIATURE, ["increas"], samples=500).to_dict("records")
    assert (row["word"], row["positive_count"], row["negative_count"]) == ("increased", 3, 2)
    # The paper's means, and those of weights times the words of the instance: a1 has 5, b1 2, b2 1 and c1 2.
    assert row["positive"] == pytest.approx(0.3)
    assert row["negative"] == pytest.approx(0.1)
    assert row["positive_relative"] == pytest.approx((0.5 * 5 + 0.1 * 5 + 0.3 * 2) / 3)
    assert row["negative_relative"] == pytest.approx(0.2 / 2)
    assert row["difference"] == pytest.approx(1.2 - 0.1)
    # Of 2.5, 0.5, 0.6 and 0.2, 0: pooled variance (sum of squares 2.54 + 0.02) / 3; Hedges' 1 - 3 / (4 * 3 - 1).
    assert row["effect"] == pytest.approx(1.1 / (2.56 / 3) ** 0.5 * (1 - 3 / 11))
    assert np.isnan([row[name] for name in ("p", "q", "low", "high", "positive_relative_low")]).all()
    assert row["note"] == "fewer than 10 documents on a side: no interval, no test"
    every = biorel.compare_stems(MINIATURE, min_count=1, samples=50)
    assert every["stem"].tolist() == ["increas", "of"]
    swapped = biorel.compare_stems(MINIATURE, ["of", "increas"], samples=50)
    assert swapped["stem"].tolist() == ["of", "increas"]


def simulated(documents: int, stems: int, words: tuple[int, int], *, seed: int) -> pd.DataFrame:
    """Related and unrelated pairs in sentences of `words` words; weights differ only by document and chance."""
    generator = np.random.default_rng(seed)
    rows = []
    for side, count in zip(("related", "false"), words, strict=True):
        for document in range(documents):
            own = 1 + 0.2 * generator.normal()
            name = f"{side}{document}"
            for stem in range(stems):
                rows.append((name, name, f"s{stem}", own * (1 + 0.2 * generator.normal()) / count, side, count))
    made = pd.DataFrame(rows, columns=["instance", "document", "word", "weight", "gold", "count"])
    made = made.assign(stem=made["word"], predicted=made["gold"], distance=1, is_entity=False, pieces=1)
    made["relative"] = made["weight"] * made.pop("count")
    return made


def test_sentence_length_alone_makes_no_difference() -> None:
    """Related pairs have sentences of 20 words, unrelated pairs of 40: the paper's means differ by a factor of 2."""
    table = biorel.compare_stems(simulated(30, 20, (20, 40), seed=1), negative="false", samples=500)
    assert (table["positive"] > 1.5 * table["negative"]).all()
    np.testing.assert_allclose(table["positive_relative"] / table["negative_relative"], 1, atol=0.2)
    assert (table["q"] > 0.05).all()
    assert (table["note"] == "").all()


def test_stems_in_few_documents_are_not_tested() -> None:
    for documents, tested in ((9, False), (10, True)):
        table = biorel.compare_stems(simulated(documents, 5, (20, 20), seed=2), negative="false", samples=200)
        for name in ("p", "q", "low", "high", "positive_relative_low", "negative_relative_high"):
            assert table[name].notna().all() == tested, name
        assert (table["note"] != "").all() != tested
        top = biorel.top_stems(simulated(documents, 5, (20, 20), seed=2), negative="false", samples=200)
        assert top["low"].notna().all() == tested


def test_level_and_coverage_under_the_null() -> None:
    """400 stems without a difference, ten documents on each side; the words of a document are similar."""
    made = [simulated(10, 1, (20, 20), seed=seed) for seed in range(400)]
    for seed, part in enumerate(made):
        part["stem"] = f"s{seed}"
        part["document"] = f"{seed} " + part["document"]
    table = biorel.compare_stems(pd.concat(made), negative="false", samples=500)
    assert len(table) == 400
    assert 0.02 < (table["p"] < 0.05).mean() < 0.08
    assert (table["q"] < 0.05).mean() < 0.005
    assert ((table["low"] <= 0) & (table["high"] >= 0)).mean() > 0.91


def test_a_baseline_adds_columns() -> None:
    weights, untrained = simulated(12, 3, (20, 40), seed=3), simulated(12, 3, (20, 40), seed=4)
    weights.loc[(weights["stem"] == "s1") & (weights["gold"] == "related"), ["weight", "relative"]] *= 3
    table = biorel.compare_stems(weights, baseline=untrained, negative="false", samples=500).set_index("stem")
    alone = biorel.compare_stems(untrained, negative="false", samples=500).set_index("stem").loc[table.index]
    for name in ("positive", "negative", "difference", "p"):
        assert table[f"baseline_{name}"].tolist() == alone[name].tolist()
    assert table.index[0] == "s1"
    assert table.loc["s1", "p"] < 0.01 < table.loc["s1", "baseline_p"]
    with pytest.raises(biorel.ConfigError, match="baseline: does not have the same words"):
        biorel.compare_stems(weights, baseline=untrained.iloc[1:], negative="false")
    with pytest.raises(biorel.ConfigError, match="baseline: has no column stem"):
        biorel.compare_stems(weights, baseline=untrained.drop(columns="stem"), negative="false")


def test_an_untrained_model_is_a_baseline(ddi: biorel.Corpus, encoder: biorel.Encoder, run: biorel.Run) -> None:
    untrained = biorel.finetune(ddi, encoder, max_length=96, max_steps=0, progress=False)
    assert len(untrained.history) == untrained.step == 0
    assert untrained.report["initialised"] == run.report["initialised"]
    table = biorel.compare_stems(run.attention(), baseline=untrained.attention(), samples=200)
    assert table["baseline_positive"].notna().all()
    weights = run.attention()
    words = weights.groupby("instance")["word"].transform("size")
    np.testing.assert_allclose(weights["relative"], weights["weight"] * words, rtol=1e-12)
    assert weights["pieces"].ge(1).all()
    assert weights["pieces"].max() > 1


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
    wide = top[top["documents"] >= 10]
    assert wide["low"].notna().all()
    assert ((wide["low"] <= wide["weight"]) & (wide["weight"] <= wide["high"])).mean() > 0.99
    again = biorel.top_stems(weights, None, min_count=1, samples=200).set_index("stem")
    pd.testing.assert_frame_equal(top, again)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: biorel.top_stems(MINIATURE.drop(columns="document")), "weights: has no column document"),
        (
            lambda: biorel.top_stems(MINIATURE, label="advise"),
            "label: no instance has `advise`; choose from effect, false",
        ),
        (
            lambda: biorel.top_stems(MINIATURE, negative="nope"),
            "negative: no instance has `nope`; choose from effect, false",
        ),
        (lambda: biorel.compare_stems(MINIATURE, negative="nope"), "negative: no instance has `nope`; choose from"),
        (lambda: biorel.top_stems(MINIATURE, -2), "n: must be a whole number from 1, or None for all, not -2"),
        (lambda: biorel.top_stems(MINIATURE, 0), "n: must be a whole number from 1"),
        (lambda: biorel.top_stems(MINIATURE, window=-1), "window: must be a whole number from 1, not -1"),
        (lambda: biorel.compare_stems(MINIATURE, window=0), "window: must be a whole number from 1, not 0"),
        (lambda: biorel.top_stems(MINIATURE, samples=-1), "samples: must be a whole number from 0"),
        (lambda: biorel.compare_stems(MINIATURE, samples=-1), "samples: must be a whole number from 0"),
        (lambda: biorel.top_stems(MINIATURE, seed=-1), "seed: must be a whole number from 0"),
        (lambda: biorel.compare_stems(MINIATURE, seed=-1), "seed: must be a whole number from 0"),
        (lambda: biorel.top_stems(MINIATURE, min_count="3"), "min_count: must be"),  # type: ignore[arg-type]
        (lambda: biorel.top_stems(MINIATURE, source="truth"), "gold or predicted"),  # type: ignore[arg-type]
        (lambda: biorel.top_stems(MINIATURE, stop_words="german"), "stop_words"),
        (lambda: biorel.top_stems(MINIATURE, confidence_level=1.5), "confidence_level"),
        (lambda: biorel.compare_stems(MINIATURE, "increas"), "must be a list"),
        (lambda: biorel.compare_stems(MINIATURE, ["increase"]), "`increase` not within 3 words.*Porter stems"),
    ],
)
def test_invalid_arguments(call: Any, message: str) -> None:
    with pytest.raises(biorel.ConfigError, match=message):
        call()


def test_the_negative_label_can_be_named() -> None:
    bare = MINIATURE.copy()
    bare.attrs.clear()
    with pytest.raises(biorel.ConfigError, match="negative: name the label"):
        biorel.top_stems(bare)
    assert len(biorel.top_stems(bare, negative="false", min_count=1)) == 2
    related = MINIATURE[MINIATURE["gold"] != "false"]
    assert len(biorel.top_stems(related, negative="false", min_count=1)) == 2  # attrs have it, though no row does
    assert len(biorel.compare_stems(MINIATURE, ["increas"], baseline=bare, negative="false", samples=10)) == 1


def test_without_samples_there_are_neither_intervals_nor_tests() -> None:
    weights = simulated(12, 3, (20, 20), seed=2)
    top = biorel.top_stems(weights, negative="false", samples=0)
    assert top["low"].isna().all()
    assert top.attrs["protocol"].endswith("; no intervals")
    contrasts = biorel.compare_stems(weights, negative="false", samples=0)
    assert contrasts[["low", "p", "q"]].isna().all(axis=None)
    assert contrasts.attrs["protocol"].endswith("; no intervals, no tests")
