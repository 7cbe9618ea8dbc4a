"""The paper's grid as one timed job: seven heads on three corpora, AIMed in its ten folds, concurrent trials.

    BIOREL_CORPORA=... python benchmarks/gpu/grid.py --directory runs/grid --jobs 6 --output benchmarks/results/gpu/grid
    python benchmarks/gpu/grid.py --directory runs/toy --device cpu --jobs 2 --sample --folds 2 --max-steps 2 --output toy

DDI and ChemProt are scored on their test split, as in the paper: 7 x (10 + 1 + 1) trials. Settings are the paper's unless
the command says otherwise. A killed run resumes when started again. `starts.jsonl` has a line for each start with its work
and time, and `grid.csv` has every head next to the printed figure.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
from biorel.reproduction import published

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import commit, cpu_name

FILES = {"aimed": "aimed/aimed_pairs.tsv", "ddi": "ddi/DDICorpus-2013.zip", "chemprot": "chemprot"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="the run directory")
    parser.add_argument("--output", type=Path, required=True, help="folder for the two tables")
    parser.add_argument("--jobs", type=int, default=1, help="concurrent trials")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--corpora", nargs="+", default=list(FILES), choices=FILES)
    parser.add_argument("--heads", nargs="+", default=list(published.MODELS), choices=published.MODELS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument(
        "--folds", type=int, help="number of folds of AIMed by document, instead of its ten published ones"
    )
    parser.add_argument("--max-steps", type=int, help="steps per training; default: the epochs of the paper")
    parser.add_argument("--sample", action="store_true", help="the synthetic sample instead of the corpora")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"device": options.device, "precision": options.precision}
    if options.max_steps is not None:
        settings["max_steps"] = options.max_steps
    tables = []
    for name in options.corpora:
        corpus = read(name, options.sample)
        folds: Any = None
        if name == "aimed":
            folds = options.folds or (10 if options.sample else "given")
        before = work(options.directory / name)
        started = time.perf_counter()
        comparison = biorel.compare(
            corpus,
            directory=options.directory / name,
            heads=options.heads,
            encoders=[options.encoder],
            seeds=options.seeds,
            folds=folds,
            jobs=options.jobs,
            progress=sys.stderr.isatty(),
            **settings,
        )
        seconds = time.perf_counter() - started
        if len(comparison.failures):
            print(comparison.failures.to_string(), file=sys.stderr)
        tables.append(next_to_the_printed(comparison, name, options.sample))
        note(options, name, seconds, before, work(options.directory / name))
    table = pd.concat(tables)
    table.to_csv(options.output / "grid.csv", index=False)
    print(table.to_string(index=False))


def read(name: str, sample: bool) -> biorel.Corpus:
    if sample:
        return biorel.load_sample(name)
    path = Path(os.environ["BIOREL_CORPORA"]) / FILES[name]
    return biorel.load_corpus(name, path, splits="blue" if name == "ddi" else None)


def work(directory: Path) -> dict[str, float]:
    """Finished trials with their steps and seconds, so that a resumed start can report its own share."""
    path = directory / "trials.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines]
    finished = [record for record in records if record["status"] == "finished"]
    return {"trials": len(finished), **{key: sum(record[key] for record in finished) for key in ("steps", "seconds")}}


def note(options: argparse.Namespace, name: str, seconds: float, before: dict, after: dict) -> None:
    """Record this start. `trial_seconds` adds all trials: more than `seconds` with concurrent trials."""
    done = {key: after[key] - before[key] for key in after}
    devices = biorel.devices()
    record = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "commit": commit(),
        "biorel": biorel.__version__,
        "cpu": cpu_name(),
        "devices": devices[devices["available"]].to_dict("records"),
        "corpus": f"{name}, synthetic sample" if options.sample else name,
        "command": " ".join(sys.argv[1:]),
        "jobs": options.jobs,
        "seconds": round(seconds, 1),
        "trials": done["trials"],
        "steps": done["steps"],
        "trial_seconds": round(done["seconds"], 1),
    }
    print(json.dumps(record))
    with (options.output / "starts.jsonl").open("a") as file:
        print(json.dumps(record, default=str), file=file)


def next_to_the_printed(comparison: biorel.Comparison, name: str, sample: bool) -> pd.DataFrame:
    rows = []
    for result in comparison.results.to_dict("records"):
        ours = {key: round(100 * result[key], 1) for key in ("precision", "recall", "f1")}
        row = {"corpus": name, "head": result["head"], "trials": result["trials"], "failed": result["failed"]}
        if not sample:
            row |= {f"printed_{key}": value for key, value in published.RESULTS[result["head"]][name]._asdict().items()}
        rows.append({**row, **ours, "protocol": comparison.results.protocol})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
