"""Masked words, rank agreement, and the three kinds of word weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import biorel
import numpy as np
import pandas as pd
import pytest
from biorel._types import Kind

KINDS: list[Kind] = ["head", "encoder", "gradient"]


def masked(rows: list[tuple[str, str, int, float, float, float]]) -> pd.DataFrame:
    """From (instance, ranking, words, drop, drop of as many pieces, changed); the document is the first letter."""
    table = pd.DataFrame(rows, columns=["instance", "ranking", "words", "drop", "matched", "changed"])
    table["document"] = table["instance"].str[0]
    table["pieces"] = 2.0 * table["words"]
    table["before"] = 0.9
    table["matched_after"] = 0.9 - table.pop("matched")
    return table


def test_faithfulness_by_hand() -> None:
    nan = np.nan
    rows = [
        ("a1", "attention", 1, 0.5, 0.4, 1.0),
        ("a1", "random", 1, 0.1, nan, 0.2),
        ("b1", "attention", 1, 0.3, 0.4, 0.0),
        ("b1", "random", 1, 0.2, nan, 0.0),
        ("b2", "attention", 1, 0.1, 0.4, 0.0),
        ("b2", "random", 1, 0.3, nan, 0.4),
        ("a1", "gradient", 2, 0.5, 0.1, 1.0),
        ("a1", "random", 2, 0.5, nan, 1.0),
        ("b1", "gradient", 2, 0.0, 0.1, 0.0),
        ("b1", "random", 2, 0.6, nan, 1.0),
    ]
    table = biorel.faithfulness(masked(rows), samples=200)
    assert table[["words", "ranking", "instances", "pieces"]].values.tolist() == [
        [1, "attention", 3, 2],
        [1, "random", 3, 2],
        [2, "gradient", 2, 4],
        [2, "random", 2, 4],
    ]
    np.testing.assert_allclose(table["drop"], [0.3, 0.2, 0.25, 0.55], atol=1e-12)
    np.testing.assert_allclose(table["changed"], [1 / 3, 0.2, 0.5, 1.0], atol=1e-12)
    np.testing.assert_allclose(table["over_random"], [-0.1, nan, 0.15, nan], atol=1e-12)
    np.testing.assert_allclose(table["over_words"], [0.1, nan, -0.3, nan], atol=1e-12)
    assert table[["low", "over_low", "over_words_high"]].isna().all(axis=None)  # two documents
    assert table["better"].isna().all()
    assert "random words of as many pieces" in table.protocol
    with pytest.raises(biorel.ConfigError, match="has no column ranking"):
        biorel.faithfulness(masked(rows).drop(columns="ranking"))


def test_better_is_decided_by_random_words_with_as_many_pieces() -> None:
    generator = np.random.default_rng(1)
    names = "abcdefghijklmnop"
    drops = {name: generator.normal(0.4, 0.05) for name in names}
    for matched, better in ((0.1, True), (0.4, False)):
        # Compared with as many random words, which have fewer pieces, the drop is larger in both cases.
        rows = [(name, "attention", 1, drops[name], matched + 0.01 * generator.normal(), 0.0) for name in names]
        rows += [(name, "random", 1, 0.05, np.nan, 0.0) for name in names]
        table = biorel.faithfulness(masked(rows), samples=500)
        assert table["better"].tolist() == [better, pd.NA]
        assert table.loc[0, "over_words_low"] > 0
        assert biorel.faithfulness(masked(rows), samples=0)["better"].isna().all()


def weights(values: dict[str, list[float]]) -> pd.DataFrame:
    rows = []
    for instance, list_ in values.items():
        for position, weight in enumerate(list_):
            rows.append({"instance": instance, "document": instance, "start": position, "end": position + 1})
            rows[-1] |= {"stem": "word", "weight": weight, "is_entity": False}
    rows.append(
        {"instance": "z", "document": "z", "start": 0, "end": 1, "stem": ".", "weight": 1.0, "is_entity": False}
    )
    return pd.DataFrame(rows)


def test_agreement_by_hand() -> None:
    first = weights({"a": [0.1, 0.2, 0.7], "b": [0.5, 0.3, 0.2], "c": [0.4, 0.6]})
    second = weights({"a": [0.2, 0.3, 0.5], "b": [0.1, 0.2, 0.7], "c": [0.4, 0.6]})
    third = weights({"a": [0.5, 0.2, 0.3], "b": [0.3, 0.3, 0.4], "c": [0.4, 0.6]})
    table = biorel.rank_agreement({"x": first, "y": second, "z": third}, samples=100)
    # Ranks (1 2 3) against (1 2 3), (3 2 1) against (1 2 3); then (3 1 2), and (1.5 1.5 3) with a tie. c has two words.
    tie = 1.5 / np.sqrt(2 * 1.5)
    assert table[["first", "second", "instances"]].values.tolist() == [["x", "y", 2], ["x", "z", 2], ["y", "z", 2]]
    np.testing.assert_allclose(table["rho"], [0.0, (-0.5 - tie) / 2, (-0.5 + tie) / 2], atol=1e-12)
    assert table[["low", "high"]].isna().all(axis=None)  # two documents
    several = {name: [0.1, 0.2 + 0.01 * position, 0.7] for position, name in enumerate("abcdefghijkl")}
    other = weights({name: row if position % 3 else row[::-1] for position, (name, row) in enumerate(several.items())})
    row = biorel.rank_agreement({"x": weights(several), "y": other}, samples=100).iloc[0]
    assert row["rho"] == pytest.approx(1 / 3)
    assert row["low"] < row["rho"] < row["high"]
    with pytest.raises(biorel.ConfigError, match="two tables or more"):
        biorel.rank_agreement({"x": first})
    with pytest.raises(biorel.ConfigError, match="do not have the same words"):
        biorel.rank_agreement({"x": first, "y": second.iloc[1:]})


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_every_kind(run: biorel.Run, kind: Kind) -> None:
    table = run.attention(kind=kind)
    assert len(table) == len(run.attention())
    np.testing.assert_allclose(table.groupby("instance")["weight"].sum(), 1.0, atol=1e-6)
    assert table.attrs == {"negative": "false", "kind": kind}
    top = biorel.top_stems(table, 3, samples=10)
    assert len(top) == 3


def test_kinds_differ_and_the_others_need_no_attention_head(
    ddi: biorel.Corpus, encoder: biorel.Encoder, run: biorel.Run
) -> None:
    tables = {kind: run.attention(kind=kind) for kind in KINDS}
    agreement = biorel.rank_agreement(tables, samples=20)
    assert len(agreement) == 3
    assert (agreement["rho"].abs() < 0.99).all()
    plain = biorel.finetune(ddi, encoder, head="lstm", max_length=96, max_steps=1, progress=False)
    with pytest.raises(biorel.ConfigError, match='any head, kind="encoder"'):
        plain.attention()
    np.testing.assert_allclose(plain.attention(kind="gradient").groupby("instance")["weight"].sum(), 1.0, atol=1e-6)
    assert set(plain.model.mask_words(ddi, related=False, limit=2)["ranking"]) == {"encoder", "gradient", "random"}
    bad: Any = "heads"
    with pytest.raises(biorel.ConfigError, match="choose one of head, encoder, gradient"):
        run.attention(kind=bad)


def test_offsets_into_the_original_sentence(ddi: biorel.Corpus, run: biorel.Run) -> None:
    table = run.attention()
    instances = ddi.instances("test").set_index("id")["sentence"]
    texts = ddi.sentences("test").drop_duplicates("id").set_index("id")["text"]
    words = table[table["original_start"].notna()]
    assert len(words) > 0.5 * len(table)
    for row in words.itertuples():
        text = texts[instances[row.instance]]
        assert text[row.original_start : row.original_end] == row.word, row
    assert (table.loc[table["original_start"].isna(), "word"].str.startswith("@")).all()
    nearer = table[["distance1", "distance2"]].min(axis=1)
    assert (nearer == table["distance"]).all()
    assert ((table["distance"] == 0) == table["is_entity"]).all()


def test_layers(ddi: biorel.Corpus, encoder: biorel.Encoder, run: biorel.Run) -> None:
    layers = biorel.finetune(ddi, encoder, head="attention-all-cls", max_length=96, max_steps=2, progress=False)
    table = layers.model.layer_weights(ddi)
    predictions = layers.predictions()
    names = [name for name in table.columns if name.startswith("layer_")]
    assert names == ["layer_1", "layer_2"]
    np.testing.assert_allclose(table[names].sum(axis=1), 1.0, atol=1e-6)
    assert table["instance"].tolist() == predictions["id"].tolist()
    assert table["predicted"].tolist() == predictions["predicted"].tolist()
    assert table["gold"].tolist() == predictions["gold"].tolist()
    with pytest.raises(biorel.ConfigError, match="does not weigh layers"):
        run.model.layer_weights(ddi)


def test_masking_a_model(ddi: biorel.Corpus, run: biorel.Run) -> None:
    table = run.model.mask_words(ddi, words=[2, 1], n_random=3, related=False, limit=None)
    predictions = run.predictions().set_index("id")
    assert len(table) == len(predictions) * 4 * 2
    assert (table["predicted"] == predictions["predicted"].reindex(table["instance"]).to_numpy()).all()
    np.testing.assert_allclose(table["before"], predictions["probability"].reindex(table["instance"]), atol=1e-5)
    np.testing.assert_allclose(table["drop"], table["before"] - table["after"], atol=1e-12)
    pd.testing.assert_frame_equal(table, run.model.mask_words(ddi, words=[2, 1], n_random=3, related=False, limit=None))
    ranked, random = table[table["ranking"] != "random"], table[table["ranking"] == "random"]
    assert ranked["matched_after"].between(0, 1).all()
    assert ranked["matched_changed"].between(0, 1).all()
    assert random[["matched_after", "matched_changed"]].isna().all(axis=None)
    assert (table["pieces"] >= table["masked"]).all()
    # Words with much attention are longer than random words, which is why pieces are compared.
    assert ranked.groupby("ranking")["pieces"].mean()["attention"] > random["pieces"].mean()
    some = run.model.mask_words(ddi, words=[1], n_random=3, related=False, limit=5, seed=3)
    assert some["instance"].nunique() == 5
    related = run.model.mask_words(ddi, words=[1], limit=None)
    assert set(related["predicted"]) == set(predictions["predicted"]) - {"false"}
    for wrong in ({"words": [0]}, {"words": []}, {"n_random": 0}, {"limit": 0}):
        settings: Any = wrong
        with pytest.raises(biorel.ConfigError):
            run.model.mask_words(ddi, **settings)


def test_parquet_round_trip(run: biorel.Run, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = run.attention()
    table.to_parquet(tmp_path / "words.parquet")
    back = pd.read_parquet(tmp_path / "words.parquet")
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    assert back.attrs["negative"] == "false"
