"""Reading corpora from Python: the sample, a user's own table, and the published corpora if available."""

from __future__ import annotations

import pickle
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest
from biorel import _biorel
from biorel._types import Marking


def test_every_format_is_described() -> None:
    for name in _biorel.CORPORA:
        assert f"``{name}``" in (biorel.load_corpus.__doc__ or ""), name


def counts(corpus: biorel.Corpus) -> dict[str, int]:
    table = corpus.statistics()
    return dict(zip(table["split"], table["pairs"].tolist(), strict=True))


def test_the_sample_matches_its_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = Path(__file__).parents[2] / "tools" / "make_sample.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--check"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(script), run_name="__main__")
    assert stopped.value.code == 0, capsys.readouterr().out


def test_the_sample_in_its_three_formats() -> None:
    assert counts(biorel.load_sample("ddi")) == {"train": 406, "test": 142}
    assert counts(biorel.load_sample("aimed")) == {"all": 302}
    assert counts(biorel.load_sample("chemprot")) == {"train": 170, "dev": 48, "test": 59}
    for name in ("ddi", "aimed", "chemprot"):
        assert biorel.load_sample(name).statistics()["lost"].sum() == 0


def test_statistics_add_up(ddi: biorel.Corpus) -> None:
    table = ddi.statistics()
    assert (table[ddi.labels].sum(axis=1) == table["pairs"]).all()
    for row in table.itertuples():
        assert len(ddi.instances(row.split)) == row.pairs
        assert len(ddi.sentences(row.split)) == row.sentences


@pytest.mark.parametrize("marking", ["typed", "blue", "markers"])
def test_instances_are_marked(ddi: biorel.Corpus, marking: Marking) -> None:
    table = ddi.instances("train", marking)
    assert list(table.columns) == ["id", "document", "sentence", "text", "label", "entity1", "entity2"]
    tag = "[E1]" if marking == "markers" else "@DRUG"
    assert table["text"].str.contains(tag, regex=False).all()
    assert table["id"].is_unique


def test_a_discontinuous_mention_is_read_completely(ddi: biorel.Corpus) -> None:
    mentions = set(ddi.instances("train")["entity2"]) | set(ddi.instances("train")["entity1"])
    assert "peripheral velorin blockers" in mentions


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: biorel.load_corpus("ddi", "/no/such/folder"), FileNotFoundError, "/no/such/folder"),
        (
            lambda: biorel.load_corpus("ddl", biorel.sample_path()),
            biorel.ConfigError,
            "aimed, bioinfer, hprd50, iepa, lll, ppi, ddi, chemprot",
        ),
        (lambda: biorel.load_corpus("ddi", biorel.sample_path(), splits="green"), biorel.ConfigError, "full or blue"),
        (lambda: biorel.load_corpus("aimed", biorel.sample_path(), splits="blue"), biorel.ConfigError, "splits"),
        (lambda: biorel.load_corpus("ddi", pd.DataFrame()), biorel.ConfigError, "DataFrame"),
        (lambda: biorel.sample_path("bioinfer"), biorel.ConfigError, "ddi"),
        (lambda: biorel.load_sample().instances("dev"), biorel.ConfigError, "train, test"),
        (lambda: biorel.load_sample().instances("test", "bold"), biorel.ConfigError, "typed, blue, markers"),  # type: ignore[arg-type]
    ],
)
def test_invalid_calls_are_explained(call: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()  # type: ignore[operator]


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    broken = tmp_path / "Train" / "broken.xml"
    broken.parent.mkdir()
    broken.write_text('<?xml version="1.0"?>\n<document id="d">\n<sentence id="d.s0" text="a">\n</document>\n')
    with pytest.raises(biorel.CorpusError, match=r"broken\.xml") as raised:
        biorel.load_corpus("ddi", tmp_path)
    assert raised.value.path == str(broken)
    assert raised.value.line is not None
    assert isinstance(raised.value, biorel.BiorelError)
    assert isinstance(raised.value, ValueError)


TABLE = pd.DataFrame(
    {
        "text": ["A binds B.", "A binds B.", "C avoids D."],
        "label": ["yes", "no", "no"],
        "entity1_start": [0, 8, 0],
        "entity1_end": [1, 9, 1],
        "entity2_start": [8, 0, 9],
        "entity2_end": [9, 1, 10],
        "document": ["d0", "d0", "d1"],
        "split": ["train", "train", "test"],
    }
)


def test_a_user_defined_table() -> None:
    corpus = biorel.load_corpus("table", TABLE, negative="no")
    assert corpus.splits == ["train", "test"]
    assert set(corpus.labels) == {"yes", "no"}
    assert corpus.negative == "no"
    assert corpus.instances("test")[["entity1", "entity2"]].iloc[0].tolist() == ["C", "D"]


def test_a_table_in_memory_equals_one_in_a_file(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "pairs.tsv", sep="\t", index=False)
    TABLE.to_json(tmp_path / "pairs.jsonl", orient="records", lines=True)
    expected = biorel.load_corpus("table", TABLE, negative="no").instances("train")
    for name in ("pairs.tsv", "pairs.jsonl"):
        read = biorel.load_corpus("table", tmp_path / name, negative="no").instances("train")
        pd.testing.assert_frame_equal(read, expected)


TWICE = pd.DataFrame(
    {
        "text": ["A binds B and C.", "D binds E.", "A binds B and C."],
        "label": ["yes", "yes", "no"],
        "entity1_start": [0, 0, 0],
        "entity1_end": [1, 1, 1],
        "entity2_start": [8, 8, 14],
        "entity2_end": [9, 9, 15],
    }
)


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(3),
        pd.Index([17, 4, 9]),
        pd.Index(["x", "y", "x"]),
        pd.DatetimeIndex(["2026-01-02", "2026-01-01", "2026-01-03"]),
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]),
    ],
)
def test_a_table_keeps_its_order_and_its_index(index: pd.Index) -> None:
    table = TWICE.set_index(index)
    corpus = biorel.load_corpus("table", table)
    read = corpus.instances("all")
    assert read["row"].tolist() == index.tolist()
    assert read["label"].tolist() == ["yes", "yes", "no"]
    assert read["entity2"].tolist() == ["B", "E", "C"]
    # New splits and pickles keep the index.
    copy = pickle.loads(pickle.dumps(corpus))
    assert copy.instances("all")["row"].tolist() == index.tolist()
    documents = corpus.sentences("all")["document"].tolist()
    divided = corpus.divide({"one": documents[:1], "two": documents[1:]})
    assert divided.instances("one")["row"].tolist() == [index.tolist()[row] for row in (0, 2)]
    assert divided.instances("two")["row"].tolist() == [index.tolist()[1]]
    with pytest.raises(biorel.CorpusError, match=re.escape(f"row {index.tolist()[1]}: ")):
        biorel.load_corpus("table", table.assign(entity2_end=[9, 99, 15]))


