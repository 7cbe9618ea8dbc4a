"""The kernels of one training step: how often each runs, and for how long.

    BIOREL_CORPORA=... python benchmarks/gpu/profile_step.py biorel --encoder DIR --results profile.jsonl
    python benchmarks/gpu/profile_step.py baseline --encoder DIR --results profile.jsonl --baseline-options "--compile compiled"

By Nsight Systems where `nsys` is installed, otherwise by torch.profiler, which sees the kernels of its whole process, biorel's
included. Its times are those of the GPU; the step itself is slower under a profiler than without.
"""

import argparse
import csv
import io
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from processes import append, measure

HERE = Path(__file__).parent
# Name of a kernel or copy: number and total microseconds.
Kernels = dict[str, tuple[int, float]]


def from_trace(path: Path) -> Kernels:
    """Of a trace in Chrome's format, which torch.profiler writes."""
    found: dict[str, list[float]] = defaultdict(list)
    for event in json.loads(path.read_text())["traceEvents"]:
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset"):
            found[event["name"]].append(float(event["dur"]))
    return {name: (len(each), sum(each)) for name, each in found.items()}


def from_nsys(text: str) -> Kernels:
    """Of a table of `nsys stats --format csv`; the columns are found by their names."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if "Total Time (ns)" in line), None)
    if start is None:
        return {}
    found: Kernels = {}
    for row in csv.DictReader(io.StringIO("\n".join(lines[start:]))):
        name = row.get("Name") or row.get("Operation")
        count = row.get("Instances") or row.get("Count")
        if name and count:
            number, time = found.get(name, (0, 0.0))
            found[name] = (number + int(count), time + float(row["Total Time (ns)"]) / 1e3)
    return found


def with_torch(command: list[str], steps: int, seconds: float) -> tuple[dict[str, Any], Kernels]:
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        result = measure([*command, "--steps", str(steps), "--trace", str(trace)], seconds)
        return result, from_trace(trace) if trace.exists() else {}


def with_nsys(command: list[str], steps: int, seconds: float) -> tuple[dict[str, Any], Kernels]:
    """The difference of two runs, one with more steps: what happens once is not in it."""
    runs: list[Kernels] = []
    result: dict[str, Any] = {}
    for taken in (steps, 2 * steps):
        with tempfile.TemporaryDirectory() as folder:
            report = str(Path(folder) / "report")
            profile = ["nsys", "profile", "--trace=cuda", "--sample=none", "--output", report]
            result = measure([*profile, *command, "--steps", str(taken)], seconds / 2)
            tables = ["--report", "cuda_gpu_kern_sum", "--report", "cuda_gpu_mem_time_sum"]
            kernels: Kernels = {}
            for table in (tables[:2], tables[2:]):
                stats = ["nsys", "stats", *table, "--format", "csv", f"{report}.nsys-rep"]
                output = subprocess.run(stats, check=False, capture_output=True, text=True, timeout=120).stdout
                kernels |= from_nsys(output)
            runs.append(kernels)
    first, second = runs
    kernels = {}
    for name, (number, time) in second.items():
        before = first.get(name, (0, 0.0))
        if number > before[0]:
            kernels[name] = (number - before[0], time - before[1])
    return result, kernels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=["biorel", "baseline"])
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--baseline-options", default="", help="those of run_baseline.py")
    parser.add_argument("--warmup", type=int, default=60)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=150, help="time limit")
    parser.add_argument("--results", type=Path, help="a file of JSON lines")
    options = parser.parse_args()
    script = "run_biorel.py" if options.program == "biorel" else "run_baseline.py"
    command = [sys.executable, str(HERE / script), "train", "--encoder", options.encoder]
    command += ["--warmup", str(options.warmup), *shlex.split(options.baseline_options)]
    ways = [("torch.profiler", with_torch)]
    if shutil.which("nsys"):
        ways.insert(0, ("nsys", with_nsys))
    for way, profile in ways:
        try:
            result, kernels = profile(command, options.steps, options.seconds)
        except (OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            result, kernels = {"status": "failed", "error": f"{way}: {error!r}"}, {}
        if kernels or result["status"] == "skipped":
            break
        print(f"{way} found no kernels: {result}")
    # biorel reports a step two steps later, so a trace begins within one: count its steps by a kernel that runs once in each.
    steps = options.steps
    if options.program == "biorel" and way == "torch.profiler":
        steps = next((number for name, (number, _) in kernels.items() if "cross_entropy" in name), steps)
    rows = sorted(kernels.items(), key=lambda item: -item[1][1])
    step = {name: [number / steps, time / steps] for name, (number, time) in rows}
    title = f"{options.program} {Path(options.encoder).name} {options.baseline_options}".strip()
    append(
        options.results,
        {"event": "profile", "name": title, "by": way, "traced_steps": steps, **result, "kernels": step},
    )
    if result["status"] != "ok":
        print(f"{title}: {result['status']} {result.get('skipped') or result.get('error', '')}")
        return
    count, time = (sum(values[i] for values in step.values()) for i in (0, 1))
    print(f"{title}, by {way}: {count:.1f} kernels and copies a step, {time / 1e3:.3f} ms on the GPU")
    print(f"{'number':>8} {'us':>9} {'share':>7}  kernel")
    for name, (number, microseconds) in list(step.items())[:50]:
        print(f"{number:>8.1f} {microseconds:>9.1f} {microseconds / time:>7.1%}  {name[:110]}")


if __name__ == "__main__":
    main()
