"""The paper's tables and figures on one published corpus, with MiniLM and a schedule that fits a small machine.

    BIOREL_CORPORA=... python benchmarks/paper.py ddi --directory runs/paper/ddi --output benchmarks/results/paper/ddi

`biorel.reproduce` with a schedule short enough for two cores, one corpus at a time, so that each can have its own. Kill
it whenever you like and start it again: it goes on where it stopped. Every start is written down with what it found
finished. The directory also holds predictions, models and heat maps, which quote the corpus and stay out of the
repository; `--output` gets tables, pictures and the report without Fig. 3.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import biorel
from aimed_folds import commit
from runlog import cpu_features, cpu_name

CORPORA = {"aimed": "aimed/aimed_pairs.tsv", "ddi": "ddi/DDICorpus-2013.zip", "chemprot": "chemprot"}
TRAINED = ["table1", "table3", "table4"]
ANALYSED = ["table5", "figure4", "faithfulness"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument("--directory", type=Path, required=True, help="of the experiment")
    parser.add_argument("--output", type=Path, required=True, help="folder for what can be published")
    parser.add_argument("--items", nargs="+", default=[*TRAINED, *ANALYSED], choices=[*TRAINED, *ANALYSED])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--settings", type=json.loads, default={}, help='of finetune: {"max_steps": 300}')
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    note_start(options)
    splits = "blue" if options.corpus == "ddi" else None
    corpus = biorel.load_corpus(
        options.corpus, Path(os.environ["BIOREL_CORPORA"]) / CORPORA[options.corpus], splits=splits
    )
    biorel.reproduce(
        options.items,
        corpora={options.corpus: corpus},
        directory=options.directory,
        preset="quick",
        seeds=options.seeds,
        threads=options.threads,
        progress=sys.stderr.isatty(),
        **options.settings,
    )
    publish(options.directory, options.output, options.corpus)


def note_start(options: argparse.Namespace) -> None:
    """When it was started, where, with what, and what there was."""
    trials = options.directory / "runs" / options.corpus / "trials.jsonl"
    count = len(trials.read_text().splitlines()) if trials.exists() else 0
    state = [path.name for path in options.directory.glob(f"runs/{options.corpus}/states/*.state")]
    half = f" and the state of {state[0]}" if state else ""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    with (options.output / "starts.txt").open("a") as file:
        machine = f"{cpu_name()}, {os.cpu_count()} cores ({', '.join(cpu_features())})"
        command = f"{' '.join(options.items)}, seeds {options.seeds}, threads {options.threads}, {options.settings}"
        print(f"{now}  commit {commit()}, {machine}: {command}; found {count} trials{half}", file=file)


def publish(directory: Path, output: Path, corpus: str) -> None:
    """What quotes no sentence of the corpus."""
    names = ["report.html", "report.md", *(path.name for path in [*directory.glob("*.csv"), *directory.glob("*.svg")])]
    for name in names:
        (output / name).write_bytes((directory / name).read_bytes())
    for name in ("trials.tsv", "results.tsv"):
        path = directory / "runs" / corpus / name
        if path.exists():
            (output / name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
