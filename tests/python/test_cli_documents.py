"""The command `biorel predict` on documents."""

from __future__ import annotations

import io
import json
from pathlib import Path

import biorel
import pandas as pd
import pytest
from biorel.cli.main import main
from tiny_bert import write_encoder

DOCUMENT = "{0}|t|Velotrazine and nalexpidol.\n{0}|a|\n{0}\t0\t11\tVelotrazine\tDrug\n{0}\t16\t26\tnalexpidol\tDrug\n\n"
BAD = "9|t|Bad\n9|a|\n9\t0\t50\tBad\tDrug\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and documents of which one cannot be used."""
    folder = tmp_path_factory.mktemp("documents")
    encoder = write_encoder(folder / "encoder")
    run = biorel.finetune(biorel.load_sample("ddi"), encoder, max_steps=1, max_length=96, progress=False)
    run.model.save(folder / "model")
    (folder / "pubtator").mkdir()
    (folder / "pubtator" / "one.pubtator").write_text(DOCUMENT.format(1) + DOCUMENT.format(2))
    (folder / "pubtator" / "two.txt").write_text(DOCUMENT.format(3) + BAD)
    return folder


def _predict(folder: Path, *arguments: str) -> int:
    return main(["predict", str(folder / "model"), *arguments])


def test_relations_go_to_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _predict(folder, str(folder / "pubtator")) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].split() == "document sentence entity1 type1 entity2 type2 relation probability".split()
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]
    assert "not used: " in captured.err
    assert "two.txt:8: document 9: a mention has offsets 0-50" in captured.err
    assert captured.err.endswith("1 documents could not be used\n")


@pytest.mark.parametrize("format", ["tsv", "csv", "jsonl"])
def test_the_parts_of_a_stream_are_one_table(folder: Path, capsys: pytest.CaptureFixture[str], format: str) -> None:
    documents = [str(folder / "pubtator" / name) for name in ("one.pubtator", "two.txt")]
    assert _predict(folder, "--format", format, "--part-documents", "1", *documents) == 0
    text = io.StringIO(capsys.readouterr().out)
    printed = pd.read_json(text, lines=True) if format == "jsonl" else pd.read_csv(text, sep=None, engine="python")
    model = biorel.load(folder / "model")
    in_memory = biorel.predict_documents(model, documents[:1])
    assert printed["document"].tolist() == [1, 2, 3]
    assert list(printed.columns) == list(in_memory.columns)
    assert printed["probability"][:2].tolist() == pytest.approx(in_memory["probability"].tolist(), abs=1e-6)


def test_documents_with_relations_go_to_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = str(folder / "pubtator" / "one.pubtator")
    assert _predict(folder, one, "--format", "pubtator") == 0
    (folder / "again").mkdir()
    (folder / "again" / "one.pubtator").write_text(capsys.readouterr().out)
    first, second = biorel.read_documents(folder / "again")
    assert (first.id, second.id, first.text) == ("1", "2", "Velotrazine and nalexpidol. ")


def test_the_kind_of_json_lines_is_that_of_the_first_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = biorel.read_documents(folder / "pubtator" / "one.pubtator")
    biorel.write_documents(documents, tmp_path / "collection.json")
    records = json.loads((tmp_path / "collection.json").read_text())["documents"]
    (tmp_path / "bioc.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    entities = [{"start": 0, "end": 1, "type": "drug"}, {"start": 5, "end": 6, "type": "drug"}]
    (tmp_path / "sentences.jsonl").write_text(json.dumps({"text": "A or B", "entities": entities}) + "\n")
    for name, column in (("bioc.jsonl", "document"), ("collection.json", "document"), ("sentences.jsonl", "sentence")):
        assert _predict(folder, str(tmp_path / name)) == 0
        assert capsys.readouterr().out.split()[0] == column
    output = tmp_path / "table.csv"
    assert _predict(folder, str(tmp_path / "sentences.jsonl"), "--output", str(output)) == 0
    assert pd.read_csv(output)["entity2"].tolist() == ["B"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "parquet"], "format: `parquet` needs --output"),
        (["--format", "xlsx"], "format: `xlsx` needs --output"),
        (["--shard", "1/2"], "shard: needs --output"),
        (["--columns", "text=sentence"], "columns: applies to a table"),
        (["--threshold", "2"], "threshold: must be from 0 to 1"),
        (["--threshold", "0.5"], "threshold: leaves out relations only with related_only=True (--related-only)"),
        (["--output", "relations", "--shard", "1"], "shard: `1` is not of the form 3/10"),
        (["--output", "relations.jsonl"], "output: the relations of documents are written to a directory"),
    ],
)
def test_errors(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(["predict", str(folder / "model"), str(folder / "pubtator"), *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err


def test_tables_are_classified_alone(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("text,entity1,entity2\nA or B,A,B\n")
    for others in ([str(tmp_path / "a.csv")], [str(folder / "pubtator")]):
        assert main(["predict", str(folder / "model"), *others, str(tmp_path / "a.csv")]) == 1
        assert "a.csv is a table, which is classified alone" in capsys.readouterr().err
    (tmp_path / "raw.txt").write_text("Aspirin enhances warfarin.\n")
    assert main(["predict", str(folder / "model"), str(tmp_path / "raw.txt")]) == 1
    assert "has no rows; for plain text name the entities: --entities" in capsys.readouterr().err
