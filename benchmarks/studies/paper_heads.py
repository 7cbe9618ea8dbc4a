"""Tables of the trials that `paper.py` has finished, without training: each head next to the printed figure, paired tests.

    BIOREL_CORPORA=... python benchmarks/studies/paper_heads.py --directory runs/paper --output benchmarks/results/paper

Works for an unfinished run too. Writes `heads.csv` and `paired.csv`.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Literal

import biorel
import pandas as pd
from biorel.reproduction import published
from paper import CORPORA, SCHEDULE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="the run directory")
    parser.add_argument("--output", type=Path, required=True, help="folder for the two tables")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    heads, tests = [], []
    for name, file in CORPORA.items():
        directory = options.directory / "runs" / name
        if not (directory / "trials.jsonl").exists():
            continue
        corpus = biorel.load_corpus(
            name, Path(os.environ["BIOREL_CORPORA"]) / file, splits="blue" if name == "ddi" else None
        )
        comparison = finished(corpus, directory)
        heads.append(next_to_the_printed(comparison, name))
        tests += [
            comparison.paired("attention", other, unit=unit).assign(corpus=name, against=other, unit=unit)
            for other in comparison.results["head"]
            for unit in ("document", "instance")
            if other != "attention"
        ]
    pd.concat(heads).to_csv(options.output / "heads.csv", index=False)
    table = pd.concat(tests)
    table = table[["corpus", "against", "test", "unit", *(c for c in table.columns if c not in ("corpus", "against"))]]
    table = table.loc[:, ~table.columns.duplicated()]
    # The sign test is over folds or seeds, whatever the unit.
    table = table[(table["test"] != "sign test") | (table["unit"] == "document")]
    table.round(4).to_csv(options.output / "paired.csv", index=False)
    print(pd.concat(heads).to_string(index=False), table.round(4).to_string(index=False), sep="\n")


def finished(corpus: biorel.Corpus, directory: Path) -> biorel.Comparison:
    """The comparison of the finished heads and seeds."""
    records = [json.loads(line) for line in (directory / "trials.jsonl").read_text().splitlines()]
    done = [record for record in records if record["status"] == "finished"]
    heads = [head for head in published.MODELS if head in {record["head"] for record in done}]
    seeds = sorted({record["seed"] for record in done})
    complete = [head for head in heads if {record["seed"] for record in done if record["head"] == head} == set(seeds)]
    plan = json.loads((directory / "plan.json").read_text())
    folds: Literal["given"] | None = None if plan["folds"] is None else "given"
    if "train" not in corpus.splits and folds is None:
        corpus = corpus.fold(0)
    settings = {"folds": folds, "precision": plan["settings"]["precision"], "progress": False, **SCHEDULE}
    return biorel.compare(corpus, directory=directory, heads=complete, seeds=seeds, **settings)


def next_to_the_printed(comparison: biorel.Comparison, name: str) -> pd.DataFrame:
    rows = []
    for result in comparison.results.to_dict("records"):
        head = result["head"]
        printed = published.RESULTS[head][name]
        trials = comparison.trials[comparison.trials["head"] == head]
        ours = {key: round(100 * result[key], 1) for key in ("precision", "recall", "f1")}
        row = {"task": published.TASKS[name], "model": published.MODELS[head], "head": head}
        row |= {f"published_{key}": value for key, value in printed._asdict().items()}
        row |= {**ours, "difference": round(ours["f1"] - printed.f1, 1), "seeds": trials["seed"].nunique()}
        row |= {"precision_of_numbers": comparison.settings["precision"], "protocol": comparison.results.protocol}
        rows.append({**row, "minutes": round(trials["seconds"].sum() / 60, 1)})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
