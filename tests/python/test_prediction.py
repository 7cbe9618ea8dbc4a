"""Prediction of documents as a stream: the same rows whatever interrupts it.

One long file, because all tests share one trained model, its documents and the expected rows.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pickle
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import biorel
import numpy as np
import pandas as pd
import pytest
from biorel import _journal
from biorel.cli.main import main
from biorel.prediction import output_directory
from biorel.prediction.output_directory import PredictionDirectory
from child_process import kill_after, start_python, wait_until

KILLS = 3
DOCUMENTS = 40


def documents(count: int = DOCUMENTS) -> list[biorel.Document]:
    """Abstracts of a few sentences of the sample, with its drugs."""
    corpus = biorel.load_sample("ddi")._core
    texts = pd.DataFrame(corpus.sentences("train"))
    names = biorel.load_sample("ddi").instances("train", "markers")
    drugs = sorted({*names["entity1"], *names["entity2"]}, key=len, reverse=True)
    rows, entities = [], []
    for number in range(count):
        text = " ".join(texts["text"][(3 * number + offset) % len(texts)] for offset in range(3))
        taken: list[tuple[int, int]] = []
        for drug in drugs:
            start = text.find(drug)
            while start >= 0:
                span = (start, start + len(drug))
                if all(span[1] <= a or b <= span[0] for a, b in taken):
                    taken.append(span)
                start = text.find(drug, start + 1)
        rows.append({"document": str(1000 + number), "text": text})
        for start, end in sorted(taken):
            entities.append({"document": str(1000 + number), "start": start, "end": end, "type": "Drug"})
    return biorel.documents_from_tables(pd.DataFrame(rows), pd.DataFrame(entities))


@pytest.fixture(scope="module")
def model(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path_factory: pytest.TempPathFactory
) -> biorel.RelationModel:
    """A model that finds some relations."""
    settings = {"max_length": 96, "max_steps": 60, "learning_rate": 3e-3, "class_weights": "balanced"}
    run = biorel.finetune(ddi, encoder, **settings, progress=False)  # type: ignore[arg-type]
    directory = tmp_path_factory.mktemp("models") / "tiny"
    run.model.save(directory)
    return biorel.load(directory, threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files, one of them compressed; two documents are malformed."""
    folder = tmp_path_factory.mktemp("documents")
    given = documents()
    biorel.write_documents(given[:10], folder / "a.txt")
    biorel.write_documents(given[10:30], folder / "b.txt")
    text = (folder / "b.txt").read_bytes()
    (folder / "b.txt").unlink()
    bad = b"2000|t|A title\n2000\t0\t5\tNo\tDrug\n\n"
    (folder / "b.txt.gz").write_bytes(gzip.compress(text + bad) + gzip.compress(bad.replace(b"2000", b"2001")))
    biorel.write_documents(given[30:], folder / "c.txt")
    return folder


@pytest.fixture(scope="module")
def expected(model: biorel.RelationModel) -> pd.DataFrame:
    """The rows of all good documents."""
    table = biorel.predict_documents(model, documents())
    assert isinstance(table, pd.DataFrame)
    return table.drop(columns="file")


def stream(model: biorel.RelationModel, folder: Path, output: Path, **settings: Any) -> biorel.DocumentPredictions:
    found = biorel.predict_documents(model, folder, output, **({"part_documents": 7, "progress": False} | settings))
    assert isinstance(found, biorel.DocumentPredictions)
    return found


def same(found: pd.DataFrame, expected: pd.DataFrame, *, order: bool = True) -> None:
    found = found.drop(columns="file")
    if not order:
        keys = ["document", "start1", "start2"]
        found, expected = (table.sort_values(keys, ignore_index=True) for table in (found, expected))
    # Bits depend on which sentences share a batch; rows must be the same ones.
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=1e-4, atol=1e-6)


