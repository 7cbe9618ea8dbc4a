"""Predict the same documents locally and on a Ray cluster: compare rows and speed, with one worker, two, and a killed node.

    BIOREL_CORPORA=... python benchmarks/studies/ray_documents.py --documents 10000 --output benchmarks/results/ray_documents.txt

The cluster has two or three nodes on this machine, each with its own raylet: the driver's, which reads and writes, and one
or two with a worker of one thread each. The documents are those of documents.py, the model its small one (2 layers of 128).
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import ray
from documents import make_model, write_documents
from ray.cluster_utils import Cluster

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import commit, cpu_features, cpu_name, load_average

KEYS = ["document", "start1", "start2", "entity1", "entity2"]


class Log:
    """A log of events with seconds since the start."""

    def __init__(self, header: list[str]) -> None:
        self.lines = header
        self.began = time.monotonic()

    def __call__(self, text: str) -> None:
        self.lines.append(f"{time.monotonic() - self.began:8.1f} s  {text}")
        print(self.lines[-1], flush=True)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sort the rows, which Ray returns in the order in which blocks finish."""
    return table.sort_values(KEYS, kind="stable").reset_index(drop=True)


def on_cluster(rows: Path, model: Path, output: Path, workers: int) -> float:
    began = time.monotonic()
    # Small files are joined into one block, and a block goes to one worker.
    documents = ray.data.read_parquet(str(rows)).repartition(target_num_rows_per_block=200)
    found = documents.map_batches(
        biorel.Predictor,
        fn_constructor_kwargs={"model": model},
        batch_format="pyarrow",
        batch_size=100,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
        resources={"worker": 1},
    )
    found.write_parquet(str(output))
    return time.monotonic() - began


def compare(log: Log, name: str, output: Path, expected: pd.DataFrame) -> None:
    table = pd.read_parquet(output)
    failed = int(table["error"].notna().sum())
    table = in_order(table.drop(columns="error"))
    pd.testing.assert_frame_equal(table, expected, check_exact=True, check_dtype=False)
    log(f"{name}: {len(table):,} rows, {failed} documents failed; equal to the local table in every column and bit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    log = Log(
        [
            f"date     {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
            f"machine  {cpu_name()}, {os.cpu_count()} cores ({', '.join(cpu_features())}); Python {platform.python_version()}, "
            f"Ray {ray.__version__}",
            f"load     {load_average()} before the run",
            f"commit   {commit()}",
            f"command  python benchmarks/studies/ray_documents.py --documents {options.documents}",
            "",
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), options.documents, log)
    if options.output:
        options.output.write_text("\n".join(log.lines) + "\n", encoding="utf-8")


def run(folder: Path, documents: int, log: Log) -> None:
    (folder / "texts").mkdir()
    write_documents(Path(os.environ["BIOREL_CORPORA"]), folder / "texts", documents)
    model = make_model(folder, small=True)
    (folder / "rows").mkdir()
    texts = sorted((folder / "texts").iterdir())
    for path in texts:
        biorel.documents_to_rows(biorel.read_documents(path)).to_parquet(folder / "rows" / f"{path.stem}.parquet")
    log(f"{documents:,} documents in {len(texts)} files")

    began = time.monotonic()
    local = biorel.predict_documents(
        biorel.load(model, threads=1), folder / "texts", folder / "local", format="parquet", progress=False
    )
    assert isinstance(local, biorel.DocumentPredictions)
    log(f"local, one thread: {time.monotonic() - began:.1f} s")
    expected = in_order(local.table())

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    nodes = [cluster.add_node(num_cpus=1, resources={"worker": 1})]
    cluster.wait_for_nodes()
    try:
        for workers in (1, 2):
            while len(nodes) < workers:
                nodes.append(cluster.add_node(num_cpus=1, resources={"worker": 1}))
                cluster.wait_for_nodes()
            seconds = on_cluster(folder / "rows", model, folder / f"ray{workers}", workers)
            log(f"Ray, {workers} worker{'s' * (workers > 1)}: {seconds:.1f} s, including the start of the workers")
            compare(log, f"Ray, {workers}", folder / f"ray{workers}", expected)

        def kill() -> None:
            while not any((folder / "killed").glob("*.parquet")):
                time.sleep(0.05)
            log("some rows are written: a node is killed, with its worker (SIGKILL of its raylet)")
            cluster.remove_node(nodes.pop(), allow_graceful=False)

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        seconds = on_cluster(folder / "rows", model, folder / "killed", 2)
        thread.join()
        log(f"Ray, 2 workers, a node killed: {seconds:.1f} s")
        compare(log, "Ray, a node killed", folder / "killed", expected)
    finally:
        logs: Any = ray.nodes()
        for node in logs:
            log(
                f"Ray says: node {node['NodeID'][:8]} alive={node['Alive']} {node.get('DeathReasonMessage') or ''}".rstrip()
            )
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder / "rows", ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
