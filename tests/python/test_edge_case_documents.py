"""Edge-case texts from files to rows, in every document format and as corpora; missing inputs and outputs."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest
from biorel.prediction.output_directory import PredictionDirectory
from edge_case_texts import EDGE_CASES, LONG, sentence

FILES: dict[str, str] = {"pubtator": "a.txt", "bioc-json": "a.json", "bioc-xml": "a.xml", "brat": ""}


def document(given: dict[str, Any], relations: bool = False) -> list[biorel.Document]:
    texts = pd.DataFrame({"document": ["d1"], "text": [given["text"]]})
    entities = pd.DataFrame([{"document": "d1", "id": f"T{n}", **one} for n, one in enumerate(given["entities"])])
    related = pd.DataFrame([{"document": "d1", "entity1": "T0", "entity2": "T1", "label": "binds"}])
    return biorel.documents_from_tables(texts, entities, related if relations else None)


def written(documents: list[biorel.Document], format: str, folder: Path) -> Path:
    folder.mkdir(parents=True)
    biorel.write_documents(documents, folder / FILES[format], format=format)  # type: ignore[arg-type]
    return folder


def round_trip(run: biorel.Run, given: dict[str, Any], format: str, folder: Path) -> None:
    """Check that the stream writes one row, with the offsets of the entities in the text."""
    source = written(document(given), format, folder / "in")
    found = biorel.predict_documents(run.model, source, folder / "out", progress=False)
    assert isinstance(found, biorel.DocumentPredictions)
    table = found.table()
    assert (len(table), found.failed) == (1, 0), found.errors()
    (read,) = biorel.read_documents(source)
    # PubTator has spaces for line ends and one after the title; XML lacks some characters. Lengths are equal.
    assert len(read.text) == len(given["text"]) + (format == "pubtator")
    if format in ("bioc-json", "brat"):
        assert read.text == given["text"]
    row = table.iloc[0]
    for side, entity in zip("12", given["entities"], strict=True):
        assert (row[f"start{side}"], row[f"end{side}"]) == (entity["start"], entity["end"])
        assert read.text[row[f"start{side}"] : row[f"end{side}"]] == row[f"entity{side}"]
    assert [row["entity1"], row["entity2"]] == ["aaa", "bbb"]
    assert row["probability"] > 0
    again = biorel.predict_documents(run.model, source)
    pd.testing.assert_frame_equal(again.drop(columns="file"), table.drop(columns="file"), check_dtype=False)


@pytest.mark.parametrize("name", EDGE_CASES)
def test_edge_case_texts_in_every_format(run: biorel.Run, tmp_path: Path, name: str) -> None:
    for format in FILES:
        round_trip(run, EDGE_CASES[name], format, tmp_path / format)


@pytest.mark.parametrize("name", EDGE_CASES)
def test_edge_case_entities_in_every_table(run: biorel.Run, tmp_path: Path, name: str) -> None:
    text = EDGE_CASES[name]["text"]
    half = len(text) // 2
    entities = [{"start": 0, "end": half, "type": "drug"}, {"start": half, "end": len(text), "type": "drug"}]
    texts = pd.DataFrame({"document": ["d\x85\u2028\r1"], "text": [text]})
    documents = biorel.documents_from_tables(texts, pd.DataFrame(entities).assign(document="d\x85\u2028\r1"))
    expected = biorel.predict_documents(run.model, documents).drop(columns="file")
    # A line end in an entity may end a sentence; the pair is then counted instead.
    assert len(expected) == (name != "crlf")
    biorel.write_documents(documents, tmp_path / "in.json")
    for format in ("jsonl", "tsv", "parquet"):
        output = tmp_path / format
        found = biorel.predict_documents(run.model, tmp_path / "in.json", output, format=format, progress=False)
        assert isinstance(found, biorel.DocumentPredictions)
        if len(expected):
            table = found.table().drop(columns="file")
            pd.testing.assert_frame_equal(table, expected, check_dtype=False, check_exact=False, rtol=1e-6)


def test_a_reason_with_line_ends(run: biorel.Run, tmp_path: Path) -> None:
    text = "a\u2028\x85\x1c\x0bb"
    (tmp_path / "in.txt").write_text(
        f"1|t|{text}\n1\t0\t6\tother\tdrug\n\n2|t|B\n2\t0\t1\tother\tdrug\n", encoding="utf-8"
    )
    found = biorel.predict_documents(run.model, tmp_path / "in.txt", tmp_path / "out", progress=False)
    assert isinstance(found, biorel.DocumentPredictions)
    assert text in found.errors()["reason"][0]
    assert found.errors()["line"].tolist() == [2, 5]


@pytest.mark.parametrize("format", ["pubtator", "bioc-xml"])
def test_a_megabyte_without_a_space(run: biorel.Run, tmp_path: Path, format: str) -> None:
    round_trip(run, sentence(before="x" * LONG), format, tmp_path)


@pytest.mark.parametrize("format", FILES)
def test_empty_texts(run: biorel.Run, tmp_path: Path, format: str) -> None:
    # Documents without text, a file without documents, a folder without files.
    texts = pd.DataFrame({"document": ["a", "b", "c"], "text": ["", " ", "\u200b"]})
    none = pd.DataFrame(columns=["document", "start", "end", "type"])
    source = written(biorel.documents_from_tables(texts, none), format, tmp_path / "in")
    if format != "brat":
        (source / f"none{Path(FILES[format]).suffix}").touch()
    found = biorel.predict_documents(run.model, source, tmp_path / "out", progress=False)
    assert isinstance(found, biorel.DocumentPredictions)
    assert (found.documents, found.pairs, len(found.table())) == (3, 0, 0)
    # An empty file is not XML, but it is JSON lines without a line.
    assert found.failed == (format == "bioc-xml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(biorel.BiorelError, match="empty"):
        biorel.predict_documents(run.model, tmp_path / "empty", tmp_path / "out2", progress=False)


@pytest.mark.parametrize("name", EDGE_CASES)
def test_corpora_of_edge_case_documents(tmp_path: Path, name: str) -> None:
    for format in FILES:
        source = written(document(EDGE_CASES[name], relations=True), format, tmp_path / format)
        corpus = biorel.load_corpus("bioc" if format.startswith("bioc") else format, source)
        instances = corpus.instances(corpus.splits[0], "markers")
        # In PubTator and brat a sentence may end at a line end: the pair is present, or counted as lost.
        lost = int(corpus.statistics()["lost"].sum())
        assert len(instances) + lost == 1, format
        if not lost:
            assert instances[["entity1", "entity2"]].values.tolist() == [["aaa", "bbb"]], format
            assert instances["label"].tolist() == ["binds"], format


@pytest.mark.parametrize("name", EDGE_CASES)
def test_tables_of_edge_case_texts(tmp_path: Path, name: str) -> None:
    given = EDGE_CASES[name]
    row: dict[str, Any] = {"text": given["text"], "document": "d", "split": "train"}
    for number, entity in enumerate(given["entities"], 1):
        row |= {f"entity{number}_start": entity["start"], f"entity{number}_end": entity["end"]}
    rows = [{**row, "label": label, "document": label} for label in ("yes", "no")]
    for ending, delimiter in (("csv", ","), ("tsv", "\t")):
        with (tmp_path / f"a.{ending}").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    expected = biorel.load_corpus("table", pd.DataFrame(rows), negative="no")
    for ending in ("csv", "tsv", "jsonl"):
        found = biorel.load_corpus("table", tmp_path / f"a.{ending}", negative="no")
        assert found.sentences("train")["text"].tolist() == [given["text"]] * 2, ending
        pd.testing.assert_frame_equal(found.instances("train"), expected.instances("train"))


def test_a_folder_that_cannot_be_written(run: biorel.Run, tmp_path: Path) -> None:
    # Nobody can write to /proc, not even root, which ignores the permissions of folders.
    if not Path("/proc/self").is_dir():
        pytest.skip("needs /proc")
    source = written(document(EDGE_CASES["astral"]), "bioc-json", tmp_path / "in")
    for format in ("jsonl", "parquet", "bioc-json"):
        with pytest.raises(OSError, match="/proc/biorel"):
            biorel.predict_documents(run.model, source, "/proc/biorel/out", format=format, progress=False)
    with pytest.raises(OSError, match="/proc/"):
        biorel.write_documents(document(EDGE_CASES["astral"]), "/proc/biorel.txt")


def test_an_output_directory_removed_during_the_run(
    run: biorel.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(document(EDGE_CASES["astral"]), "bioc-json", tmp_path / "in")
    add = PredictionDirectory.add

    def remove_and_add(self: PredictionDirectory, *arguments: Any) -> None:
        shutil.rmtree(self.path)
        add(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(PredictionDirectory, "add", remove_and_add)
        with pytest.raises(FileNotFoundError, match="out"):
            biorel.predict_documents(run.model, source, tmp_path / "out", progress=False)
    found = biorel.predict_documents(run.model, source, tmp_path / "out", progress=False)
    assert isinstance(found, biorel.DocumentPredictions)
    assert len(found.table()) == 1


def test_corpora_with_missing_files(tmp_path: Path) -> None:
    for name, path in (("ddi", "Train"), ("chemprot", "chemprot_training"), ("aimed", "aimed.xml")):
        with pytest.raises(FileNotFoundError, match=path):
            biorel.load_corpus(name, tmp_path / path)
    # A dangling link is a missing file, never a silently smaller split.
    source = written(document(EDGE_CASES["astral"], relations=True), "bioc-json", tmp_path / "in")
    (source / "b.json").symlink_to(tmp_path / "nowhere.json")
    with pytest.raises(FileNotFoundError, match=r"b\.json"):
        biorel.load_corpus("bioc", source)
    with pytest.raises(FileNotFoundError, match=r"b\.json"):
        list(biorel.read_documents(source))
