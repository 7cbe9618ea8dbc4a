"""Relations between concepts at document scope against sentence scope: BioRED and BC5CDR with MiniLM.

    export BIOREL_CORPORA=...
    python benchmarks/studies/document_scope.py train dev biored document sentence --runs runs/
    python benchmarks/studies/document_scope.py train test biored document sentence --seeds 1 2 --runs runs/
    python benchmarks/studies/document_scope.py train test joint sentence --runs runs/
    python benchmarks/studies/document_scope.py table

`train dev` trains on the training documents of BioRED but every fifth, which it scores: choices are made there. `train
test` trains on BioRED's training set and scores its test set; BC5CDR, whose test set is not at hand, is trained on its
training set and scored on its development set, once. `joint` trains one encoder on both corpora. Scores are those of concepts (`biorel.concept_scores`): gold relations
that a scope cannot reach are misses. `benchmarks/results/document_scope/trials.tsv` has a line for every finished trial
and `documents.tsv` its counts by document; trials that are there are not repeated. A killed trial resumes from its
checkpoint in `--runs`. `table` prints means over the seeds, and paired tests over the documents.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import biorel
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import append_row, commit, cpu_features, cpu_name

RESULTS = Path(__file__).parents[1] / "results" / "document_scope"
FILES = {
    "biored": {"train": "biored/Train.PubTator", "test": "biored/Test.PubTator"},
    "bc5cdr": {
        "train": "bc5cdr/CDR_TrainingSet.PubTator.PubTator.txt",
        "test": "bc5cdr/CDR_DevelopmentSet.PubTator.txt",
    },
}
COMMON = {"head": "entity-attention", "marking": "levitated-visible", "bias_correction": True, "learning_rate": 1e-4}
FORMS: dict[str, dict[str, Any]] = {
    "sentence": {"scope": "sentence", "max_length": 384, "epochs": 10},
    "document": {"scope": "document", "max_length": 508, "epochs": 10},
    "document-tags": {"scope": "document", "max_length": 508, "epochs": 10, "marking": "levitated"},
    "document-entity": {"scope": "document", "max_length": 508, "epochs": 10, "head": "entity"},
    # Trained together with the pairs of mentions in sentences.
    "document-mixed": {"scope": "document", "other_scope": "sentence", "max_length": 508, "epochs": 10},
    # A document of BioRED has 55 pairs, so that a batch of 32 has one document.
    **{
        f"document-batch-{n}": {"scope": "document", "max_length": 508, "epochs": 10, "batch_size": n}
        for n in (128, 256)
    },
    "sentence-20": {"scope": "sentence", "max_length": 384, "epochs": 20},
    "document-20": {"scope": "document", "max_length": 508, "epochs": 20},
    **{
        f"document-{n}-mentions": {"scope": "document", "max_length": 508, "epochs": 10, "max_mentions": n}
        for n in (1, 2, 8)
    },
}
KEY = ["data", "corpus", "form", "seed", "arithmetic"]


def read(data: str, name: str) -> dict[str, list[biorel.Document]]:
    """The documents of each split."""
    folder = Path(os.environ["BIOREL_CORPORA"])
    documents = {split: list(biorel.read_documents(folder / file)) for split, file in FILES[name].items()}
    if data == "dev":
        training = documents["train"]
        return {"train": [one for n, one in enumerate(training) if n % 5 != 4], "test": training[4::5]}
    return documents


def finished() -> pd.DataFrame:
    """The trials so far."""
    path = RESULTS / "trials.tsv"
    return pd.read_csv(path, sep="\t", keep_default_na=False) if path.exists() else pd.DataFrame(columns=KEY)


def train(options: argparse.Namespace) -> None:
    """Train and score the trials that are missing."""
    names = list(FILES) if options.corpus == "joint" else [options.corpus]
    for seed in options.seeds:
        for form in options.forms:
            title = f"{form}-joint" if len(names) > 1 else form
            keys = {name: [options.data, name, title, seed, options.precision] for name in names}
            if not all(is_finished(key) for key in keys.values()):
                trial(form, keys, options)


def is_finished(key: list[Any]) -> bool:
    """Whether the trial has its line."""
    return bool((finished()[KEY].astype(str) == [str(value) for value in key]).all(axis=1).any())


def trial(form: str, keys: dict[str, list[Any]], options: argparse.Namespace) -> None:
    """One trial, of one corpus or of several together: a line for each, and its counts by document."""
    *_, seed, precision = next(iter(keys.values()))
    settings = {**COMMON, **FORMS[form], "seed": seed, "precision": precision, "threads": options.threads}
    reading = {setting: settings.pop(setting) for setting in ("scope", "max_mentions") if setting in settings}
    other_scope = settings.pop("other_scope", None)
    started = time.monotonic()
    documents = {name: read(options.data, name) for name in keys}
    corpora = {}
    for name, own in documents.items():
        files = [Path(os.environ["BIOREL_CORPORA"]) / file for file in FILES[name].values()]
        parts = {split: [document.id for document in part] for split, part in own.items()}
        corpora[name] = biorel.load_corpus(name, files, **reading).divide(parts)
        if other_scope is not None:
            corpora[f"{name}-{other_scope}"] = biorel.load_corpus(name, files, scope=other_scope).divide(parts)
    options.runs.mkdir(parents=True, exist_ok=True)
    checkpoint = options.runs / f"{options.data}-{options.corpus}-{form}-{seed}-{precision}.checkpoint"
    quiet = {"save_steps": 200, "progress": sys.stderr.isatty()}
    corpus = corpora if len(corpora) > 1 else next(iter(corpora.values()))
    run: Any = biorel.finetune(corpus, "minilm", **settings, checkpoint=checkpoint, **quiet)
    minutes = (time.monotonic() - started) / 60
    for name, key in keys.items():
        own = run[name] if len(corpora) > 1 else run
        if options.save:
            own.save(options.runs / "-".join(map(str, key)))
        score(key, own, documents[name]["test"], minutes, options)
    checkpoint.unlink(missing_ok=True)


def score(
    key: list[Any], run: biorel.Run, test: list[biorel.Document], minutes: float, options: argparse.Namespace
) -> None:
    """The line of a trial on one corpus, and its counts by document."""
    begun = time.monotonic()
    table = biorel.predict_documents(run.model, test, related_only=False, progress=False)
    predicted = time.monotonic() - begun
    scores = biorel.concept_scores(test, table)
    micro = scores[(scores["by"] == "all")].set_index("class")
    row = dict(zip(KEY, key, strict=True))
    for title, class_ in (("", "micro"), ("pairs_", "micro, any relation")):
        row |= {f"{title}{column}": round(micro.loc[class_, column], 5) for column in ("precision", "recall", "f1")}
    row |= {column: int(micro.loc["micro", column]) for column in ("support", "predicted", "correct", "unreachable")}
    row |= {"steps": len(run.history), "minutes": round(minutes, 1)}
    row |= {"documents_per_second": round(len(test) / predicted, 1), "threads": options.threads}
    row |= {"date": time.strftime("%Y-%m-%d", time.gmtime()), "commit": options.commit or commit()}
    row |= {"machine": f"{cpu_name()} ({', '.join(cpu_features())})"}
    relations = biorel.concept_relations(test, table)
    relations["correct"] = relations["gold"] & relations["predicted"]
    counts = relations.groupby("document")[["gold", "predicted", "correct"]].sum()
    for document in (one.id for one in test):
        found = counts.loc[document].tolist() if document in counts.index else [0, 0, 0]
        line = [*key, document, *found]
        append_row(RESULTS / "documents.tsv", dict(zip([*KEY, "document", *counts.columns], line, strict=True)))
    append_row(RESULTS / "trials.tsv", row)
    print(*(f"{name}={value}" for name, value in row.items()), flush=True)


def table(_: argparse.Namespace) -> None:
    """Means over the seeds, and document scope against sentence scope."""
    trials = finished()
    columns = ["precision", "recall", "f1", "pairs_f1", "minutes"]
    for (data, corpus), group in trials.groupby(["data", "corpus"], sort=False):
        means = group.groupby("form", sort=False)[columns].mean()
        means[columns[:-1]] *= 100
        print(
            f"\n{data} {corpus}, percent\n\n{means.join(group.groupby('form').size().rename('seeds')).round(1).to_string()}"
        )
    counts = pd.read_csv(RESULTS / "documents.tsv", sep="\t").drop_duplicates([*KEY, "document"], keep="last")
    for (data, corpus), group in counts.groupby(["data", "corpus"], sort=False):
        for form in (form for form in group["form"].unique() if form != "sentence"):
            other = form.removesuffix("-joint") if form.endswith("-joint") else "sentence"
            compare(
                group[group["form"] == form], group[group["form"] == other], f"{data} {corpus}: {form} against {other}"
            )


def compare(first: pd.DataFrame, second: pd.DataFrame, title: str) -> None:
    """The difference of micro-F1 with its interval (bootstrap) and p-value (randomisation), over documents.

    A document is resampled, or exchanged between the two, with all its seeds.
    """
    seeds = sorted(set(first["seed"]) & set(second["seed"]))
    if not seeds:
        return
    sides = []
    for side in (first, second):
        kept = side[side["seed"].isin(seeds)].sort_values(["document", "seed"])
        sides.append(kept[["gold", "predicted", "correct"]].to_numpy().reshape(-1, len(seeds), 3).astype(float))
    numbers = np.random.default_rng(1)

    def f1(counts: np.ndarray) -> np.ndarray:
        """Counts of (..., document, seed, 3) to the mean F1 of the seeds."""
        gold, predicted, correct = np.moveaxis(counts.sum(axis=-3), -1, 0)
        return (2 * correct / np.maximum(gold + predicted, 1)).mean(axis=-1)

    difference = f1(sides[0]) - f1(sides[1])
    drawn = numbers.integers(len(sides[0]), size=(10_000, len(sides[0])))
    resampled = np.array([f1(sides[0][index]) - f1(sides[1][index]) for index in drawn])
    exchanged = []
    for _ in range(10_000):
        swap = numbers.random(len(sides[0]))[:, None, None] < 0.5
        one, other = np.where(swap, sides[1], sides[0]), np.where(swap, sides[0], sides[1])
        exchanged.append(f1(one) - f1(other))
    low, high = np.quantile(resampled, [0.025, 0.975])
    p = (1 + (np.abs(exchanged) >= abs(difference) - 1e-12).sum()) / 10_001
    shown = f"{100 * difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}), p = {p:.4f}"
    print(f"{title}, F1: {shown}; {len(sides[0])} documents, seeds {seeds}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train", help="train the trials that are missing")
    one.add_argument("data", choices=["dev", "test"])
    one.add_argument("corpus", choices=[*FILES, "joint"], help="joint: all corpora together, one encoder")
    one.add_argument("forms", nargs="+", choices=FORMS)
    one.add_argument("--runs", type=Path, required=True, help="directory for the checkpoints of running trials")
    one.add_argument("--seeds", type=int, nargs="+", default=[1])
    one.add_argument("--threads", type=int, default=os.cpu_count())
    one.add_argument("--precision", default="f32")
    one.add_argument("--save", action="store_true", help="save the models in the directory of the runs")
    one.add_argument("--commit", help="the commit of the package, if it is not that of this folder")
    one.set_defaults(run=train)
    commands.add_parser("table", help="print means and tests").set_defaults(run=table)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
