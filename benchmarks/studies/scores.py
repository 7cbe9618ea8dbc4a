"""Scores of heads and of one pass with MiniLM on all pairs, trial by trial; it goes on where the results end.

    export BIOREL_CORPORA=...
    python benchmarks/studies/scores.py train dev ddi tags-entity-attention-1e-4 visible-entity-1e-4 --runs runs/
    python benchmarks/studies/scores.py train test ddi one-pass attention-5e-5-corrected --seeds 1 2 --runs runs/
    python benchmarks/studies/scores.py ensemble dev ddi tags-entity-attention-1e-4-corrected --seeds 1 2 3 --runs runs/
    python benchmarks/studies/scores.py table

`train dev` compares settings on training data alone: half of the training documents, scored on documents held out from
training. `train test` trains on all pairs and scores AIMed's ten folds, or the test split of DDI (as BLUE divides it) or
ChemProt. A trial takes minutes to an hour of one core. `benchmarks/results/scores/trials.tsv` has a line for every finished
trial, and `decisions-CORPUS.tsv` its decisions on test data (`decisions-CORPUS-dev.tsv` on held-out training data), by the
number of the label; trials that are there are not repeated. A killed trial resumes from its checkpoint in the directory `--runs`,
which also keeps the probabilities. `--variant NAME` marks trials of a package that was built with a change: their form is
`FORM+NAME`. `ensemble` decides by the mean of the seeds' probabilities, the form `FORM+ensemble`. `table` prints means over the
seeds, and tests by documents: of one pass against each head, and of each variant against its form.
"""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
from biorel._files import atomic_write
from biorel.evaluation.paired_tests import Side, compare_decisions
from biorel.evaluation.scores import headline, score_predictions

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import append_row, commit, cpu_features, cpu_name

RESULTS = Path(__file__).parents[1] / "results" / "scores"
CORPORA: dict[str, tuple[str, dict[str, Any]]] = {
    "aimed": ("aimed/aimed_pairs.tsv", {}),
    "ddi": ("ddi/DDICorpus-2013.zip", {"splits": "blue"}),
    "chemprot": ("chemprot", {}),
}
HEADS = ["cls", "lstm", "attention", "lstm-no-cls", "attention-no-cls", "lstm-all-cls", "attention-all-cls"]
ONE_PASS = {"max_length": 384, "bias_correction": True}
TEXTS = {"tags": "levitated", "visible": "levitated-visible"}


def forms() -> dict[str, dict[str, Any]]:
    """What is trained, by name. The heads of the paper see each pair in its own text; epochs as in the names or below."""
    chosen = {"learning_rate": 1e-4, "epochs": 10, **ONE_PASS}
    found: dict[str, dict[str, Any]] = {
        "one-pass": {"head": "entity-attention", "marking": "levitated", **chosen},
        "one-pass-visible": {"head": "entity-attention", "marking": "levitated-visible", **chosen},
        "one-pass-entity": {"head": "entity", "marking": "levitated", **chosen},
    }
    for corrected in (False, True):
        for rate in ("3e-5", "5e-5", "1e-4", "2e-4"):
            settings = {"learning_rate": float(rate), "bias_correction": corrected}
            name = f"{rate}{'-corrected' * corrected}"
            for text, marking in TEXTS.items():
                for head in ("entity-attention", "entity"):
                    found[f"{text}-{head}-{name}"] = {
                        "head": head,
                        "marking": marking,
                        **ONE_PASS,
                        **settings,
                        "epochs": 6,
                    }
            for head in HEADS:
                found[f"{head}-{name}"] = {"head": head, "marking": "typed", **settings, "epochs": 3}
    return found


FORMS = forms()
KEY = ["data", "corpus", "form", "seed", "fold", "arithmetic"]


def load(name: str) -> biorel.Corpus:
    """The corpus as its trials read it."""
    path, splits = CORPORA[name]
    return biorel.load_corpus(name, Path(os.environ["BIOREL_CORPORA"]) / path, **splits)


def development(corpus: biorel.Corpus) -> biorel.Corpus:
    """Half of the training documents, and others to score; BLUE's dev split of DDI shares documents with its training."""
    documents = {
        split: list(dict.fromkeys(corpus.instances(split)["document"])) for split in corpus.splits if split != "test"
    }
    if "dev" in documents and not set(documents["train"]) & set(documents["dev"]):
        return corpus.divide({"train": documents["train"][::2], "test": documents["dev"]})
    every = sorted(set().union(*documents.values()))
    training = [document for number, document in enumerate(every) if number % 5 != 4]
    return corpus.divide({"train": training[::2], "test": every[4::5]})


