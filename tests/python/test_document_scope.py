"""Document scope: pairs of concepts in whole documents, from a corpus to scores, predictions and streams."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import biorel
import numpy as np
import pandas as pd
import pytest
from biorel.cli.main import main
from child_process import kill_after, start_python
from tiny_bert import write_encoder

SETTINGS: dict[str, Any] = {"head": "entity-attention", "marking": "levitated-visible", "max_length": 250}
SETTINGS |= {"max_steps": 6, "learning_rate": 1e-3, "progress": False}
NAMES = ["Testol", "Placebol", "Ibutest", "Nalexidol"]
DISEASES = ["asthma", "fever", "headache"]


def abstracts(count: int, seed: int, *, prefix: str = "", sentences: int = 4) -> str:
    """Abstracts in PubTator's format whose relations cross sentences."""
    numbers = random.Random(seed)
    text = ""
    for name in (f"{prefix}{number}" for number in range(count)):
        title, body, rows = "A study.", "", ""
        for _ in range(sentences):
            drug, disease = numbers.randrange(len(NAMES)), numbers.randrange(len(DISEASES))
            start = len(title) + 1 + len(body)
            body += f"{NAMES[drug]} was given. The {DISEASES[disease]} was seen. "
            end = start + len(NAMES[drug])
            rows += f"{name}\t{start}\t{end}\t{NAMES[drug]}\tChemical\tC{drug}\n"
            start = end + len(" was given. The ")
            rows += f"{name}\t{start}\t{start + len(DISEASES[disease])}\t{DISEASES[disease]}\tDisease\tD{disease}\n"
        present = sorted({row.split("\t")[5] for row in rows.splitlines()})
        pairs = [(one, other) for one in present for other in present if one[0] == "C" and other[0] == "D"]
        for first, second in numbers.sample(pairs, min(2, len(pairs))):
            rows += f"{name}\tcause\t{first}\t{second}\n"
        text += f"{name}|t|{title}\n{name}|a|{body}\n{rows}\n"
    return text


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> biorel.Encoder:
    """The tiny encoder with room for an abstract."""
    return biorel.load_encoder(write_encoder(tmp_path_factory.mktemp("tiny"), positions=250))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("abstracts")
    for split, count in {"train": 12, "test": 6}.items():
        (folder / f"{split}.txt").write_text(abstracts(count, count, prefix=split), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def corpus(source: Path) -> biorel.Corpus:
    return biorel.load_corpus("pubtator", source, scope="document")


@pytest.fixture(scope="module")
def run(corpus: biorel.Corpus, encoder: biorel.Encoder) -> biorel.Run:
    return biorel.finetune(corpus, encoder, **SETTINGS)


def probabilities(model: biorel.RelationModel, table: pd.DataFrame) -> np.ndarray:
    return table[[f"p_{label}" for label in model.labels]].to_numpy()


def test_a_corpus_has_pairs_of_concepts(source: Path, corpus: biorel.Corpus) -> None:
    rows = corpus.statistics().set_index("split")
    assert rows.loc["test", ["documents", "sentences", "lost"]].tolist() == [6, 6, 0]
    with pytest.raises(biorel.CorpusError, match="has no candidate pair"):  # all relations cross a sentence
        biorel.load_corpus("pubtator", source, pairs=[("Chemical", "Disease")])
    table = corpus.instances("test", "levitated-visible")
    assert (table.groupby("document")["text"].nunique() == 1).all()
    assert not table.duplicated(["document", "concept1", "concept2"]).any()
    assert (table["sentence"] == table["document"]).all()
    gold = {
        (document.id, *names)
        for document in biorel.read_documents(source / "test.txt")
        for names in document.relations[["entity1", "entity2"]].itertuples(index=False, name=None)
    }
    found = table[table["label"] == "cause"]
    assert set(zip(found["document"], found["concept1"], found["concept2"], strict=True)) == gold


def test_the_command_line_takes_the_scope(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["statistics", "pubtator", str(source)]
    assert main([*command, "--scope", "document", "--max-mentions", "2"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:3] for row in rows if row[0] == "test"] == [["test", "6", "6"]]
    assert main(command) == 1
    assert "no relation joins two mentions of one sentence" in capsys.readouterr().err


def test_markings_for_two_mentions_are_refused(corpus: biorel.Corpus, encoder: biorel.Encoder) -> None:
    with pytest.raises(biorel.ConfigError, match="marking: `typed` marks two mentions, and a pair of concepts"):
        biorel.finetune(corpus, encoder, **SETTINGS | {"marking": "typed"})
    with pytest.raises(biorel.ConfigError, match="scope: does not apply to a table"):
        biorel.load_corpus("table", pd.DataFrame(), scope="document")
    with pytest.raises(biorel.ConfigError, match="max_mentions: must be at least 1, not 0"):
        biorel.load_corpus("pubtator", "x", scope="document", max_mentions=0)
    with pytest.raises(biorel.ConfigError, match="scope: `paragraph` is unknown"):
        biorel.load_corpus("pubtator", "x", scope="paragraph")  # type: ignore[arg-type]


def test_documents_files_and_sentences_have_the_same_predictions(run: biorel.Run, source: Path, tmp_path: Path) -> None:
    """One computation behind a corpus, documents in memory, a stream, and dicts."""
    model = run.model
    of_corpus = run.predictions("test")
    documents = list(biorel.read_documents(source / "test.txt"))
    found = biorel.predict_documents(model, documents)
    assert isinstance(found, pd.DataFrame)
    assert found[["document", "concept1", "concept2"]].equals(of_corpus[["document", "concept1", "concept2"]])
    np.testing.assert_array_equal(probabilities(model, found), probabilities(model, of_corpus))
    written = biorel.predict_documents(model, source / "test.txt", tmp_path / "out", part_documents=2, progress=False)
    assert isinstance(written, biorel.DocumentPredictions)
    streamed = written.table()
    assert streamed["concept1"].tolist() == found["concept1"].tolist()
    np.testing.assert_allclose(probabilities(model, streamed), probabilities(model, found), atol=1e-6)
    dicts = [
        {
            "id": document.id,
            "text": document.text,
            "entities": document.entities[["start", "end", "type", "concept"]].to_dict("records"),
        }
        for document in documents
    ]
    table = model.predict(dicts)
    assert table["concept2"].tolist() == found["concept2"].tolist()
    assert table["start1"].tolist() == found["start1"].tolist()
    np.testing.assert_array_equal(probabilities(model, table), probabilities(model, found))


def test_a_pair_has_the_same_probabilities_whatever_else_is_asked(run: biorel.Run, source: Path) -> None:
    documents = list(biorel.read_documents(source / "test.txt"))
    all_ = biorel.predict_documents(run.model, documents)
    alone = pd.concat([biorel.predict_documents(run.model, [document]) for document in reversed(documents)])
    assert isinstance(all_, pd.DataFrame)
    key = ["document", "concept1", "concept2"]
    both = [table.sort_values(key).reset_index(drop=True) for table in (all_, alone)]
    np.testing.assert_array_equal(*(probabilities(run.model, table) for table in both))
    # The mentions of two concepts only: the text does not change, and neither does their pair.
    document = documents[0]
    entities = document.entities[document.entities["concept"].isin(all_.loc[0, ["concept1", "concept2"]])]
    rows = entities[["start", "end", "type", "concept"]].to_dict("records")
    only = run.model.predict([{"text": document.text, "entities": rows}])
    assert len(only) == 1
    np.testing.assert_array_equal(probabilities(run.model, only)[0], probabilities(run.model, all_)[0])


def test_a_saved_model_keeps_its_scope(run: biorel.Run, source: Path, tmp_path: Path) -> None:
    run.model.save(tmp_path / "model")
    card = json.loads((tmp_path / "model" / "biorel.json").read_text())
    assert card["task"]["scope"] == "document"
    loaded = biorel.load(tmp_path / "model")
    assert loaded.hash == run.model.hash
    both = [biorel.predict_documents(model, source / "test.txt") for model in (loaded, run.model)]
    np.testing.assert_array_equal(*(probabilities(run.model, table) for table in both))  # type: ignore[arg-type]


def test_scores_of_the_corpus_are_those_of_its_concepts(run: biorel.Run, source: Path) -> None:
    documents = list(biorel.read_documents(source / "test.txt"))
    found = biorel.predict_documents(run.model, documents)
    assert isinstance(found, pd.DataFrame)
    scores = biorel.concept_scores(documents, found).set_index("class")
    own = run.score("test").set_index("class")
    columns = ["precision", "recall", "f1"]
    np.testing.assert_allclose(scores.loc["cause", columns].astype(float), own.loc["cause", columns].astype(float))
    assert scores.loc["micro", "unreachable"] == 0


def test_predicted_relations_are_written_with_their_concepts(run: biorel.Run, source: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"format": "pubtator-relations", "progress": False}
    written = biorel.predict_documents(run.model, source / "test.txt", tmp_path / "out", **options)
    assert isinstance(written, biorel.DocumentPredictions)
    lines = [
        line.split("\t")
        for path in sorted((tmp_path / "out" / "relations").iterdir())
        for line in path.read_text().splitlines()
    ]
    table = biorel.predict_documents(run.model, source / "test.txt", related_only=True)
    assert isinstance(table, pd.DataFrame)
    key = ["document", "relation", "concept1", "concept2"]
    assert sorted(line[:4] for line in lines) == sorted(map(list, table[key].itertuples(index=False, name=None)))


def test_long_documents_are_classified_in_windows(run: biorel.Run, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text(abstracts(3, 5, sentences=40), encoding="utf-8")
    table = biorel.predict_documents(run.model, path)
    assert isinstance(table, pd.DataFrame)
    assert table["relation"].notna().all()
    assert table.attrs["counts"]["repaired: a long document is cut to a window"] == len(table)
    again = biorel.predict_documents(run.model, [next(iter(biorel.read_documents(path)))])
    assert isinstance(again, pd.DataFrame)
    first = table[table["document"] == "0"]
    np.testing.assert_array_equal(probabilities(run.model, again), probabilities(run.model, first))


def test_max_mentions_and_max_pairs(source: Path, run: biorel.Run, tmp_path: Path) -> None:
    fewer = biorel.load_corpus("pubtator", source, scope="document", max_mentions=1)
    assert (
        fewer.instances("test")
        .drop(columns="id")
        .equals(biorel.load_corpus("pubtator", source, scope="document").instances("test").drop(columns="id"))
    ), "the nearest mentions are the same"
    with pytest.raises(biorel.CorpusError, match="more than 2 pairs; raise max_pairs"):
        biorel.predict_documents(run.model, source / "test.txt", max_pairs=2)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_killed_stream_resumes_to_the_same_parts(run: biorel.Run, tmp_path: Path) -> None:
    """Each kill comes after another part was written; the last call ends the stream."""
    folder, source = tmp_path / "model", tmp_path / "abstracts.txt"
    run.model.save(folder)
    model = biorel.load(folder)
    source.write_text(abstracts(60, 5, sentences=8), encoding="utf-8")
    program = (
        "import sys, biorel\n"
        "model = biorel.load(sys.argv[1])\n"
        "biorel.predict_documents(model, sys.argv[2], sys.argv[3], part_documents=3, progress=False)\n"
    )
    once, killed = tmp_path / "once", tmp_path / "killed"
    biorel.predict_documents(model, source, once, part_documents=3, progress=False)
    parts = {path.name: path.read_bytes() for path in (once / "relations").iterdir()}
    assert len(parts) == 20
    kills = 0
    for _ in range(3):
        before = len(list((killed / "relations").glob("*")))
        process = start_python(program, folder, source, killed)
        kills += kill_after(lambda before=before: len(list((killed / "relations").glob("*"))) > before, process)
        process.wait()
    assert kills
    found = biorel.predict_documents(model, source, killed, part_documents=3, progress=False)
    assert {path.name: path.read_bytes() for path in (killed / "relations").glob("*")} == parts
    assert isinstance(found, biorel.DocumentPredictions)
    assert found.table()["document"].nunique() == 60
