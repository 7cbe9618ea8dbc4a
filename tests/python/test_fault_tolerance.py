"""Prediction from many threads, after fork and spawn; edge-case texts; full disks, read-only folders, missing files."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest
from child_process import start_python
from edge_case_texts import EDGE_CASES, LONG, sentence
from tiny_bert import write_encoder


@pytest.fixture(scope="module")
def saved(run: biorel.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    run.model.save(folder)
    return folder


SENTENCES = [sentence(before="x " * n) for n in range(20)]


def test_concurrent_threads_predict_the_same(run: biorel.Run) -> None:
    expected = run.model.predict(SENTENCES)
    with ThreadPoolExecutor(16) as threads:
        for table in threads.map(lambda _: run.model.predict(SENTENCES), range(48)):
            pd.testing.assert_frame_equal(table, expected)


def predict_in_child(folder: str, sentences: list[dict[str, Any]]) -> pd.DataFrame:
    return biorel.load(folder, threads=1).predict(sentences)


def run_script(folder: Path, name: str, code: str, **environment: str) -> str:
    """Run a script in its own process, with a timeout so that a hang is a failure."""
    script = folder / f"{name}.py"
    before = f"""
        import os, multiprocessing, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import biorel
        import pandas as pd
        import test_fault_tolerance as tests
    """
    script.write_text(textwrap.dedent(before) + textwrap.dedent(code))
    command = [sys.executable, str(script)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, env=os.environ | environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_other_processes_predict_the_same(run: biorel.Run, saved: Path, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{method} is not available")
    table = saved.parent / "alone.pickle"
    run.model.predict(SENTENCES).to_pickle(table)
    # The parent uses threads of the core before it forks, but does not compute.
    code = f"""
        if __name__ == "__main__":
            assert len(biorel.load_sample("ddi").instances("train")) > 0
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                for table in pool.starmap(tests.predict_in_child, [({str(saved)!r}, tests.SENTENCES)] * 4):
                    pd.testing.assert_frame_equal(table, pd.read_pickle({str(table)!r}))
            print("done")
    """
    assert run_script(saved.parent, method, code) == "done\n"


FORKED = """
    model = biorel.load(sys.argv[0].rsplit("/", 1)[0] + "/model")
    corpus = biorel.load_sample("ddi")

    def work():
        settings = dict(head="lstm", max_length=96, max_steps=2, progress=False)
        run = biorel.finetune(corpus, tests.tiny(sys.argv[0] + "-encoder"), **settings)
        return run.predictions("train")

    wanted = work()
    for depth in range(2):
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
            sys.exit()
        try:
            pd.testing.assert_frame_equal(work(), wanted)
            print("computed", flush=True)
        except RuntimeError as error:
            print(error, flush=True)
