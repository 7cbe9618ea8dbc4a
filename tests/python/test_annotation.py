"""Entities for documents that have none: lists of terms, spaCy, a stand-in for GLiNER, functions, the command line."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest
from biorel.cli.main import main

TEXT = "Aspirin (CAT) raises BRCA1; aspirin\n acid and cat do not, brca1 neither."
TERMS = {"aspirin": ("Chemical", "D1"), "aspirin acid": "Chemical", "CAT": ("Gene", "847"), "BRCA1": ("Gene", "672")}


def found(documents: Iterator[biorel.Document]) -> list[list[tuple[str, str, str]]]:
    """Type, text and concept of the entities of each document."""
    return [
        list(document.entities[["type", "text", "concept"]].itertuples(index=False, name=None))
        for document in documents
    ]


EXPECTED = [
    ("Chemical", "Aspirin", "D1"),
    ("Gene", "CAT", "847"),
    ("Gene", "BRCA1", "672"),
    ("Chemical", "aspirin\n acid", ""),
]


@pytest.mark.parametrize("form", ["dict", "DataFrame", "tsv", "csv without header", "Dictionary", "gapped tsv"])
def test_the_same_list_in_every_form(tmp_path: Path, form: str) -> None:
    rows = [(term, *(of if isinstance(of, tuple) else (of, ""))) for term, of in TERMS.items()]
    frame = pd.DataFrame(rows, columns=["term", "type", "identifier"])
    if form == "tsv":
        terms: Any = tmp_path / "terms.tsv"
        frame[["identifier", "term", "type"]].to_csv(terms, sep="\t", index=False)
    elif form == "csv without header":
        terms = tmp_path / "terms.csv"
        frame.to_csv(terms, header=False, index=False)
    elif form == "gapped tsv":
        terms = str(tmp_path / "terms.txt")
        lines = ["\t".join(filter(None, row)) for row in rows]
        Path(terms).write_text("\ufeff" + "\n\n".join(lines), encoding="utf-8")
    else:
        terms = {"dict": TERMS, "DataFrame": frame, "Dictionary": biorel.Dictionary(TERMS)}[form]
    assert found(biorel.annotate([TEXT], terms)) == [EXPECTED]


def test_case_and_several_identifiers() -> None:
    twice = pd.DataFrame({"term": ["Cold", "cold"], "type": ["Disease"] * 2, "identifier": ["D1", "D2"]})
    assert found(biorel.annotate(["COLD"], twice)) == [[("Disease", "COLD", "D1;D2")]]
    for case, number in (("auto", 4), ("insensitive", 6), ("sensitive", 3)):
        dictionary = biorel.Dictionary(TERMS, case=case)  # type: ignore[arg-type]
        assert len(dictionary.find(TEXT)) == number, case
    assert repr(dictionary) == "Dictionary(4 terms, case='sensitive')"
    with pytest.raises(biorel.ConfigError, match="case: `any` is unknown"):
        biorel.Dictionary(TERMS, case="any")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("aspirin\tChemical\naspirin\tDrug\n", r"`aspirin` is Chemical \(.*terms.tsv:1\) and Drug \(.*terms.tsv:2\)"),
        ("term\ttype\naspirin\t\n", r"terms\.tsv:2: the term `aspirin` has no type"),
        ("aspirin\n", r"terms\.tsv:1: `aspirin` must be a term and its type, separated by a tab"),
        ("aspirin\tChemical\n--\tChemical\n", r"terms\.tsv:2: the term `--` has no letter or digit"),
        ("", "the list has no terms"),
    ],
)
def test_a_mistake_in_a_list_is_an_error_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "terms.tsv"
    path.write_text(content)
    with pytest.raises(biorel.CorpusError, match=message):
        biorel.Dictionary(path)


def test_entities_of_a_document_are_kept(tmp_path: Path) -> None:
    text = "1|t|Aspirin acid and CAT.\n1|a|𝛼 CAT.\n1\t0\t12\tAspirin acid\tDrug\tD9\n1\tEFFECT\tD9\tD9\n"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    [document] = biorel.annotate(biorel.read_documents(tmp_path), {"aspirin": "Chemical", "CAT": "Gene"})
    assert found(iter([document])) == [[("Drug", "Aspirin acid", "D9"), ("Gene", "CAT", ""), ("Gene", "CAT", "")]]
    assert document.entities["id"].is_unique
    assert len(document.relations) == 1
    assert [document.text[start:end] for start, end in document.entities[["start", "end"]].values] == [
        "Aspirin acid", "CAT", "CAT",
    ]  # fmt: skip
    assert document.findings["reason"].tolist() == [
        "1 added entities that overlap an entity of the document are left out"
    ]


def test_functions() -> None:
    def function(text: str) -> list[Any]:
        return [{"start": 0, "end": 7, "type": "Chemical", "concept": "D1"}, (9, 12, "Gene"), (21, 26, "Gene", "672")]

    expected = [("Chemical", "Aspirin", "D1"), ("Gene", "CAT", ""), ("Gene", "BRCA1", "672")]
    assert found(biorel.annotate([TEXT], function)) == [expected]
    for bad, message in [
        (lambda text: [(0, 999, "x")], "document doc0: entity 0 of the annotator: characters 0 to 999 are outside"),
        (lambda text: [(3, "x")], "must have start, end, type and maybe concept"),
        (lambda text: [{"start": 1}], "must have start, end, type and maybe concept"),
    ]:
        with pytest.raises(biorel.CorpusError, match=message):
            list(biorel.annotate([TEXT], bad))
    with pytest.raises(TypeError, match="documents must be an iterable; for files give biorel.read_documents"):
        biorel.annotate("a.txt", TERMS)
    with pytest.raises(TypeError, match=r"documents\[1\] must be a Document or str, not int"):
        list(biorel.annotate(["a", 1], TERMS))  # type: ignore[list-item]


def test_spacy_models_by_name_and_as_pipelines(tmp_path: Path) -> None:
    """ScispaCy's models are spaCy pipelines on disk; here one with rules, loaded in the same way."""
    spacy = pytest.importorskip("spacy")
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns(
        [{"label": "GENE", "pattern": "BRCA1", "id": "672"}, {"label": "CHEMICAL", "pattern": "Aspirin"}]
    )
    pipeline.to_disk(tmp_path / "model")
    expected = [("CHEMICAL", "Aspirin"), ("GENE", "BRCA1")]
    for annotator in (pipeline, f"scispacy:{tmp_path / 'model'}"):
        [entities] = found(biorel.annotate([TEXT], annotator))
        assert [one[:2] for one in entities] == expected
    with pytest.raises(biorel.ConfigError, match=r"spaCy cannot load the model en_ner_bc5cdr_md .*scispacy"):
        biorel.annotate([TEXT], "scispacy")


