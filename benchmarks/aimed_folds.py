"""AIMed's ten published folds, heads cls and attention, MiniLM, a short schedule: the table and its paired tests.

    BIOREL_CORPORA=... python benchmarks/aimed_folds.py --directory runs/aimed_folds --output benchmarks/results/aimed_folds

Kill it whenever you like and start it again: it goes on where it stopped. Every start is written down beside the table
with what it found finished. The directory also holds the predictions, which quote the corpus and stay out of the
repository; `--output` gets the tables alone.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import biorel
from runlog import cpu_features, cpu_name

HEADS = ("cls", "attention")


def commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="of the experiment")
    parser.add_argument("--output", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--max-steps", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    finished = options.directory / "trials.jsonl"
    count = len(finished.read_text().splitlines()) if finished.exists() else 0
    state = [path.name for path in options.directory.glob("states/*.state")]
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    with (options.output / "starts.txt").open("a") as file:
        half = f", and the state of {state[0]}" if state else ""
        print(f"{now}  started; found {count} of 20 trials finished{half}", file=file)

    corpus = biorel.load_corpus("aimed", Path(os.environ["BIOREL_CORPORA"]) / "aimed" / "aimed_pairs.tsv")
    comparison = biorel.compare(
        corpus,
        directory=options.directory,
        heads=HEADS,
        folds="given",
        max_steps=options.max_steps,
        learning_rate=options.lr,
        state_every=20,
        threads=options.threads,
        progress=sys.stderr.isatty(),
    )
    tests = comparison.paired("attention", "cls")
    by_sentence = comparison.paired("attention", "cls", unit="sentence")
    trials = comparison.trials.drop(columns=["status", "error"]).round(4)
    lines = [
        f"date     {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
        f"machine  {cpu_name()}, {os.cpu_count()} cores ({', '.join(cpu_features())})",
        f"commit   {commit()}",
        f"command  python benchmarks/aimed_folds.py --max-steps {options.max_steps} --lr {options.lr}",
        "",
        comparison.results.round(4).to_string(index=False),
        comparison.results.protocol,
        "",
        tests.round(4).to_string(index=False, na_rep=""),
        tests.protocol,
        "",
        "The same, drawing whole sentences:",
        by_sentence.iloc[:1].round(4).to_string(index=False, na_rep=""),
    ]
    (options.output / "summary.txt").write_text("\n".join(lines) + "\n")
    trials.to_csv(options.output / "trials.tsv", sep="\t", index=False)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
