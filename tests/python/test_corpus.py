"""Reading corpora from Python: the sample, a user's own table, and the published corpora where they are."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import biorel
import pandas as pd
import pytest
from biorel._types import Marking


def counts(corpus: biorel.Corpus) -> dict[str, int]:
    table = corpus.statistics()
    return dict(zip(table["split"], table["pairs"].tolist(), strict=True))


def test_the_sample_is_what_its_script_writes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).parents[2] / "tools" / "make_sample.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--check"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(script), run_name="__main__")
    assert stopped.value.code == 0, capsys.readouterr().out


def test_the_sample_in_its_three_forms() -> None:
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


def test_a_discontinuous_mention_is_read_whole(ddi: biorel.Corpus) -> None:
    mentions = set(ddi.instances("train")["entity2"]) | set(ddi.instances("train")["entity1"])
    assert "peripheral velorin blockers" in mentions


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: biorel.load_corpus("ddi", "/no/such/folder"), FileNotFoundError, "/no/such/folder"),
        (lambda: biorel.load_corpus("ddl", biorel.sample_path()), biorel.ConfigError, "aimed, ddi, chemprot, table"),
        (lambda: biorel.load_corpus("ddi", biorel.sample_path(), splits="green"), biorel.ConfigError, "full or blue"),
        (lambda: biorel.load_corpus("aimed", biorel.sample_path(), splits="blue"), biorel.ConfigError, "splits"),
        (lambda: biorel.load_corpus("ddi", pd.DataFrame()), biorel.ConfigError, "DataFrame"),
        (lambda: biorel.sample_path("bioinfer"), biorel.ConfigError, "ddi"),
        (lambda: biorel.load_sample().instances("dev"), biorel.ConfigError, "train, test"),
        (lambda: biorel.load_sample().instances("test", "bold"), biorel.ConfigError, "typed, blue, markers"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_read_says_why(call: object, error: type[Exception], words: str) -> None:
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


def test_a_table_of_ones_own() -> None:
    corpus = biorel.load_corpus("table", TABLE, negative="no")
    assert corpus.splits == ["train", "test"]
    assert set(corpus.labels) == {"yes", "no"}
    assert corpus.negative == "no"
    assert corpus.instances("test")[["entity1", "entity2"]].iloc[0].tolist() == ["C", "D"]


def test_a_table_in_memory_is_the_same_as_in_a_file(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "pairs.tsv", sep="\t", index=False)
    TABLE.to_json(tmp_path / "pairs.jsonl", orient="records", lines=True)
    expected = biorel.load_corpus("table", TABLE, negative="no").instances("train")
    for name in ("pairs.tsv", "pairs.jsonl"):
        read = biorel.load_corpus("table", tmp_path / name, negative="no").instances("train")
        pd.testing.assert_frame_equal(read, expected)


def test_columns_of_other_names() -> None:
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
def test_rows_that_cannot_be_used_are_named(change: dict[str, list[object]], words: str) -> None:
    with pytest.raises(biorel.CorpusError, match=words):
        biorel.load_corpus("table", TABLE.assign(**change), negative="no")


def test_a_missing_column_is_named() -> None:
    with pytest.raises(biorel.CorpusError, match="no column `label`.*entity1_start"):
        biorel.load_corpus("table", TABLE.drop(columns="label"))
    with pytest.raises(biorel.ConfigError, match="satz"):
        biorel.load_corpus("table", TABLE, columns={"text": "satz"})
    with pytest.raises(biorel.ConfigError, match="texts"):
        biorel.load_corpus("table", TABLE, columns={"texts": "text"})


def test_a_fold_holds_documents_out() -> None:
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


def test_division_by_documents() -> None:
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