def test_gliner_sentence_by_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with GLiNER's interface: its weights are on a hub and cannot be had here."""
    calls: list[tuple[str, list[str], float]] = []

    class GLiNER:
        @classmethod
        def from_pretrained(cls, name: str) -> GLiNER:
            assert name == "urchade/gliner_large_bio-v0.1"
            return cls()

        def predict_entities(self, text: str, labels: list[str], *, threshold: float) -> list[dict[str, Any]]:
            calls.append((text, labels, threshold))
            at = text.find("BRCA1")
            span = {"start": at, "end": at + 5, "text": "BRCA1", "label": labels[0], "score": 0.9}
            return [] if at < 0 else [span]

    monkeypatch.setitem(sys.modules, "gliner", None)
    with pytest.raises(biorel.ConfigError, match=r'GLiNER is not installed; pip install "biorel\[gliner\]"'):
        biorel.annotate([TEXT], "gliner", labels=["Gene"])
    module = types.ModuleType("gliner")
    module.GLiNER = GLiNER  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gliner", module)
    text = "Nothing here. In mice BRCA1 acts."
    [document] = biorel.annotate([text], "gliner", labels=["Gene"], threshold=0.3)
    assert document.entities[["start", "end", "text"]].values.tolist() == [[22, 27, "BRCA1"]]
    assert calls == [("Nothing here.", ["Gene"], 0.3), ("In mice BRCA1 acts.", ["Gene"], 0.3)]
    with pytest.raises(biorel.ConfigError, match="labels: GLiNER needs the types to find"):
        biorel.annotate([TEXT], "gliner")
    with pytest.raises(biorel.ConfigError, match="labels: applies to GLiNER only"):
        biorel.annotate([TEXT], TERMS, labels=["Gene"])


def test_an_unknown_annotator_is_refused() -> None:
    with pytest.raises(biorel.ConfigError, match="`gone.tsv` is neither a file of terms, nor scispacy, nor gliner"):
        biorel.annotate([TEXT], "gone.tsv")
    with pytest.raises(TypeError, match="annotator must be a list of terms, a name or a callable, not int"):
        biorel.annotate([TEXT], 3)  # type: ignore[arg-type]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(3):
        text = f"Title {number}\n\nVelotrazine raises nalexpidol in mice {number}. Alone velotrazine does not."
        (folder / f"n{number}.txt").write_text(text, encoding="utf-8")
    (folder / "p.txt").write_text("7|t|Velotrazine and nalexpidol.\n7|a|\n")
    (folder / "terms.tsv").write_text("velotrazine\tdrug\tX1\nnalexpidol\tdrug\tX2\n")
    return folder


