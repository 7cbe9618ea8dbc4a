"""biorel against PyTorch, transformers and ONNX Runtime: all measurements, part by part.

    BIOREL_CORPORA=... python benchmarks/speed/bench.py all --baseline .venv-bench/bin/python      # what `make bench` does
    python benchmarks/speed/bench.py train-minilm-f32 gemm --baseline ...                          # some parts, again
    python benchmarks/speed/bench.py list | report

Run it with the Python that has biorel; `--baseline` is the Python that has PyTorch (README.md). Within a part the programs
take turns, each in its own process, so that drifting clock speeds affect all alike; figures are medians over the repeats.
A part writes PART.json (every measurement) and PART.txt (its table) to benchmarks/results/bench. `all` skips parts that
have a result, so an interrupted run resumes; delete a file to repeat its part. `report` writes the summary, the plot and
the tables of docs/performance.md from the files. Use an otherwise idle machine.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import report
from parts import CACHE, PARTS, ROOT, Context, Part, Program

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import commit, cpu_features, cpu_name, load_average

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "bench"


def last_json(text: str) -> dict:
    """The last line that is a JSON object, parsed."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    raise ValueError("no line of JSON in the output")


def measure(program: Program) -> dict:
    environment = os.environ | program.environment
    done = subprocess.run(program.command, check=False, capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"{program.label} failed: {' '.join(program.command)}\n{done.stderr[-3000:]}")
    return program.read() if program.read else last_json(done.stdout)


def run(part: Part, context: Context, repeats: int | None, results: Path) -> None:
    programs = part.programs(context)
    records: dict[str, list[dict]] = {program.label: [] for program in programs}
    header = {
        "part": part.name,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{cpu_name()}, {os.cpu_count()} cores ({', '.join(cpu_features())})",
        "instructions": context.instructions,
        "versions": f"Python {platform.python_version()}, {context.versions()}",
        "load": f"{load_average()} before the run",
        "commit": commit(),
        "command": f"python benchmarks/speed/bench.py {part.name}" + (f" --repeats {repeats}" if repeats else ""),
    }
    started = time.perf_counter()
    for _ in range(repeats or part.repeats):
        for program in programs:
            records[program.label].append(measure(program))
            print(f"  {program.label}: {part.brief(records[program.label][-1])}", file=sys.stderr, flush=True)
    header["seconds"] = str(round(time.perf_counter() - started))
    result = {"header": header, "programs": records}
    lines = [f"{name:<13} {value}" for name, value in header.items()]
    table = "\n".join([*lines, "", *part.table(records), ""])
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{part.name}.txt").write_text(table, encoding="utf-8")
    # Last, because its presence marks the part as done.
    (results / f"{part.name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", help=f"all, list, report, or of {', '.join(PARTS)}")
    parser.add_argument("--baseline", help="the Python interpreter with PyTorch")
    parser.add_argument("--repeats", type=int, help="overrides the number of each part")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="tiny sizes to check that everything runs; results go to .cache and mean nothing",
    )
    options = parser.parse_args()
    if options.parts == ["list"]:
        for part in PARTS.values():
            print(f"{part.name:<18} about {part.minutes} min  {part.what}")
        return
    if options.parts == ["report"]:
        report.write(RESULTS)
        return
    results = CACHE / "quick" if options.quick else RESULTS
    names = list(PARTS) if options.parts == ["all"] else options.parts
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"unknown part {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    if options.baseline is None or "BIOREL_CORPORA" not in os.environ:
        parser.error("--baseline and BIOREL_CORPORA (the folder that holds aimed/aimed_pairs.tsv) are needed")
    if options.parts == ["all"]:
        names = [name for name in names if not (results / f"{name}.json").exists()]
    context = Context(sys.executable, options.baseline, options.quick)
    context.prepare()
    for name in names:
        print(f"{name}: about {PARTS[name].minutes} min", file=sys.stderr, flush=True)
        run(PARTS[name], context, options.repeats, results)


if __name__ == "__main__":
    main()
