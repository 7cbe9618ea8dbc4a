"""The training of baseline_train.py with biorel: AIMed with one fold held out, and a log in the same format.

BIOREL_CORPORA=... python benchmarks/speed/biorel_train.py --head attention --seed 1 --log run.jsonl
"""

import argparse
import sys
from pathlib import Path

import biorel

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import RunLog, aimed_table, binary_scores, training_parser


def parse_arguments() -> argparse.Namespace:
    parser = training_parser(__doc__)
    parser.add_argument("--encoder", default="minilm", help="name or BERT directory")
    parser.add_argument("--head", default="cls")
    parser.add_argument("--marking", default="typed")
    parser.add_argument("--speed", type=int, help="measure so many steps after two to warm up")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    corpus = biorel.load_corpus("aimed", aimed_table(options)).fold(options.fold)
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
        marking=options.marking,
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
        # A pair without a prediction counts as predicted negative.
        scores = binary_scores(
            (predictions["gold"] == "positive").astype(int).tolist(),
            (predictions["predicted"] == "positive").astype(int).tolist(),
        )
    log.end(len(history), int(history["instances"].sum()), float(history["seconds"].sum()), scores)


if __name__ == "__main__":
    main()