def test_a_stream_of_plain_text(tmp_path: Path, run: biorel.Run, texts: Path) -> None:
    terms = texts / "terms.tsv"
    table = biorel.predict_documents(run.model, texts, entities=terms)
    assert isinstance(table, pd.DataFrame)
    assert table["document"].tolist() == ["n0", "n1", "n2", "7"]
    assert set(table["concept1"]) == {"X1"}
    assert table["entity1"].tolist() == ["Velotrazine"] * 4
    files = [texts / f"n{number}.txt" for number in range(3)]
    stream = biorel.predict_documents(
        run.model, [*files, texts / "p.txt"], tmp_path / "out", entities=terms, progress=False
    )
    assert isinstance(stream, biorel.DocumentPredictions)
    pd.testing.assert_frame_equal(stream.table().drop(columns="file"), table.drop(columns="file"), check_dtype=False)
    # The same list resumes, another one does not.
    again = biorel.predict_documents(
        run.model, [*files, texts / "p.txt"], tmp_path / "out", entities=biorel.Dictionary(terms), progress=False
    )
    assert len(again.table()) == 4
    with pytest.raises(biorel.ConfigError):
        biorel.predict_documents(
            run.model, [*files, texts / "p.txt"], tmp_path / "out", entities={"a": "drug"}, progress=False
        )
    with pytest.raises(biorel.ConfigError, match="only a list of terms can be searched in a stream"):
        biorel.predict_documents(run.model, texts, tmp_path / "more", entities=lambda text: [])
    written = biorel.predict_documents(
        run.model, files, tmp_path / "bioc", entities=terms, format="bioc-json", progress=False
    )
    [part] = (tmp_path / "bioc" / "relations").iterdir()
    assert [len(one.entities) for one in biorel.read_documents(part)] == [3, 3, 3]
    assert written.pairs == 3


def test_errors_raise_or_skip_alike(tmp_path: Path, run: biorel.Run) -> None:
    good = "1|t|Velotrazine and nalexpidol.\n1|a|\n1\t0\t11\tVelotrazine\tdrug\n1\t16\t26\tnalexpidol\tdrug\n\n"
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.txt"
    path.write_text(
        f"{good}2|t|A\n2\t0\t9\tA\tdrug\n\n{good.replace('1|', '3|').replace(chr(10) + '1', chr(10) + '3')}"
    )
    with pytest.raises(biorel.CorpusError, match=r"a\.txt:7: document 2"):
        biorel.predict_documents(run.model, path)
    with pytest.warns(UserWarning, match=r"skipped: .*a\.txt:7: document 2"):
        table = biorel.predict_documents(run.model, path, errors="skip")
    assert isinstance(table, pd.DataFrame)
    assert table["document"].tolist() == ["1", "3"]
    mentions = "".join(f"9\t{a}\t{b}\t{name}\tdrug\n" for a, b, name in ((0, 1, "A"), (3, 4, "B"), (6, 7, "C")))
    (tmp_path / "b.txt").write_text(f"9|t|A, B, C.\n9|a|\n{mentions}")
    with pytest.warns(UserWarning, match="skipped: .*more than 1 pairs") as caught:
        biorel.predict_documents(run.model, tmp_path / "b.txt", errors="skip", max_pairs=1)
    assert len(caught) == 1
    stream = biorel.predict_documents(run.model, path, tmp_path / "out", progress=False)
    assert isinstance(stream, biorel.DocumentPredictions)
    assert stream.failed == 1
    with pytest.raises(biorel.CorpusError, match=r"a\.txt:7: document 2"):
        biorel.predict_documents(run.model, path, tmp_path / "strict", errors="raise", progress=False)
    with pytest.raises(biorel.ConfigError, match="errors: `warn` is unknown; choose raise or skip"):
        biorel.predict_documents(run.model, path, errors="warn")  # type: ignore[arg-type]


def test_the_command_line(tmp_path: Path, run: biorel.Run, texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.model.save(tmp_path / "model")
    arguments = ["predict", "--entities", str(texts / "terms.tsv"), str(tmp_path / "model"), str(texts / "n0.txt")]
    assert main([*arguments, "--format", "jsonl"]) == 0
    [row] = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["document"], row["entity1"], row["entity2"], row["concept2"]) == (
        "n0",
        "Velotrazine",
        "nalexpidol",
        "X2",
    )
    assert main([*arguments, "--case", "sensitive", "--format", "jsonl"]) == 0
    assert capsys.readouterr().out == ""
    assert main([*arguments, "--output", str(tmp_path / "out"), "--no-progress"]) == 0
    assert "1 documents, 1 pairs" in capsys.readouterr().err
    for more, message in [
        (["--entity-types", "drug"], "applies to --entities gliner only"),
        (["--entities", "gliner", "--output", "x"], "only a file of terms can be searched"),
        (["--entities", str(tmp_path / "gone.tsv")], "gone.tsv"),
    ]:
        assert main([*arguments, *more]) == 1
        assert message in capsys.readouterr().err, more
    (texts / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    assert main([*arguments, str(texts / "bad.txt"), "--errors", "raise"]) == 1
    assert "bad.txt:1: is not UTF-8" in capsys.readouterr().err
    assert main([*arguments, str(texts / "bad.txt"), "--format", "jsonl"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert "not used: " in captured.err