def finished() -> pd.DataFrame:
    """The trials so far."""
    path = RESULTS / "trials.tsv"
    return pd.read_csv(path, sep="\t", keep_default_na=False) if path.exists() else pd.DataFrame(columns=KEY)


def decisions_file(data: str, corpus: str) -> Path:
    """The file of the decisions."""
    return RESULTS / f"decisions-{corpus}{'-dev' * (data == 'dev')}.tsv"


def decisions(data: str, corpus: str) -> pd.DataFrame:
    """One row per pair, one column per form and seed; empty where a fold is missing."""
    path = decisions_file(data, corpus)
    return pd.read_csv(path, sep="\t", index_col="id") if path.exists() else pd.DataFrame()


def train(options: argparse.Namespace) -> None:
    """Train and score the trials that are missing."""
    corpus = load(options.corpus)
    parts = {"-": corpus}
    if options.data == "dev":
        parts = {"-": development(corpus)}
    elif "train" not in corpus.splits:
        parts = {str(fold): corpus.fold(fold) for fold in range(10)}
    for seed in options.seeds:
        for form in options.forms:
            for fold, part in parts.items():
                title = f"{form}+{options.variant}" if options.variant else form
                key = [options.data, options.corpus, title, seed, fold, options.precision]
                if not is_finished(key):
                    trial(part, form, key, options)


def is_finished(key: list[Any]) -> bool:
    """Whether the trial has its line."""
    return bool((finished()[KEY].astype(str) == [str(value) for value in key]).all(axis=1).any())


def trial(part: biorel.Corpus, form: str, key: list[Any], options: argparse.Namespace) -> None:
    """One trial: its line, its decisions, and its probabilities."""
    data, name, title, seed, fold, precision = key
    started = time.monotonic()
    options.runs.mkdir(parents=True, exist_ok=True)
    checkpoint = options.runs / f"{data}-{name}-{title}-{seed}-{fold}-{precision}.checkpoint"
    settings = {"seed": seed, "precision": precision, "threads": options.threads, "checkpoint": checkpoint}
    run = biorel.finetune(part, "minilm", **FORMS[form], **settings, save_steps=200, progress=sys.stderr.isatty())
    scores = headline(run.scores, part)
    predictions = run.predictions("test")
    keep_decisions(key, part, predictions)
    predictions.to_csv(probabilities_file(key, options), sep="\t", index=False)
    row = dict(zip(KEY, key, strict=True)) | {name: round(value, 5) for name, value in scores.items()}
    row |= {"pairs": len(part.instances("test")), "steps": len(run.history)}
    row |= {"minutes": round((time.monotonic() - started) / 60, 1), "threads": options.threads}
    record(row, options)
    checkpoint.unlink(missing_ok=True)


def keep_decisions(key: list[Any], part: biorel.Corpus, predictions: pd.DataFrame) -> None:
    """Add the decisions of a trial to those of its corpus."""
    data, name, title, seed, _, _ = key
    predicted = predictions.set_index("id")["predicted"]
    column = predicted.map({label: number for number, label in enumerate(part.labels)}).rename(f"{title}/{seed}")
    table = decisions(data, name)
    table = column.to_frame().combine_first(table) if column.name in table else table.join(column, how="outer")
    write(table.astype("Int64").rename_axis("id").reset_index(), decisions_file(data, name))


def probabilities_file(key: list[Any], options: argparse.Namespace) -> Path:
    """The predictions of a trial, which are not committed."""
    return options.runs / f"{'-'.join(map(str, key))}.predictions.tsv"


def record(row: dict[str, Any], options: argparse.Namespace) -> None:
    """Add the line of a trial."""
    row |= {"date": time.strftime("%Y-%m-%d", time.gmtime()), "commit": options.commit or commit()}
    row |= {"machine": f"{cpu_name()} ({', '.join(cpu_features())})"}
    append_row(RESULTS / "trials.tsv", row)
    print(*(f"{name}={value}" for name, value in row.items()), flush=True)


def ensemble(options: argparse.Namespace) -> None:
    """Decide by the mean probability of the seeds, as `biorel.ensemble` does."""
    part = development(load(options.corpus)) if options.data == "dev" else load(options.corpus)
    columns = [f"p_{label}" for label in part.labels]
    for form in options.forms:
        keys = [[options.data, options.corpus, form, seed, "-", options.precision] for seed in options.seeds]
        members = [pd.read_csv(probabilities_file(key, options), sep="\t", keep_default_na=False) for key in keys]
        mean = sum(member.set_index("id")[columns].astype(float) for member in members) / len(members)
        together = members[0].assign(predicted=mean.idxmax(axis=1).str.removeprefix("p_").to_numpy())
        own = f"{form}+ensemble"
        key = [options.data, options.corpus, own, "".join(map(str, options.seeds)), "-", options.precision]
        scores = headline(score_predictions(together, part, "test", task=part._core.task), part)
        keep_decisions(key, part, together)
        row = dict(zip(KEY, key, strict=True)) | {name: round(value, 5) for name, value in scores.items()}
        record(row | {"pairs": len(together), "steps": 0, "minutes": 0.0, "threads": options.threads}, options)