def test_all_tables_of_pairs_have_the_rows(encoder: biorel.Encoder, tmp_path: Path) -> None:
    days = pd.date_range("2026-01-01", periods=8).tolist()
    tables = [TWICE.assign(document=f"d{number}") for number in range(4)]
    table = pd.concat([*tables[:3], tables[3].iloc[[1, 2, 0]]]).set_axis([f"row {n}" for n in range(12)])
    corpus = biorel.load_corpus("table", table)
    settings: dict[str, Any] = {"max_steps": 1, "max_length": 64, "progress": False}
    run = biorel.finetune(corpus, encoder, head="attention", train="all", **settings)
    predictions = run.model.predictions(corpus, "all")
    assert predictions["row"].tolist() == table.index.tolist()
    assert predictions["gold"].tolist() == table["label"].tolist()
    attention = run.model.attention(corpus, "all")
    names = predictions.set_index("id")["row"]
    assert (attention["row"] == attention["instance"].map(names)).all()
    assert attention["row"].drop_duplicates().tolist() == table.index.tolist()
    assert biorel.heatmap(attention, predictions["id"][5]).instances == [predictions["id"][5]]
    # Predictions are the same after they were written to a directory and read again.
    dated = biorel.load_corpus("table", table.iloc[:8].set_axis(days))
    found = [
        biorel.cross_validate(dated, encoder, folds=2, directory=directory, **settings).predictions
        for directory in (None, tmp_path / "cv", tmp_path / "cv")
    ]
    assert sorted(found[0]["row"]) == [str(day) for day in days]
    for other in found[1:]:
        pd.testing.assert_frame_equal(other, found[0])


def test_rows_of_a_file_match_read_csv(tmp_path: Path) -> None:
    TWICE.to_csv(tmp_path / "pairs.csv", index=False)
    read = biorel.load_corpus("table", tmp_path / "pairs.csv").instances("all")
    table = pd.read_csv(tmp_path / "pairs.csv")
    assert read["row"].tolist() == table.index.tolist()
    assert read["label"].tolist() == table["label"].tolist()
    assert "row" not in biorel.load_sample("ddi").instances("test").columns


def test_tags_of_anonymised_text(tmp_path: Path) -> None:
    texts = ["The @GENE$ variant is linked to @DISEASE$.", "No tie of @GENE$ to @DISEASE$ was seen."]
    table = pd.DataFrame({"sentence": texts, "label": [1, 0]})
    corpus = biorel.load_corpus("table", table, columns={"text": "sentence"})
    for marking in ("typed", "blue"):
        assert corpus.instances("all", marking)["text"].tolist() == texts
    assert (
        corpus.instances("all", "markers")["text"][1] == "No tie of [E1] @GENE$ [/E1] to [E2] @DISEASE$ [/E2] was seen."
    )
    assert (
        corpus.findings()["reason"]
        .str.contains("tags in the text are the entities (@GENE$, @DISEASE$)", regex=False)
        .any()
    )
    offsets = {
        f"entity{number}_{end}": [text.index(tag) + (len(tag) if end == "end" else 0) for text in texts]
        for number, tag in ((1, "@GENE$"), (2, "@DISEASE$"))
        for end in ("start", "end")
    }
    given = biorel.load_corpus("table", table.rename(columns={"sentence": "text"}).assign(**offsets))
    assert given.instances("all")["text"].tolist() == texts
    table.rename(columns={"sentence": "text"}).to_csv(tmp_path / "gad.tsv", sep="\t", index=False)
    assert biorel.load_corpus("table", tmp_path / "gad.tsv").instances("all")["text"].tolist() == texts
    table.loc[1, "sentence"] = "No tie of a gene to @DISEASE$."
    with pytest.raises(biorel.CorpusError, match=r"row 1: the text has one tag \(@DISEASE\$\) where a pair has two"):
        biorel.load_corpus("table", table, columns={"text": "sentence"})


