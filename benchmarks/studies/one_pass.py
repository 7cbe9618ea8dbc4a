"""One pass for all pairs of a sentence against one pass for each pair: pairs a second, in training and in prediction.

    BIOREL_CORPORA=... python benchmarks/studies/one_pass.py [--repeats 3] [--precision f32] > one_pass.txt

`each pair` has the head attention, `one pass` entity-attention and `entity` entity; the ratios are those of `one pass` and of
`entity` to `each pair`. The forms take turns, each in its own process. A figure is the median over the repeats; a ratio is
that of the medians. Training: the steps after two to warm up, batches of 32 pairs. Prediction: pairs of the first documents
of the test split, `--pairs` where it has so many. Memory: the peak of the process after training. Use an otherwise idle
machine.
"""

import argparse
import json
import os
import resource
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
    "entity": {"head": "entity", "marking": "levitated", "max_length": 384},
}


def measure(name: str, form: str, options: argparse.Namespace) -> dict[str, float]:
    """In a process of its own: pairs a second, and tokens per pair."""
    import biorel

    path, splits = CORPORA[name]
    corpus = biorel.load_corpus(name, Path(os.environ["BIOREL_CORPORA"]) / path, **splits)
    corpus = corpus.fold(0) if name == "aimed" else corpus
    run = biorel.finetune(
        corpus, options.encoder, max_steps=options.steps + 2, learning_rate=1e-4, precision=options.precision, test=None,
        threads=options.threads, progress=False, **FORMS[form],
    )  # fmt: skip
    steps = run.history[2:]
    trained = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    instances = corpus.instances("test")
    documents = list(dict.fromkeys(instances["document"]))
    enough = (n for n in range(1, len(documents)) if instances["document"].isin(documents[:n]).sum() >= options.pairs)
    chosen = next(enough, len(documents))
    part = corpus.divide({"test": documents[:chosen]})
    started = time.perf_counter()
    pairs = len(run.model.predictions(part, "test"))
    seconds = time.perf_counter() - started
    return {
        "training": float(steps["instances"].sum() / steps["seconds"].sum()),
        "prediction": pairs / seconds,
        "tokens": float(steps["tokens"].sum() / steps["instances"].sum()),
        "memory": trained,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--corpora", nargs="+", default=list(CORPORA), choices=CORPORA)
    parser.add_argument("--encoder", default="minilm", help="a name or a BERT directory")
    parser.add_argument("--pairs", type=int, default=600, help="pairs to predict, at least")
    parser.add_argument("--one", nargs=2, metavar=("CORPUS", "FORM"), help="one measurement, as a line of JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, options)))
        return
    own = [f"--{key}={getattr(options, key)}" for key in ("repeats", "steps", "precision", "threads", "pairs")]
    shown = [*own, f"--corpora {' '.join(options.corpora)}", f"--encoder {Path(options.encoder).name}"]
    print(f"date     {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}")
    print(f"machine  {cpu_name()}, {os.cpu_count()} cores ({', '.join(cpu_features())}); load {load_average()}")
    print(f"commit   {commit()}")
    print(f"command  python benchmarks/studies/one_pass.py {' '.join(shown)}\n")
    print(f"{'':22}" + "".join(f"{form:>12}" for form in FORMS) + f"{'ratios':>10}", flush=True)
    for name in options.corpora:
        found: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
        for _ in range(options.repeats):
            for form, records in found.items():
                command = [
                    sys.executable,
                    "-W",
                    "ignore",
                    __file__,
                    *own,
                    "--encoder",
                    options.encoder,
                    "--one",
                    name,
                    form,
                ]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                records.append(json.loads(done.stdout.splitlines()[-1]))
        units = {"training": "pairs/s", "prediction": "pairs/s", "tokens": "per pair", "memory": "MB after training"}
        for what, unit in units.items():
            pairwise, *shared = (statistics.median(record[what] for record in found[form]) for form in FORMS)
            figures = "".join(f"{figure:12.1f}" for figure in [pairwise, *shared])
            ratios = [figure / pairwise if unit == "pairs/s" else pairwise / figure for figure in shared]
            print(
                f"{name:10}{what:12}{figures}" + "".join(f"{ratio:8.2f}" for ratio in ratios) + f"  {unit}", flush=True
            )


if __name__ == "__main__":
    main()
