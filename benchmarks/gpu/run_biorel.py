"""One setting of biorel on a GPU, in its own process: prints one line of JSON. side_by_side.py calls it.

BIOREL_CORPORA=... python benchmarks/gpu/run_biorel.py train --encoder minilm --precision bf16
"""

import argparse
import json
import os
import time
from pathlib import Path

import biorel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "predict"])
    parser.add_argument("--encoder", default="minilm", help="name or BERT directory")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="bf16")
    parser.add_argument("--head", default="attention")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--warmup", type=int, default=20, help="steps that are not timed")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    corpus = biorel.load_corpus("aimed", Path(os.environ["BIOREL_CORPORA"]) / "aimed" / "aimed_pairs.tsv").fold(0)
    steps = options.warmup + options.steps if options.what == "train" else 1
    run = biorel.finetune(
        corpus,
        options.encoder,
        head=options.head,
        max_steps=steps,
        device=options.device,
        precision=options.precision,
        test=None,
        progress=False,
    )
    if options.what == "train":
        timed = run.history.iloc[options.warmup :]
        result = {
            "sentences": int(timed["instances"].sum()),
            "tokens": int(timed["tokens"].sum()),
            "steps": len(timed),
            "seconds": float(timed["seconds"].sum()),
        }
    else:
        run.model.predictions(corpus, "train")
        started = time.perf_counter()
        predictions = run.model.predictions(corpus, "train")  # including tokenisation and the DataFrame
        result = {"sentences": len(predictions), "steps": 1, "seconds": time.perf_counter() - started}
    print(json.dumps({**result, "device": run.settings["device"], "biorel": biorel.__version__}))


if __name__ == "__main__":
    main()
