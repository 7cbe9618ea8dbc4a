"""The paper's tables and figures on the published corpora, with MiniLM and the settings of `preset="standard"`.

    BIOREL_CORPORA=... python benchmarks/studies/paper.py --directory runs/paper --output benchmarks/results/paper

Runs `biorel.reproduce`. The scores of the heads are collected faster by `scores.py`, trial by trial; this is for what
reads the attention of trained models. A killed run resumes when started again. `starts.txt` records every start
and the trials already finished. The directory also has predictions, models and heat maps, which quote the corpora and
stay out of the repository; `--output` gets tables, figures and `report.md`, without Fig. 3.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import biorel

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import commit, cpu_features, cpu_name

CORPORA = {"aimed": "aimed/aimed_pairs.tsv", "ddi": "ddi/DDICorpus-2013.zip", "chemprot": "chemprot"}
ITEMS = ["table1", "table3", "table4", "table5", "figure4", "faithfulness"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="the run directory")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results that can be published")
    parser.add_argument("--corpora", nargs="+", default=list(CORPORA), choices=CORPORA)
    parser.add_argument("--items", nargs="+", default=ITEMS, choices=ITEMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folds", choices=["all", "first"], default="all", help="which of AIMed's ten folds")
    parser.add_argument("--jobs", type=int, help="concurrent trials")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    note_start(options)
    folder = Path(os.environ["BIOREL_CORPORA"])
    corpora = {
        name: biorel.load_corpus(name, folder / CORPORA[name], splits="blue" if name == "ddi" else None)
        for name in options.corpora
    }
    biorel.reproduce(
        options.items,
        corpora=corpora,
        directory=options.directory,
        preset="standard",
        seeds=options.seeds,
        folds=options.folds,
        jobs=options.jobs,
        precision=options.precision,
        threads=options.threads,
        progress=sys.stderr.isatty(),
    )
    publish(options.directory, options.output)


def note_start(options: argparse.Namespace) -> None:
    """Record time, machine, settings and the trials already finished."""
    found = []
    for name in options.corpora:
        trials = options.directory / "runs" / name / "trials.jsonl"
        count = len(trials.read_text().splitlines()) if trials.exists() else 0
        checkpoints = [path.stem for path in options.directory.glob(f"runs/{name}/checkpoints/*.checkpoint")]
        found.append(f"{name} {count} trials" + "".join(f" and the checkpoint of {trial}" for trial in checkpoints))
    machine = f"{cpu_name()}, {os.cpu_count()} cores ({', '.join(cpu_features())})"
    command = f"{' '.join(options.items)}, seeds {options.seeds}, {options.precision}, threads {options.threads}"
    command += f", jobs {options.jobs or 1}, AIMed's folds: {options.folds}"
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    with (options.output / "starts.txt").open("a") as file:
        print(f"{now}  commit {commit()}, {machine}: {command}; found {'; '.join(found)}", file=file)


def publish(directory: Path, output: Path) -> None:
    """Copy the results that quote no sentence of a corpus."""
    names = ["report.md", *(path.name for path in [*directory.glob("*.csv"), *directory.glob("*.svg")])]
    for name in names:
        (output / name).write_bytes((directory / name).read_bytes())
    for path in directory.glob("runs/*/trials.tsv"):
        (output / f"trials-{path.parent.name}.tsv").write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