def write(table: pd.DataFrame, path: Path) -> None:
    """A table as TSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, table.to_csv(sep="\t", index=False))


def table(_: argparse.Namespace) -> None:
    """Means over seeds (and folds), and one pass against each other form."""
    trials = finished()
    for (data, corpus), group in trials.groupby(["data", "corpus"], sort=False):
        by_seed = group.groupby(["form", "arithmetic", "seed"], sort=False)[["precision", "recall", "f1", "minutes"]]
        means = by_seed.agg({"precision": "mean", "recall": "mean", "f1": "mean", "minutes": "sum"})
        counts = by_seed.size().rename("trials")
        print(f"\n{data} {corpus}, percent; of folds: their mean\n")
        shown = (means[["precision", "recall", "f1"]] * 100).round(1).join(means["minutes"].round(0)).join(counts)
        print(shown.to_string())
    for data, corpus in trials[["data", "corpus"]].drop_duplicates().itertuples(index=False):
        if decisions_file(data, corpus).exists():
            compare(data, corpus)


def compare(data: str, name: str) -> None:
    """Paired tests of one pass against the paper's heads, and of variants against their forms."""
    decided = decisions(data, name)
    corpus = development(load(name)) if data == "dev" else load(name)
    split = "test" if "test" in corpus.splits else corpus.splits[0]
    pairs = corpus.instances(split).rename(columns={"label": "gold"})
    forms: dict[str, list[int]] = {}
    for column in decided.columns[decided.reindex(pairs["id"]).notna().all()]:
        form, seed = column.split("/")
        forms.setdefault(form, []).append(int(seed))
    for first, second, seeds in comparisons(forms):
        sides = []
        for form, own in zip((first, second), zip(*seeds, strict=True), strict=True):
            columns = [decided[f"{form}/{seed}"].reindex(pairs["id"]) for seed in own]
            predicted = [[corpus.labels[int(value)] for value in column] for column in columns]
            sides.append(Side(pairs, predicted, [0.0] * len(seeds), by_fold=False))
        how: dict[str, Any] = {"unit": "document", "samples": 10_000, "confidence_level": 0.95, "seed": 1}
        known = [seed for _, seed in seeds]
        found = compare_decisions(corpus, sides[0], sides[1], known, **how)
        print(f"\n{data} {name}: {first} against {second}, seeds {known}\n{found.iloc[[0]].to_string(index=False)}")


def comparisons(forms: dict[str, list[int]]) -> Iterator[tuple[str, str, list[tuple[int, int]]]]:
    """Two forms, and the seeds of either that are compared: equal ones, or an ensemble and each of its members."""
    for first, second in itertools.permutations(forms, 2):
        if first == f"{second}+ensemble":
            seeds = [(every, int(one)) for every in forms[first] for one in str(every)]
        elif first.startswith(f"{second}+") or (first.startswith("one-pass") and not second.startswith("one-pass")):
            seeds = [(seed, seed) for seed in forms[first]]
        else:
            continue
        if seeds := [both for both in seeds if both[1] in forms[second]]:
            yield first, second, seeds


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    helps = {"train": "train the trials that are missing", "ensemble": "score the mean of the seeds' probabilities"}
    for command, action in (("train", train), ("ensemble", ensemble)):
        one = commands.add_parser(command, help=helps[command])
        one.add_argument("data", choices=["dev", "test"])
        one.add_argument("corpus", choices=CORPORA)
        one.add_argument("forms", nargs="+", choices=FORMS)
        one.add_argument("--runs", type=Path, required=True, help="directory for checkpoints and probabilities")
        one.add_argument("--seeds", type=int, nargs="+", default=[1])
        one.add_argument("--threads", type=int, default=os.cpu_count())
        one.add_argument("--precision", default="f32")
        one.add_argument("--variant", help="what is different about the package, such as a change that was built in")
        one.add_argument("--commit", help="the commit of the package, if it is not that of this folder")
        one.set_defaults(run=action)
    commands.add_parser("table", help="print means and tests").set_defaults(run=table)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
