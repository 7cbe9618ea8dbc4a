"""One pass for all pairs of a sentence against one pass for each pair: pairs a second, in training and in prediction.

    BIOREL_CORPORA=... python benchmarks/studies/one_pass.py [--repeats 3] [--precision f32] > one_pass.txt

The two forms take turns, each in its own process. A figure is the median over the repeats; the ratio is that of the
medians. Training: the steps after two to warm up, batches of 32 pairs. Prediction: pairs of the first documents of the
test split, 600 where it has so many. Use an otherwise idle machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import commit, cpu_features, cpu_name, load_average

CORPORA = {
    "aimed": ("aimed/aimed_pairs.tsv", {}),
    "ddi": ("ddi/DDICorpus-2013.zip", {"splits": "blue"}),
    "chemprot": ("chemprot", {}),
}
# Word pieces of the text: a marked pair has a window of 128 in the paper; a sentence in one pass is hardly ever cut.
FORMS = {
    "each pair": {"head": "attention", "marking": "typed", "max_length": 128},
    "one pass": {"head": "entity-attention", "marking": "levitated", "max_length": 384},
}


def measure(name: str, form: str, options: argparse.Namespace) -> dict[str, float]:
    """In a process of its own: pairs a second, and tokens per pair."""
    import biorel

    path, splits = CORPORA[name]
    corpus = biorel.load_corpus(name, Path(os.environ["BIOREL_CORPORA"]) / path, **splits)
    corpus = corpus.fold(0) if name == "aimed" else corpus
    run = biorel.finetune(
        corpus, "minilm", max_steps=options.steps + 2, learning_rate=1e-4, precision=options.precision, test=None,
        threads=options.threads, progress=False, **FORMS[form],
    )  # fmt: skip
    steps = run.history[2:]
    instances = corpus.instances("test")
    documents = list(dict.fromkeys(instances["document"]))
    enough = (n for n in range(1, len(documents)) if instances["document"].isin(documents[:n]).sum() >= 600)
    chosen = next(enough, len(documents))
    part = corpus.divide({"test": documents[:chosen]})
    started = time.perf_counter()
    pairs = len(run.model.predictions(part, "test"))
    seconds = time.perf_counter() - started
    return {
        "training": float(steps["instances"].sum() / steps["seconds"].sum()),
        "prediction": pairs / seconds,
        "tokens": float(steps["tokens"].sum() / steps["instances"].sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--one", nargs=2, metavar=("CORPUS", "FORM"), help="one measurement, as a line of JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, options)))
        return
    own = [f"--{key}={getattr(options, key)}" for key in ("repeats", "steps", "precision", "threads")]
    print(f"date     {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}")
    print(f"machine  {cpu_name()}, {os.cpu_count()} cores ({', '.join(cpu_features())}); load {load_average()}")
    print(f"commit   {commit()}")
    print(f"command  python benchmarks/studies/one_pass.py {' '.join(own)}\n")
    print(f"{'':10}{'':12}{'each pair':>12}{'one pass':>12}{'ratio':>8}", flush=True)
    for name in CORPORA:
        found: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
        for _ in range(options.repeats):
            for form, records in found.items():
                command = [sys.executable, "-W", "ignore", __file__, *own, "--one", name, form]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                records.append(json.loads(done.stdout.splitlines()[-1]))
        for what, unit in (("training", "pairs/s"), ("prediction", "pairs/s"), ("tokens", "per pair")):
            pairwise, shared = (statistics.median(record[what] for record in found[form]) for form in FORMS)
            ratio = pairwise / shared if what == "tokens" else shared / pairwise
            print(f"{name:10}{what:12}{pairwise:12.1f}{shared:12.1f}{ratio:8.2f}  {unit}", flush=True)


if __name__ == "__main__":
    main()
