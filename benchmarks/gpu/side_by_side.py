"""Compare biorel and PyTorch on one GPU: fine-tuning and inference, BERT-base and MiniLM, with random weights.

    BIOREL_CORPORA=... python benchmarks/gpu/side_by_side.py --tokenizer DIR --results side_by_side.jsonl
    python benchmarks/gpu/side_by_side.py --only 'bert-base/train/biorel*' 'bert-base/train/*-max-eager' ...
    python benchmarks/gpu/side_by_side.py --results side_by_side.jsonl --report      # the table of what is there

Run it with the Python that has biorel and its CUDA part; `--baseline` is the one that has PyTorch (it may be the same).
Every measurement is its own process with a time limit; the programs take turns. A result is appended at once, and one
that fails is recorded and does not end the others. Memory is measured in runs of its own, last.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from fnmatch import fnmatch
from itertools import product
from pathlib import Path
from typing import Any

import encoders
from processes import Nvml, append, measure, read

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import commit, cpu_name

HERE = Path(__file__).parent
MEMORY_STEPS = 30


def programs(options: argparse.Namespace) -> dict[str, list[str]]:
    """Commands by name: encoder/train or predict/program. Of PyTorch: precision-padding-compilation."""
    common = ["--device", options.device, "--warmup", str(options.warmup), "--steps", str(options.steps)]
    ours, baseline = [sys.executable, str(HERE / "run_biorel.py")], [options.baseline, str(HERE / "run_baseline.py")]
    commands = {}
    for encoder, what in product(("bert-base", "minilm"), ("train", "predict")):
        arguments = [what, "--encoder", str(options.work / encoder), *common]
        for precision in ("bf16", "f32"):
            commands[f"{encoder}/{what}/biorel-{precision}"] = [*ours, *arguments, "--precision", precision]
        paddings = ("max", "longest", "grouped") if what == "train" else ("longest",)
        settings = [*product(("autocast", "pure"), paddings, ("eager", "compiled"))]
        if what == "train":
            settings += [("autocast", "max", "graphs"), ("pure", "max", "graphs")]
        for precision, padding, compiled in settings:
            choice = ["--precision", precision, "--padding", padding, "--compile", compiled]
            commands[f"{encoder}/{what}/{precision}-{padding}-{compiled}"] = [*baseline, *arguments, *choice]
    patterns = options.only or ["*"]
    return {name: command for name, command in commands.items() if any(fnmatch(name, p) for p in patterns)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", default=sys.executable, help="the Python interpreter with PyTorch")
    parser.add_argument("--tokenizer", type=Path, help="a folder with the vocabulary of BERT (uncased)")
    parser.add_argument("--work", type=Path, default=Path("/tmp/biorel-gpu"), help="where encoders are written")
    parser.add_argument("--results", type=Path, help="a file of JSON lines; existing ones stay and are in the table")
    parser.add_argument("--only", nargs="+", metavar="PATTERN", help="names of measurements, such as bert-base/train/*")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--report", action="store_true", help="only print the table of the results")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=100, help="steps that are not timed")
    parser.add_argument("--steps", type=int, default=300, help="steps that are timed")
    parser.add_argument("--seconds", type=float, default=150, help="limit for one process")
    parser.add_argument("--deadline", type=float, default=float("inf"), help="start nothing after so many seconds")
    parser.add_argument("--memory", action="store_true", help="also measure the peak memory, in runs of its own")
    parser.add_argument("--device", default="cuda", help="cpu tests this program")
    options = parser.parse_args()
    chosen = programs(options)
    if options.list:
        print("\n".join(chosen))
        return
    records = read(options.results) if options.results else []
    if not options.report:
        records += measure_all(options, chosen)
    print("\n".join(report(records)))


def measure_all(options: argparse.Namespace, chosen: dict[str, list[str]]) -> list[dict[str, Any]]:
    if "BIOREL_CORPORA" not in os.environ:
        sys.exit("Set BIOREL_CORPORA to the folder of the corpora")
    if options.tokenizer is None:
        sys.exit("Give --tokenizer, a folder with vocab.txt or tokenizer.json")
    started = time.perf_counter()
    records: list[dict[str, Any]] = []

    def note(record: dict[str, Any]) -> None:
        records.append(record)
        append(options.results, record)
        print({key: value for key, value in record.items() if key != "error"}, flush=True)
        if "error" in record:
            print(record["error"], flush=True)

    def left() -> float:
        return min(options.seconds, options.deadline - (time.perf_counter() - started))

    machine = {
        "gpu": Nvml().describe(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    note({"event": "start", "date": date, "commit": commit(), **machine, "command": " ".join(sys.argv[1:])})
    for encoder in {name.split("/")[0] for name in chosen}:
        encoders.write(encoder, options.work / encoder, options.tokenizer)
    peak = [options.baseline, str(HERE / "run_baseline.py"), "peak", "--device", options.device]
    tasks = [("peak", 0, peak, False)]
    tasks += [
        (name, repeat, command, False) for repeat, (name, command) in product(range(options.repeats), chosen.items())
    ]
    if options.memory:
        # The last --steps is the one that counts.
        tasks += [(name, 0, [*command, "--steps", str(MEMORY_STEPS)], True) for name, command in chosen.items()]
    for name, repeat, command, memory in tasks:
        event = {"event": "memory" if memory else "speed", "name": name, "repeat": repeat}
        if left() < 5:
            note({**event, "status": "no time left"})
        else:
            note({**event, **measure(command, left(), memory)})
    return records


def report(records: list[dict[str, Any]]) -> list[str]:
    """A line per measurement, slowest repeat included; the share is that of the real tokens' products in the measured peak."""
    lines = [
        f"{r['date']}  {r['gpu']}; {r['cpu']}, {r['cores']} cores; commit {r['commit']}"
        for r in records
        if r["event"] == "start"
    ]
    done = [r for r in records if r["event"] == "speed" and r["status"] == "ok"]
    peaks = [r["tflops"] for r in done if r["name"] == "peak"]
    lines += [f"PyTorch's bf16 product of 8192: {peak:.0f} TFLOP/s" for peak in peaks[-1:]]
    header = f"{'sentences/s':>12} {'all repeats':>24} {'ms/step':>8} {'of peak':>8} {'peak MB':>8} {'biorel is':>10}"
    lines += ["", f"{'':<44} {header}"]
    runs: dict[str, list[dict[str, Any]]] = {}
    for record in done:
        if "sentences" in record:
            runs.setdefault(record["name"], []).append(record)
    speeds = {name: statistics.median(r["sentences"] / r["seconds"] for r in found) for name, found in runs.items()}
    memory = {r["name"]: r.get("memory_mb") for r in records if r["event"] == "memory" and r["status"] == "ok"}
    for name in sorted(runs):
        encoder, what, _ = name.split("/")
        found = runs[name]
        step = statistics.median(r["seconds"] / r["steps"] for r in found) * 1e3 if what == "train" else float("nan")
        every = " ".join(f"{r['sentences'] / r['seconds']:.0f}" for r in found)
        share = "-"
        if peaks and "tokens" in found[0]:
            shape = encoders.SHAPES[encoder]
            hidden, inner = shape["hidden_size"], shape["intermediate_size"]
            flop = 2 * shape["num_hidden_layers"] * (4 * hidden**2 + 2 * hidden * inner) * (3 if what == "train" else 1)
            share = f"{statistics.median(r['tokens'] / r['seconds'] for r in found) * flop / (peaks[-1] * 1e12):.1%}"
        ours = speeds.get(f"{encoder}/{what}/biorel-bf16")
        ratio = f"{ours / speeds[name]:.2f}x" if ours else "-"
        used = "-" if memory.get(name) is None else f"{memory[name]:.0f}"
        lines.append(f"{name:<44} {speeds[name]:>12.0f} {every:>24} {step:>8.2f} {share:>8} {used:>8} {ratio:>10}")
    for record in records:
        if record.get("status") not in (None, "ok"):
            reason = record.get("skipped") or (record.get("error") or "").strip().splitlines()[-1:] or ""
            lines.append(f"{record['event']} {record['name']}, repeat {record['repeat']}: {record['status']} {reason}")
    return lines


if __name__ == "__main__":
    main()