def test_rows_match_predictions_of_the_sentences(model: biorel.RelationModel, expected: pd.DataFrame) -> None:
    document = documents(1)[0]
    sentences = []
    for start, text, names in document.sentences.itertuples(index=False):
        own = document.entities[document.entities["id"].isin(names)].sort_values("start")
        entities = [{"start": a - start, "end": b - start, "type": "drug"} for a, b in own[["start", "end"]].values]
        sentences.append({"text": text, "entities": entities})
    table = model.predict(sentences)
    found = expected[expected["document"] == "1000"]
    assert len(table) == len(found) > 0
    np.testing.assert_allclose(table.filter(like="p_"), found.filter(like="p_"), rtol=1e-4, atol=1e-6)
    assert table["relation"].tolist() == found["relation"].tolist()
    for side in ("1", "2"):
        texts = [document.text[a:b] for a, b in found[[f"start{side}", f"end{side}"]].values]
        assert texts == found[f"entity{side}"].tolist() == table[f"entity{side}"].tolist()
    assert found["model"].unique().tolist() == [model.identity]
    assert model.identity.startswith("tiny@")
    assert model.hash.startswith(model.identity[5:])


@pytest.mark.parametrize("format", ["jsonl", "tsv", "parquet"])
def test_a_stream_gives_the_same_rows(
    model: biorel.RelationModel, folder: Path, expected: pd.DataFrame, tmp_path: Path, format: str
) -> None:
    found = stream(model, folder, tmp_path / "out", format=format)
    same(found.table(), expected)
    assert (found.documents, found.failed, found.pairs) == (DOCUMENTS, 2, len(expected))
    errors = found.errors()
    assert errors["document"].isna().all()
    assert errors["line"].tolist()[0] > 1
    assert errors["reason"].tolist()[0].startswith("document 2000: a mention has offsets 0-5, which is `A tit`")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["errors.jsonl", "lock", "manifest.json", "parts.jsonl", "relations"]
    assert len(list((tmp_path / "out" / "relations").iterdir())) == 6
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["totals"]["rows"] == len(expected)
    assert manifest["model_hash"] == model.hash
    # A second call has nothing to do.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.name != "lock"}
    same(stream(model, folder, tmp_path / "out", format=format).table(), expected)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_parquet_opens_as_one_table(
    model: biorel.RelationModel, folder: Path, expected: pd.DataFrame, tmp_path: Path
) -> None:
    stream(model, folder, tmp_path / "out", format="parquet", shard=(1, 2))
    stream(model, folder, tmp_path / "out", format="parquet", shard=(2, 2))
    same(pd.read_parquet(tmp_path / "out" / "relations"), expected, order=False)


@pytest.mark.parametrize("shards", [2, 5])
def test_shards_share_the_documents(
    model: biorel.RelationModel, folder: Path, expected: pd.DataFrame, tmp_path: Path, shards: int
) -> None:
    parts = [stream(model, folder, tmp_path / "out", shard=(number + 1, shards)) for number in range(shards)]
    assert sum(part.documents for part in parts) == DOCUMENTS
    assert sum(part.failed for part in parts) == 2
    assert max(part.documents for part in parts) - min(part.documents for part in parts) <= 3
    same(pd.concat([part.table() for part in parts], ignore_index=True), expected, order=False)
    with pytest.raises(biorel.ConfigError, match=f"was started with {shards} shards, not 1"):
        stream(model, folder, tmp_path / "out")
    with pytest.raises(biorel.ConfigError, match="shard: there is no shard 3 of 2"):
        stream(model, folder, tmp_path / "other", shard=(3, 2))


