"""Fine-tuning speed of biorel and of the PyTorch peer, side by side in one run.

    BIOREL_CORPORA=... python benchmarks/speed.py --peer /tmp/peer/bin/python --output benchmarks/results/speed.txt

Run it with the Python that has biorel; `--peer` is the one that has PyTorch (README.md). The programs take turns, each
a process of its own, so that a machine whose speed drifts treats them alike. A figure is the number of sentences of a
step by the median time of a step, and of the repeats the median again. Both train MiniLM on AIMed without fold 0, batch
32, random order, all threads. biorel always computes in f32 and never pads.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runlog import cpu_features, cpu_name, load_average

HERE = Path(__file__).parent
PEERS = [
    ("PyTorch fp32, padded to the longest", ["--precision", "fp32", "--padding", "longest"]),
    ("PyTorch fp32, padded to 128", ["--precision", "fp32", "--padding", "max"]),
    ("PyTorch bf16 autocast, padded to the longest", ["--precision", "bf16", "--padding", "longest"]),
    ("PyTorch bf16 autocast, padded to 128", ["--precision", "bf16", "--padding", "max"]),
    ("PyTorch fp32, group_by_length", ["--precision", "fp32", "--padding", "grouped"]),
    ("PyTorch bf16 autocast, group_by_length", ["--precision", "bf16", "--padding", "grouped"]),
]


def measure(python: str, script: str, options: list[str]) -> tuple[float, float]:
    """Sentences a second by the median step, and peak memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        command = [python, str(HERE / script), "--log", str(log), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    end = records[-1]
    median = next(record["median_step_seconds"] for record in records if record["event"] == "epoch")
    return 32 / median, end["peak_memory_mb"]


def commit() -> str:
    """The checkout's commit, with a `+` where files differ from it."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="the Python that has PyTorch")
    parser.add_argument("--head", default="attention")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="a file for the table; default: standard output only")
    options = parser.parse_args()
    if "BIOREL_CORPORA" not in os.environ:
        sys.exit("Set BIOREL_CORPORA to the folder of the corpora")
    common = ["--head", options.head, "--max-steps", str(options.steps)]
    programs = [("biorel f32", sys.executable, "biorel_train.py", common)]
    programs += [(name, options.peer, "peer_train.py", [*common, *extra]) for name, extra in PEERS]
    results: dict[str, list[tuple[float, float]]] = {name: [] for name, *_ in programs}
    lines = [
        f"date     {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
        f"machine  {cpu_name()}, {os.cpu_count()} cores ({', '.join(cpu_features())}); Python {platform.python_version()}",
        f"load     {load_average()} before the run",
        f"commit   {commit()}",
        f"command  python benchmarks/speed.py --head {options.head} --steps {options.steps} --repeats {options.repeats}",
        "",
    ]
    for _ in range(options.repeats):
        for name, python, script, arguments in programs:
            results[name].append(measure(python, script, arguments))
            print(f"{name}: {results[name][-1][0]:.1f} sentences/s", file=sys.stderr, flush=True)
    speeds = {name: statistics.median(speed for speed, _ in runs) for name, runs in results.items()}
    ours = speeds["biorel f32"]
    lines.append(
        f"{'MiniLM, AIMed, batch 32':<46} {'sentences/s':>12} {'all repeats':>24} {'peak MB':>8} {'biorel is':>10}"
    )
    for name, runs in results.items():
        every = " ".join(f"{speed:.1f}" for speed, _ in runs)
        memory = max(memory for _, memory in runs)
        lines.append(f"{name:<46} {speeds[name]:>12.1f} {every:>24} {memory:>8.0f} {ours / speeds[name]:>9.2f}x")
    table = "\n".join(lines) + "\n"
    print(table, end="")
    if options.output is not None:
        options.output.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
