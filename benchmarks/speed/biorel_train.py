"""The training of baseline_train.py with biorel: AIMed with one fold held out, and a log in the same format.

BIOREL_CORPORA=... python benchmarks/speed/biorel_train.py --head attention --seed 1 --log run.jsonl
"""

import argparse
import os
import sys
from pathlib import Path

import biorel

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import RunLog, binary_scores


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="aimed_pairs.tsv; default: $BIOREL_CORPORA/aimed/aimed_pairs.tsv")
    parser.add_argument("--encoder", default="minilm", help="name or BERT directory")
    parser.add_argument("--head", default="cls")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fold", type=int, default=0, help="the fold to hold out")
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--max-steps", type=int, help="stop after so many steps, without scores")
    parser.add_argument("--speed", type=int, help="measure so many steps after two to warm up")
    parser.add_argument(
        "--gradient-checkpointing", action="store_true", help="compute activations twice to save memory"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--log", type=Path, help="JSON lines; default: standard output")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    path = options.corpus
    if path is None:
        if "BIOREL_CORPORA" not in os.environ:
            sys.exit("Give --corpus or set BIOREL_CORPORA")
        path = Path(os.environ["BIOREL_CORPORA"]) / "aimed" / "aimed_pairs.tsv"
    corpus = biorel.load_corpus("aimed", path).fold(options.fold)
    sizes = corpus.statistics().set_index("split")["pairs"]
    log = RunLog(options.log)
    log.header(
        program="biorel",
        script="biorel_train.py",
        versions={"biorel": biorel.__version__},
        settings={k: v for k, v in vars(options).items() if k not in ("corpus", "encoder", "log")},
        data={"train_pairs": int(sizes["train"]), "test_pairs": int(sizes["test"])},
        encoder=Path(options.encoder).name,
    )
    run = biorel.finetune(
        corpus,
        options.encoder,
        head=options.head,
        seed=options.seed,
        learning_rate=options.lr,
        epochs=options.epochs,
        batch_size=options.batch_size,
        max_length=options.max_length,
        max_steps=options.max_steps if options.speed is None else options.speed + 2,
        too_long="join",
        gradient_checkpointing=options.gradient_checkpointing,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        progress=False,
    )
    history = run.history
    for epoch, steps in history.groupby("epoch"):
        log.epoch(int(epoch), steps["loss"].tolist(), steps["seconds"].tolist())
    scores = None
    if options.speed is not None:
        history = history[2:]
    elif options.max_steps is None:
        predictions = run.predictions("test")
        # A pair that could not be judged counts as negative, and so as a miss where it is positive.
        scores = binary_scores(
            (predictions["gold"] == "positive").astype(int).tolist(),
            (predictions["predicted"] == "positive").astype(int).tolist(),
        )
    log.end(len(history), int(history["instances"].sum()), float(history["seconds"].sum()), scores)


if __name__ == "__main__":
    main()