def test_columns_with_other_names() -> None:
    renamed = TABLE.rename(columns={"text": "satz", "label": "klasse"})
    corpus = biorel.load_corpus("table", renamed, columns={"text": "satz", "label": "klasse"}, negative="no")
    assert corpus.instances("train")["label"].tolist() == ["yes", "no"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": ["yes", None, "no"]}, "row 1.*label"),
        ({"entity1_end": [1, 99, 1]}, "row 1"),
        ({"entity1_start": [0.5, 8, 0]}, "row 0.*whole number"),
        ({"entity1_start": ["x", 8, 0]}, "row 0.*whole number"),
        ({"entity1_start": [-1, 8, 0]}, "row 0.*whole number"),
        ({"entity1": ["A", "Q", "C"]}, "row 1"),
    ],
)
def test_invalid_rows_are_named(change: dict[str, list[object]], words: str) -> None:
    with pytest.raises(biorel.CorpusError, match=words):
        biorel.load_corpus("table", TABLE.assign(**change), negative="no")


def test_a_missing_column_is_named() -> None:
    with pytest.raises(biorel.CorpusError, match="no column `label`.*entity1_start"):
        biorel.load_corpus("table", TABLE.drop(columns="label"))
    with pytest.raises(biorel.ConfigError, match="satz"):
        biorel.load_corpus("table", TABLE, columns={"text": "satz"})
    with pytest.raises(biorel.ConfigError, match="texts"):
        biorel.load_corpus("table", TABLE, columns={"texts": "text"})


def test_folds_partition_the_documents() -> None:
    corpus = biorel.load_sample("aimed")
    tested: list[str] = []
    for index in range(4):
        fold = corpus.fold(index, folds=4)
        train, test = (set(fold.sentences(split)["document"]) for split in ("train", "test"))
        assert not train & test
        assert len(train | test) == 24
        tested += sorted(test)
    assert sorted(tested) == sorted(corpus.sentences("all")["document"].unique())
    with pytest.raises(biorel.ConfigError, match="no fold 4"):
        corpus.fold(4, folds=4)
    with pytest.raises(biorel.ConfigError, match="folds"):
        corpus.fold(0, folds=1000)


def test_splits_by_document() -> None:
    corpus = biorel.load_sample("aimed")
    documents = corpus.sentences("all")["document"].unique()
    divided = corpus.divide({"a": documents[:3], "b": documents[3:5]})
    assert divided.splits == ["a", "b"]
    assert divided.statistics()["documents"].tolist() == [3, 2]
    with pytest.raises(biorel.ConfigError, match="two parts"):
        corpus.divide({"a": documents[:3], "b": documents[:3]})
    with pytest.raises(biorel.ConfigError, match="nowhere"):
        corpus.divide({"a": ["nowhere"]})
    with pytest.raises(biorel.ConfigError, match="no candidate pair"):
        corpus.divide({"a": []})


def test_published_corpora(corpora: Path) -> None:
    aimed = biorel.load_corpus("aimed", corpora / "aimed" / "aimed_pairs.tsv").statistics().iloc[0]
    assert (aimed["pairs"], aimed["positive"], aimed["negative"]) == (5834, 1000, 4834)
    archive = corpora / "ddi" / "DDICorpus-2013.zip"
    assert counts(biorel.load_corpus("ddi", archive)) == {"train": 27792, "test": 5716}
    assert counts(biorel.load_corpus("ddi", archive, splits="blue")) == {"train": 18779, "dev": 7244, "test": 5761}
    chemprot = biorel.load_corpus("chemprot", corpora / "chemprot").statistics()
    positives = chemprot["pairs"] - chemprot["false"]
    assert positives.tolist() == [4154, 2416, 3458]


def test_published_folds(corpora: Path) -> None:
    aimed = biorel.load_corpus("aimed", corpora / "aimed" / "aimed_pairs.tsv")
    test = aimed.fold(0).statistics().set_index("split").loc["test"]
    assert (test["positive"], test["negative"]) == (105, 516)


@pytest.mark.parametrize("index", ["1", 1.5, -1, True])
def test_the_index_of_a_fold_is_a_whole_number(index: Any) -> None:
    with pytest.raises(biorel.ConfigError, match="index: must be a whole number from 0, not") as caught:
        biorel.load_sample("ddi").fold(index)
    assert caught.value.field == "index"
