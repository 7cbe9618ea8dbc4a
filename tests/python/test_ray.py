"""Trials and predictions on a Ray cluster of two nodes, each with its own raylet, on this machine."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest

ray = pytest.importorskip("ray", reason="Ray has no wheel for this Python")
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of Ray itself
    pytest.mark.skipif(sys.platform != "linux", reason="finds the workers of a node in /proc"),
]

SETTINGS: dict[str, Any] = {"max_length": 96, "learning_rate": 1e-3, "progress": False}


def add_node(cluster: Any, **options: Any) -> Any:
    """A new node. Ray gives up after 30 seconds, which may be too few on a busy machine: then once more."""
    for attempt in range(5):
        try:
            return cluster.add_node(num_cpus=2, **options)
        except Exception as error:
            if "timed out during startup" not in str(error) or attempt == 4:
                raise
    raise AssertionError


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    cluster = Cluster()
    add_node(cluster, include_dashboard=False)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def node(cluster: Any) -> Iterator[Any]:
    """The second node."""
    node = add_node(cluster)
    cluster.wait_for_nodes()
    yield node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


def workers_of(node: Any) -> list[int]:
    """The workers of a node that run a task of biorel; Ray names their processes after the task."""
    raylet = node.all_processes["raylet"][0].process.pid
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            title = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # the process has just ended
            continue
        if parent == raylet and title.startswith((b"ray::biorel", b"ray::MapWorker(MapBatches(Predictor")):
            found.append(int(entry.name))
    return found


def once_working(node: Any, written: Path, act: Callable[[int], None], finished: threading.Event) -> threading.Thread:
    """Call `act` with a worker of the node once it runs a task and a checkpoint, or rows, have been written.

    The thread gives up when the work has `finished`.
    """

    def wait() -> None:
        while not finished.is_set():
            if any(written.glob("*.*")) and (workers := workers_of(node)):
                act(workers[0])
                acted.extend([workers[0], time.monotonic()])
                return
            time.sleep(0.01)

    acted: list[float] = []
    thread = threading.Thread(target=wait, daemon=True)
    thread.acted = acted  # type: ignore[attr-defined]
    thread.start()
    return thread


def same(first: pd.DataFrame, second: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_a_comparison_has_the_same_results(
    cluster: Any, node: Any, ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path
) -> None:
    grid: dict[str, Any] = {"heads": ["cls", "attention"], "encoders": [encoder], "save_models": ["attention"]}
    grid |= {"max_steps": 3, **SETTINGS}
    local = biorel.compare(ddi, directory=tmp_path / "local", **grid)
    remote = biorel.compare(ddi, directory=tmp_path / "remote", engine="ray", **grid)
    same(remote.results, local.results)
    for head in ("cls", "attention"):
        same(remote.predictions(head), local.predictions(head))
    assert remote.model("attention").hash == local.model("attention").hash
    assert "F1" in (tmp_path / "remote" / "models").glob("*/README.md").__next__().read_text()
    # A local run can resume in the same directory, and repeats nothing.
    before = (tmp_path / "remote" / "trials.jsonl").read_text()
    again = biorel.compare(ddi, directory=tmp_path / "remote", **grid | {"seeds": [1, 2]})
    assert (tmp_path / "remote" / "trials.jsonl").read_text().startswith(before)
    assert again.trials["status"].tolist() == ["finished"] * 4


def test_a_failed_trial_is_recorded_and_the_others_continue(
    cluster: Any, ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path
) -> None:
    settings = SETTINGS | {"max_steps": 2, "max_length": 10, "too_long": "error"}
    result = biorel.compare(ddi, directory=tmp_path, heads=["cls"], encoders=[encoder], engine="ray", **settings)
    assert result.failures["error"].str.contains("CorpusError").all()
    with pytest.raises(biorel.CorpusError):
        biorel.cross_validate(ddi, encoder, head="cls", folds=2, engine="ray", **settings)


@pytest.mark.parametrize("killed", ["worker", "node"])
def test_scores_are_the_same_after_a_kill(
    cluster: Any, node: Any, encoder: biorel.Encoder, tmp_path: Path, killed: str
) -> None:
    corpus = biorel.load_sample("aimed")
    settings = SETTINGS | {"head": "cls", "folds": 3, "max_steps": 150, "save_steps": 5}
    local = biorel.cross_validate(corpus, encoder, **settings)

    def kill(worker: int) -> None:
        if killed == "worker":
            os.kill(worker, signal.SIGKILL)
        else:
            cluster.remove_node(node, allow_graceful=False)

    finished = threading.Event()
    thread = once_working(node, tmp_path / "remote" / "checkpoints", kill, finished)
    remote = biorel.cross_validate(corpus, encoder, directory=tmp_path / "remote", engine="ray", **settings)
    finished.set()
    thread.join()
    assert thread.acted, "nothing was killed"  # type: ignore[attr-defined]
    same(remote.predictions, local.predictions)
    same(remote.scores, local.scores)
    assert not list((tmp_path / "remote" / "checkpoints").glob("*.checkpoint"))


@pytest.mark.parametrize("killed", [None, "worker", "node"])
def test_documents_are_classified_as_locally(
    cluster: Any, node: Any, run: biorel.Run, tmp_path: Path, killed: str | None
) -> None:
    texts, spans = [], []
    for number in range(2000):
        text = f"Testol{number} raises cdol. " * (number % 4)
        texts.append({"document": f"d{number}", "text": text})
        for index in range(number % 4):
            start = index * len(f"Testol{number} raises cdol. ")
            end = start + len(f"Testol{number}")
            spans.append({"document": f"d{number}", "start": start, "end": end, "type": "drug"})
            spans.append({"document": f"d{number}", "start": end + 8, "end": end + 12, "type": "drug"})
    documents = biorel.documents_from_tables(pd.DataFrame(texts), pd.DataFrame(spans))
    run.model.save(tmp_path / "model")
    expected = biorel.predict_documents(biorel.load(tmp_path / "model", threads=1), documents)
    assert isinstance(expected, pd.DataFrame)
    rows = biorel.documents_to_rows(documents)
    rows.loc[len(rows)] = {"document": "bad", "text": "a", "passages": [], "entities": [{"type": "drug"}], "file": ""}
    (tmp_path / "in").mkdir()
    for part in range(8):
        rows[part::8].to_parquet(tmp_path / "in" / f"{part}.parquet")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = 120
    data = ray.data.read_parquet(str(tmp_path / "in")).repartition(target_num_rows_per_block=50)
    # Ray's own tasks need a processor too: both workers must leave one free on the node that remains.
    size = ray.data.ActorPoolStrategy(size=2)
    options = {"batch_format": "pyarrow", "batch_size": 16, "compute": size, "num_cpus": 0.5}
    options |= {"scheduling_strategy": "SPREAD"}

    def kill(worker: int) -> None:
        if killed == "worker":
            os.kill(worker, signal.SIGKILL)
        elif killed == "node":
            cluster.remove_node(node, allow_graceful=False)

    # On a busy machine the first worker may finish before that of the second node has started: then once more.
    for attempt in range(4):
        out = tmp_path / f"out{attempt}"
        found = data.map_batches(biorel.Predictor, fn_constructor_args=[tmp_path / "model"], **options)
        finished = threading.Event()
        thread = once_working(node, out, kill, finished)
        found.write_parquet(str(out))
        ended = time.monotonic()
        finished.set()
        thread.join()
        if thread.acted:  # type: ignore[attr-defined]
            break
    assert thread.acted, "no worker of the second node was seen"  # type: ignore[attr-defined]
    assert thread.acted[1] < ended, "the kill came after the end"  # type: ignore[attr-defined]
    table = pd.read_parquet(out)
    assert table.loc[table["error"].notna(), "document"].tolist() == ["bad"]
    table = table[table["error"].isna()].drop(columns="error")
    keys = ["document", "start1", "start2"]
    pd.testing.assert_frame_equal(
        table.sort_values(keys).reset_index(drop=True),
        expected.sort_values(keys).reset_index(drop=True),
        check_dtype=False,
        check_exact=True,
    )


def test_without_ray_the_error_names_the_extra(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(biorel.ConfigError, match=r'pip install "biorel\[ray\]"'):
        biorel.compare(ddi, directory=tmp_path, encoders=[encoder], engine="ray", max_steps=1, progress=False)