def test_many_files_are_sharded_by_file(model: biorel.RelationModel, expected: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, document in enumerate(documents()):
        biorel.write_documents([document], tmp_path / "in" / f"{number:02}.txt")
    parts = [stream(model, tmp_path / "in", tmp_path / "out", shard=(number, 3)) for number in (1, 2, 3)]
    assert [part.documents for part in parts] == [14, 13, 13]
    same(pd.concat([part.table() for part in parts], ignore_index=True), expected, order=False)


class Killed(BaseException):
    """An exception that no code catches by mistake."""


@pytest.mark.parametrize("moment", range(1, 14, 2))
@pytest.mark.parametrize("point", ["write", "rename", "errors", "line"])
def test_a_run_resumes_wherever_it_was_stopped(  # noqa: PLR0917
    model: biorel.RelationModel,
    folder: Path,
    expected: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: int,
    point: str,
) -> None:
    calls = 0

    def stop(when: bool) -> None:
        nonlocal calls
        calls += when
        if calls == moment and when:
            calls += 1
            raise Killed

    replace, append = Path.replace, _journal.append_lines

    def interrupted_replace(self: Path, target: Path) -> Path:
        if "relations" in str(target):
            stop(point == "write")
        done = replace(self, target)
        if "relations" in str(target):
            stop(point == "rename")
        return done

    def interrupted_append(path: Path, lines: list[str]) -> int:
        wanted = "errors" if path.name.startswith("errors") else "line"
        if lines and point == wanted:
            try:
                stop(True)
            except Killed:
                with path.open("ab") as file:  # half of the line is on disk
                    file.write(lines[0][: len(lines[0]) // 2].encode())
                raise
        return append(path, lines)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupted_replace)
        for module in (_journal, output_directory):
            patched.setattr(module, "append_lines", interrupted_append)
        with contextlib.suppress(Killed):
            stream(model, folder, tmp_path / "out")
    assert calls >= min(moment, {"errors": 1}.get(point, 6))
    found = stream(model, folder, tmp_path / "out")
    same(found.table(), expected)
    assert len(found.errors()) == 2
    files = [path.name for path in (tmp_path / "out" / "relations").iterdir()]
    assert sorted(files) == [f"part-{number:06}.jsonl" for number in range(6)]


PREDICT = """
import sys, biorel
model, source, output = sys.argv[1:]
print("started", flush=True)
biorel.predict_documents(biorel.load(model, threads=1), source, output, part_documents=2, progress=False)
"""


def start(model: Path, source: Path, output: Path) -> subprocess.Popen[bytes]:
    process = start_python(PREDICT, model, source, output, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


def finished_parts(output: Path) -> int:
    path = output / "parts.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough documents to kill a run before its end."""
    folder = tmp_path_factory.mktemp("larger")
    biorel.write_documents(documents(160), folder / "all.json")
    return folder


def test_a_killed_run_resumes_to_the_same_bytes(model: biorel.RelationModel, larger: Path, tmp_path: Path) -> None:
    saved = tmp_path / "tiny"
    model.save(saved)
    assert start(saved, larger, tmp_path / "uninterrupted").wait() == 0
    output = tmp_path / "killed"
    delays = random.Random(7)
    for _ in range(KILLS):
        before = finished_parts(output)
        process = start(saved, larger, output)
        killed = kill_after(lambda: finished_parts(output) != before, process, delay=delays.uniform(0, 0.02))  # noqa: B023
        assert killed, "the run ended before it could be killed: give it more documents"
    assert start(saved, larger, output).wait() == 0

    def content(directory: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (directory / "relations").iterdir()}

    assert content(output) == content(tmp_path / "uninterrupted")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_leaves_a_directory_that_resumes(model: biorel.RelationModel, larger: Path, tmp_path: Path) -> None:
    saved = tmp_path / "tiny"
    model.save(saved)
    # Background jobs of a shell ignore SIGINT, and their children inherit that.
    code = "import signal, sys; from biorel.cli.main import main\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main(sys.argv[1:]))"
    command = ["predict", str(saved), "--input", str(larger), "--output", str(tmp_path / "out")]
    command += ["--part-documents", "2", "--threads", "1", "--no-progress"]
    process = start_python(code, *command, stderr=subprocess.PIPE)
    wait_until(lambda: finished_parts(tmp_path / "out") >= 3, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert b"run the same command again" in errors
    done = finished_parts(tmp_path / "out")
    assert 3 <= done < 80
    assert main(command) == 0
    assert finished_parts(tmp_path / "out") == 80


def test_a_directory_of_another_run_is_refused(model: biorel.RelationModel, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    stream(model, folder, output)
    for settings, message in [
        ({"part_documents": 8}, "part_documents 7, not 8"),
        ({"format": "tsv"}, "format 'jsonl', not 'tsv'"),
        ({"types": {"Drug": "brand"}}, "Drug None, not 'brand'"),
    ]:
        with pytest.raises(biorel.ConfigError, match=message):
            stream(model, folder, output, **settings)
    biorel.write_documents(documents(1), folder / "z.txt")
    try:
        with pytest.raises(biorel.ConfigError, match="files 3, not 4"):
            stream(model, folder, output)
    finally:
        (folder / "z.txt").unlink()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").touch()
    with pytest.raises(biorel.ConfigError, match=r"contains other files \(thesis.doc\)"):
        stream(model, folder, tmp_path / "other")
    part = next((output / "relations").iterdir())
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(biorel.ConfigError, match="is missing or has changed"):
        stream(model, folder, output)


def test_two_runs_do_not_write_concurrently(model: biorel.RelationModel, folder: Path, tmp_path: Path) -> None:
    plan = {"format": "jsonl"}
    first = PredictionDirectory(tmp_path / "out", plan, [(str(folder / "a.txt"), "pubtator")], (1, 1), {})
    with first.locked(), pytest.raises(biorel.ConfigError, match="another run is working"):
        stream(model, folder / "a.txt", tmp_path / "out")


def test_types_are_mapped_counted_and_checked(model: biorel.RelationModel, tmp_path: Path) -> None:
    text = "1|t|Testol with cdol.\n1|a|\n1\t0\t6\tTestol\tChemical\n1\t12\t16\tcdol\tChemical\n"
    (tmp_path / "a.txt").write_text(text)
    with pytest.warns(UserWarning, match="no pair was formed.*--type Chemical=drug"):
        table = biorel.predict_documents(model, tmp_path / "a.txt")
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 0
    assert "p_effect" in table.columns
    what = 'skipped: an entity of type "Chemical", which the model does not know, forms no pair'
    assert table.attrs["counts"] == {what: 2}
    table = biorel.predict_documents(model, tmp_path / "a.txt", types={"Chemical": "drug"})
    assert isinstance(table, pd.DataFrame)
    assert table[["type1", "concept1"]].values.tolist() == [["Chemical", ""]]
    with pytest.raises(biorel.ConfigError, match=r"types: `Chemical` is to be `gene`, which the model does not know"):
        biorel.predict_documents(model, tmp_path / "a.txt", types={"Chemical": "gene"})
    (tmp_path / "a.txt").write_text(text + "1\t7\t11\twith\tChemical\n")
    with pytest.raises(biorel.CorpusError, match=r"a.txt:1: document 1: more than 2 pairs; raise max_pairs"):
        biorel.predict_documents(model, tmp_path / "a.txt", types={"Chemical": "drug"}, max_pairs=2)


def test_a_huge_sentence_is_refused_before_memory_is_allocated(model: biorel.RelationModel) -> None:
    texts = pd.DataFrame({"document": ["d"], "text": ["ab " * 20_000]})
    entities = pd.DataFrame({"document": "d", "start": range(0, 60_000, 3), "end": range(2, 60_002, 3), "type": "drug"})
    with pytest.raises(biorel.CorpusError, match="more than 100000 pairs"):
        biorel.predict_documents(model, biorel.documents_from_tables(texts, entities))


@pytest.mark.parametrize(
    ("name", "format"), [("all.txt", "pubtator"), ("all.json", "bioc-json"), ("all.xml", "bioc-xml")]
)
def test_documents_are_written_with_their_relations(
    model: biorel.RelationModel, expected: pd.DataFrame, tmp_path: Path, name: str, format: str
) -> None:
    given = documents()
    biorel.write_documents(given, tmp_path / name)
    stream(model, tmp_path / name, tmp_path / "out", format="same", part_documents=15)
    back = list(biorel.read_documents(tmp_path / "out" / "relations", format))  # type: ignore[arg-type]
    assert [one.id for one in back] == [one.id for one in given]
    related = expected[expected["relation"] != "false"]
    found = []
    for document in back:
        spans = document.entities.set_index("id")[["start", "end"]].apply(tuple, axis=1).to_dict()
        for label, first, second in document.relations[["type", "entity1", "entity2"]].itertuples(index=False):
            found.append((document.id, label, spans[first], spans[second]))
    wanted = [
        (row.document, row.relation, (row.start1, row.end1), (row.start2, row.end2)) for row in related.itertuples()
    ]
    assert sorted(found) == sorted(wanted)
    assert len(wanted) > 20
    (tmp_path / "lines").mkdir()
    stream(model, tmp_path / name, tmp_path / "lines" / "out", format="pubtator-relations")
    text = "".join(path.read_text() for path in sorted((tmp_path / "lines" / "out" / "relations").iterdir()))
    rows = [line.split("\t") for line in text.splitlines()]
    assert len(rows) == len(wanted)
    assert {len(row) for row in rows} == {6}
    assert {row[5] for row in rows} == {model.identity}


@pytest.mark.parametrize("format", ["jsonl", "tsv", "parquet"])
def test_a_table_without_rows_has_its_columns(
    model: biorel.RelationModel, expected: pd.DataFrame, tmp_path: Path, format: str
) -> None:
    (tmp_path / "a.txt").write_text("1|t|Nothing here.\n1|a|\n")
    table = stream(model, tmp_path / "a.txt", tmp_path / "out", format=format).table()
    assert len(table) == 0
    assert table.columns.tolist() == ["file", *expected.columns]
    numbers = [*expected.filter(like="p_").columns, "start1", "end1", "start2", "end2"]
    assert table[numbers].dtypes.tolist() == expected[numbers].dtypes.tolist()


def test_related_only_and_threshold(
    model: biorel.RelationModel, folder: Path, expected: pd.DataFrame, tmp_path: Path
) -> None:
    threshold = float(expected["probability"].quantile(0.6))
    wanted = expected[(expected["relation"] != "false") & (expected["probability"] >= threshold)]
    found = stream(model, folder, tmp_path / "out", related_only=True, threshold=threshold).table()
    assert 0 < len(found) < len(expected)
    assert abs(len(found) - len(wanted)) <= 1  # one may be at the threshold up to rounding
    assert (found["relation"] != "false").all()
    assert (found["probability"] >= threshold * 0.9999).all()


@pytest.mark.parametrize("threshold", [2, -0.1, float("nan"), "x", None])
def test_thresholds_that_are_no_probabilities(model: biorel.RelationModel, threshold: Any) -> None:
    with pytest.raises(biorel.ConfigError, match=r"threshold: must be from 0 to 1, not "):
        biorel.predict_documents(model, documents(1), threshold=threshold)
    with pytest.raises(biorel.ConfigError, match=r"threshold: must be from 0 to 1, not "):
        biorel.Predictor(model, threshold=threshold)


def test_a_threshold_is_not_ignored(model: biorel.RelationModel, folder: Path, tmp_path: Path) -> None:
    for source, output in ((documents(1), {}), (folder, {"output": tmp_path / "out"})):
        with pytest.raises(biorel.ConfigError, match="threshold: leaves out relations only with related_only=True"):
            biorel.predict_documents(model, source, threshold=0.5, **output)  # type: ignore[arg-type]
    found = biorel.predict_documents(model, documents(20), related_only=True, threshold=0.5, progress=False)
    assert isinstance(found, pd.DataFrame)
    assert (found["probability"] >= 0.5).all()
    with pytest.raises(biorel.ConfigError, match="types: must be a dict of their names and the model's"):
        biorel.predict_documents(model, documents(1), types=["drug"])  # type: ignore[arg-type]


def test_numbers_of_numpy_are_the_same_run(model: biorel.RelationModel, folder: Path, tmp_path: Path) -> None:
    numbers: dict[str, Any] = {"part_documents": np.int64(2), "part_pairs": np.int64(64), "max_pairs": np.int64(1000)}
    numbers |= {"shard": (np.int64(1), np.int64(1)), "threshold": np.float64(0.25), "related_only": True}
    found = stream(model, folder, tmp_path / "out", **numbers)
    plain: dict[str, Any] = {"part_documents": 2, "part_pairs": 64, "max_pairs": 1000}
    plain |= {"shard": (1, 1), "threshold": 0.25, "related_only": True}
    assert stream(model, folder, tmp_path / "out", **plain).pairs == found.pairs  # no other run
    for setting, wrong in (("part_documents", 0), ("part_pairs", "x"), ("max_pairs", 1.5)):
        with pytest.raises(biorel.ConfigError, match=f"{setting}: must be a whole number from 1, not "):
            stream(model, folder, tmp_path / "out", **{setting: wrong})


def test_arguments_of_another_kind(model: biorel.RelationModel, tmp_path: Path) -> None:
    wrong: Any
    for wrong, words in (("model", r"not str; load it with biorel\.load"), (None, "not NoneType; a run has `.model`")):
        with pytest.raises(TypeError, match=f"model must be a RelationModel, {words}"):
            biorel.predict_documents(wrong, documents(1))
    with pytest.raises(biorel.ConfigError, match="types: names of types are str"):
        biorel.predict_documents(model, documents(1), types={"Foo": 1})  # type: ignore[dict-item]
    for wrong, words in (
        (["a"], r"documents\[0\] must be a Document, not str"),
        ("a.txt", "must be a list of Document"),
    ):
        with pytest.raises(TypeError, match=words):
            biorel.write_documents(wrong, tmp_path / "a.txt")
        with pytest.raises(TypeError, match=words):
            biorel.documents_to_rows(wrong)
    with pytest.raises(TypeError, match=r"documents\[0\] must be a Document, not int"):
        biorel.load_corpus("documents", [1])  # type: ignore[list-item]
    for wrong in ("x", ["x"], ["ab"], [("a", "b", "c")], [("a", 1)]):
        with pytest.raises(biorel.ConfigError, match="pairs: a list of two types each"):
            biorel.load_corpus("documents", documents(1), pairs=wrong)


def test_a_pair_that_is_too_long_stays_in_the_table(model: biorel.RelationModel, tmp_path: Path) -> None:
    model.save(tmp_path / "tiny")
    # A maximum of 4 pieces: the two tags alone exceed it.
    card = json.loads((tmp_path / "tiny" / "biorel.json").read_text())
    card["training"]["max_length"] = 4
    (tmp_path / "tiny" / "biorel.json").write_text(json.dumps(card))
    text = "Testol with so many words between it and cdol."
    texts = pd.DataFrame({"document": ["d"], "text": [text]})
    spans = {"document": "d", "start": [0, text.index("cdol")], "end": [6, len(text) - 1], "type": "drug"}
    given = biorel.documents_from_tables(texts, pd.DataFrame(spans))
    table = biorel.predict_documents(biorel.load(tmp_path / "tiny"), given)
    assert isinstance(table, pd.DataFrame)
    assert table["entity1"].tolist() == ["Testol"]
    assert table[["relation", "probability", "p_false"]].isna().all(axis=None)
    what = "skipped: a pair whose entities do not fit into the model's length is not classified"
    assert table.attrs["counts"] == {what: 1}
    biorel.write_documents(given, tmp_path / "d.json")
    for format in ("jsonl", "tsv", "parquet"):
        found = stream(biorel.load(tmp_path / "tiny"), tmp_path / "d.json", tmp_path / format, format=format)
        assert found.table()[["relation", "probability", "p_false"]].isna().all(axis=None)


def test_a_truncated_or_missing_file_is_one_error(
    model: biorel.RelationModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a.txt", "c.txt"):
        (source / name).write_bytes((folder / name).read_bytes())
    packed = gzip.compress((folder / "a.txt").read_bytes())
    (source / "b.txt.gz").write_bytes(packed[: len(packed) // 2])
    (source / "bb.txt").write_text("7|t|Gone soon.\n7|a|\n")
    lock = PredictionDirectory.locked

    def lock_and_remove_a_file(self: PredictionDirectory) -> Any:
        (source / "bb.txt").unlink(missing_ok=True)
        return lock(self)

    monkeypatch.setattr(PredictionDirectory, "locked", lock_and_remove_a_file)
    (source / "notes.pdf").touch()
    with pytest.warns(UserWarning, match=r"1 files are skipped, such as .*notes\.pdf"):
        found = stream(model, source, tmp_path / "out")
    errors = found.errors()
    assert errors["file"].map(lambda path: Path(path).name).tolist() == ["b.txt.gz", "bb.txt"]
    assert "the compressed file is corrupt here" in errors["reason"][0]
    assert "No such file" in errors["reason"][1]
    assert found.documents >= 20


def test_a_full_disk_stops_the_run_and_it_resumes(
    model: biorel.RelationModel, folder: Path, expected: pd.DataFrame, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource", reason="limits of file sizes need POSIX")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            stream(model, folder, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in (tmp_path / "out").rglob("*") if ".partial" in path.name]
    same(stream(model, folder, tmp_path / "out").table(), expected)


def test_a_predictor_is_pickled_without_weights(
    model: biorel.RelationModel, expected: pd.DataFrame, tmp_path: Path
) -> None:
    model.save(tmp_path / "tiny")
    predictor = biorel.Predictor(tmp_path / "tiny", threads=1)
    first = predictor(documents())
    data = pickle.dumps(predictor)
    assert len(data) < 2_000
    again = pickle.loads(data)(documents())
    pd.testing.assert_frame_equal(first, again)
    same(first, expected)


def test_spacy_documents_are_classified(model: biorel.RelationModel) -> None:
    import spacy

    docs = []
    for text in ("Testol raises cdol.", "Nothing here."):
        doc = spacy.blank("en")(text)
        if "cdol" in text:
            doc.ents = [doc.char_span(0, 6, label="drug"), doc.char_span(14, 18, label="drug")]
        docs.append(doc)
    table = biorel.predict_documents(model, iter(docs))
    assert isinstance(table, pd.DataFrame)
    assert table[["document", "entity1", "entity2"]].values.tolist() == [["doc0", "Testol", "cdol"]]
    assert len(biorel.predict_documents(model, [])) == 0  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source must be paths, or contain Document or spaCy Doc objects, not int"):
        biorel.predict_documents(model, [1])
    with pytest.raises(biorel.ConfigError, match="only files can be streamed to"):
        biorel.predict_documents(model, docs, "out")


def test_the_command_line(
    model: biorel.RelationModel,
    folder: Path,
    expected: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model.save(tmp_path / "tiny")
    command = ["predict", str(tmp_path / "tiny"), "--threads", "1", "--no-progress"]
    documents_in = ["--input", str(folder)]
    output = ["--output", str(tmp_path / "out")]
    assert main([*command, *documents_in, *output, "--type", "Drug=drug"]) == 0
    output_of = capsys.readouterr()
    assert f"{DOCUMENTS} documents, {len(expected)} pairs" in output_of.err
    assert output_of.out == ""
    assert "2 documents could not be used" in output_of.err
    table = pd.concat([pd.read_json(path, lines=True) for path in sorted((tmp_path / "out" / "relations").iterdir())])
    assert len(table) == len(expected)
    for wrong, message in [
        ([], "input: give a table, sentences or documents"),
        (["x.jsonl", *documents_in], "input: give a table, sentences or documents"),
        ([*documents_in, *output, "--shard", "1of2"], "shard: `1of2` is not of the form 3/10"),
        ([*documents_in, *output, "--type", "Drug"], "type: `Drug` is not of the form THEIRS=OURS"),
        ([*documents_in, *output, "--format", "csv"], "format: `csv` is unknown; choose one of jsonl, tsv"),
        ([*documents_in, *output, "--format", "tsv"], "was started with format 'jsonl', not 'tsv'"),
        (["x.jsonl", *output], "must end in .tsv, .csv or .jsonl"),
    ]:
        assert main([*command, *wrong]) == 1
        assert message in capsys.readouterr().err
