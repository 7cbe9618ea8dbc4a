"""One pass for all pairs of a sentence against a pass for each pair: scores with MiniLM.

    BIOREL_CORPORA=... python benchmarks/studies/one_pass_scores.py dev ddi --directory runs/one_pass
    BIOREL_CORPORA=... python benchmarks/studies/one_pass_scores.py test ddi --directory runs/one_pass --seeds 1 2

`dev` compares forms of the marking and heads on training data alone: half of the training documents, scored on documents
held out from training. `test` trains on all pairs with the form chosen so, and scores AIMed's ten folds, or the test split of
DDI (as BLUE divides it) or ChemProt. A killed run resumes when started again, and forms or seeds given later extend it:
`trials.jsonl` of its directory has the trials that have finished. One core needs hours for each seed.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import biorel

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import commit, cpu_features, cpu_name

CORPORA: dict[str, tuple[str, dict[str, Any]]] = {
    "aimed": ("aimed/aimed_pairs.tsv", {}),
    "ddi": ("ddi/DDICorpus-2013.zip", {"splits": "blue"}),
    "chemprot": ("chemprot", {}),
}
ONE_PASS = {"learning_rate": 1e-4, "max_length": 384}
DEV = {
    "tags": {"head": "entity-attention", "marking": "levitated", **ONE_PASS},
    "visible": {"head": "entity-attention", "marking": "levitated-visible", **ONE_PASS},
    "tags-entity": {"head": "entity", "marking": "levitated", **ONE_PASS},
}
TEST = {
    "one-pass": {"head": "entity-attention", "marking": "levitated", "epochs": 10, **ONE_PASS},
    "each-pair-attention": {"head": "attention", "marking": "typed", "epochs": 3, "learning_rate": 5e-5},
    "each-pair-cls": {"head": "cls", "marking": "typed", "epochs": 3, "learning_rate": 5e-5},
}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["dev", "test"])
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument("--directory", type=Path, required=True, help="the run directories are folders of it")
    parser.add_argument("--forms", nargs="+", help="some of the forms")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", default="f32")
    options = parser.parse_args()
    path, splits = CORPORA[options.corpus]
    corpus = biorel.load_corpus(options.corpus, Path(os.environ["BIOREL_CORPORA"]) / path, **splits)
    forms = DEV if options.data == "dev" else TEST
    forms = {name: settings for name, settings in forms.items() if name in (options.forms or forms)}
    settings: dict[str, Any] = {"precision": options.precision, "threads": options.threads}
    if options.data == "dev":
        corpus, settings = development(corpus), {"epochs": 6, **settings}
    comparison = biorel.compare(
        corpus,
        directory=options.directory / f"{options.data}-{options.corpus}",
        variants=forms,
        seeds=options.seeds,
        folds="given" if options.corpus == "aimed" and options.data == "test" else None,
        progress=sys.stderr.isatty(),
        **settings,
    )
    print(f"date     {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}")
    print(f"machine  {cpu_name()}, {os.cpu_count()} cores ({', '.join(cpu_features())})")
    print(f"commit   {commit()}")
    print(f"command  python benchmarks/studies/one_pass_scores.py {' '.join(sys.argv[1:])}")
    print(f"\n{comparison.results.to_string()}\n\n{comparison.trials.to_string()}")
    for name in list(forms)[1:]:
        print(f"\n{comparison.paired(next(iter(forms)), name).to_string()}")


if __name__ == "__main__":
    main()