"""


def tiny(folder: str) -> Path:
    return write_encoder(Path(folder))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_fork_after_computing_is_refused_or_works(saved: Path) -> None:
    # A fork does not copy candle's threads, so the larger tensors of the heads would wait for them forever.
    lines = run_script(saved.parent, "refused", FORKED, CANDLE_NUM_THREADS="2").splitlines()
    assert len(lines) == 2
    assert all('multiprocessing.get_context("spawn")' in line for line in lines)
    lines = run_script(saved.parent, "alone", FORKED, CANDLE_NUM_THREADS="1").splitlines()
    assert lines == ["computed", "computed"]


@pytest.mark.parametrize("name", EDGE_CASES)
def test_edge_case_texts_keep_their_offsets(run: biorel.Run, name: str) -> None:
    given = EDGE_CASES[name]
    row = run.model.predict([given]).iloc[0]
    assert [row["entity1"], row["entity2"]] == ["aaa", "bbb"]
    assert given["text"][row["start1"] : row["end1"]] == "aaa"
    assert given["text"][row["start2"] : row["end2"]] == "bbb"
    assert row["probability"] > 0


@pytest.mark.parametrize("name", EDGE_CASES)
def test_entities_of_edge_case_characters(run: biorel.Run, name: str) -> None:
    text = EDGE_CASES[name]["text"]
    half = len(text) // 2
    entities = [{"start": 0, "end": half, "type": "drug"}, {"start": half, "end": len(text), "type": "drug"}]
    row = run.model.predict([{"text": text, "entities": entities}]).iloc[0]
    assert [row["entity1"], row["entity2"]] == [text[:half], text[half:]]


@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_a_megabyte_without_a_space(run: biorel.Run, where: str) -> None:
    given = sentence(**{where: "x" * LONG})
    row = run.model.predict([given]).iloc[0]
    assert [row["entity1"], row["entity2"]] == ["aaa", "bbb"]
    assert row["start2"] == given["text"].index("bbb")


def test_empty_texts(run: biorel.Run, encoder: biorel.Encoder) -> None:
    for text in ("", " ", "\n", "\x00", "\u200b"):
        assert len(run.model.predict([{"text": text, "entities": []}])) == 0
    assert len(encoder.tokenize("")) == 0
    assert encoder.encode([""])[0].shape == (2, 32)


def test_lone_surrogates_are_refused(run: biorel.Run) -> None:
    given = sentence("x ")
    first, second = given["entities"]
    for changed in (
        sentence("\ud83e "),
        {**given, "id": "\ud800"},
        {**given, "entities": [{**first, "type": "\ud800"}, second]},
        {**given, "entities": [{**first, "id": "\ud800"}, second]},
    ):
        with pytest.raises(biorel.CorpusError, match=r"sentences\[0\].* is a lone surrogate, not a character"):
            run.model.predict([changed])


# Prints a line for each target and limit.
SAVE = """
import errno, resource, sys, biorel
source, *targets = sys.argv[1:]
model = biorel.load(source)
for limit in (0, 10, 1_000, 20_000):
    for target in targets:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            model.save(target)
        except OSError as error:
            # The output may be a file.
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            assert error.errno in (errno.EFBIG, errno.ENOSPC), error
            print(limit, error, flush=True)
"""


def test_a_full_disk_at_any_file_leaves_no_partial_file(saved: Path, tmp_path: Path) -> None:
    targets = [tmp_path / "new", tmp_path / "old"]
    shutil.copytree(saved, targets[1])
    before = {path.name: path.read_bytes() for path in targets[1].iterdir()}
    process = start_python(SAVE, saved, *targets, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate()
    assert process.returncode == 0
    found = [line.split(" ", 1) for line in output.splitlines()]
    assert [limit for limit, _ in found] == ["0", "0", "10", "10", "1000", "1000", "20000", "20000"]
    assert all(target.name in error for (_, error), target in zip(found, targets * 4, strict=True))
    assert {path.name for path in tmp_path.iterdir()} == {"old"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before


def test_a_folder_that_cannot_be_written(run: biorel.Run, ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    # Nobody can write to /proc, not even root, which ignores the permissions of folders.
    if not Path("/proc/self").is_dir():
        pytest.skip("needs /proc")
    with pytest.raises(OSError, match="/proc/biorel"):
        run.model.save("/proc/biorel/model")
    with pytest.raises(OSError, match="/proc"):
        biorel.finetune(ddi, encoder, max_length=96, max_steps=1, progress=False, checkpoint="/proc/biorel.checkpoint")
    with pytest.raises(OSError, match="/proc"):
        biorel.compare(ddi, directory="/proc/biorel-runs", encoders=[encoder], max_steps=1, progress=False)


def test_missing_files(saved: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "biorel.json"):
        folder = tmp_path / name
        shutil.copytree(saved, folder)
        (folder / name).unlink()
        with pytest.raises(biorel.CheckpointError, match=name):
            biorel.load(folder)
    folder = tmp_path / "vocabulary"
    shutil.copytree(saved, folder)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").unlink()
    with pytest.raises(biorel.CheckpointError, match="vocab.txt"):
        biorel.load(folder)
    # A model in memory no longer needs its files.
    model = biorel.load(saved)
    shutil.move(saved, tmp_path / "moved")
    try:
        assert len(model.predict(SENTENCES)) == len(SENTENCES)
    finally:
        shutil.move(tmp_path / "moved", saved)
