"""``biorel demo`` and ``make demo``: from a corpus to stems on the synthetic sample, in a few minutes on a laptop."""

from __future__ import annotations

import argparse

import pandas as pd
from biorel.cli.options import Commands, add_command
from biorel.cli.output import say
from biorel.data.sample import load_sample
from biorel.interpretation.stems import top_stems
from biorel.training.finetune import finetune
from biorel.training.run import Run

# Sentences that are in no split of the sample. Their names are invented, too.
SENTENCES = [
    ("Tamoquidol increases the plasma concentration of brelozine.", ["Tamoquidol", "brelozine"]),
    ("Patients who take tamoquidol should avoid brelozine.", ["tamoquidol", "brelozine"]),
    (
        "Tamoquidol, but not ferivane, potentiates the sedative effect of brelozine.",
        ["Tamoquidol", "ferivane", "brelozine"],
    ),
    ("Tamoquidol did not change the clearance of brelozine.", ["Tamoquidol", "brelozine"]),
]


def add_demo(commands: Commands) -> None:
    """Add the command ``demo``."""
    parser = add_command(commands, "demo", _demo, "fine-tune on the synthetic sample and show the results")
    parser.add_argument("--max-steps", type=int, help="stop after this many steps")
    parser.add_argument("--output", metavar="DIR", help="directory for the model")


def _demo(options: argparse.Namespace) -> None:
    run = run_demo(max_steps=options.max_steps)
    if options.output:
        run.model.save(options.output)
        say(f"model saved to {options.output}")


def demo_sentences() -> list[dict[str, object]]:
    """The demo's new sentences in the form that ``RelationModel.predict`` takes."""
    sentences: list[dict[str, object]] = []
    for text, drugs in SENTENCES:
        starts = [(text.index(drug), drug) for drug in drugs]
        entities = [{"start": start, "end": start + len(drug), "type": "drug"} for start, drug in starts]
        sentences.append({"id": text, "text": text, "entities": entities})
    return sentences


def run_demo(*, max_steps: int | None = None) -> Run:
    """Fine-tune the attention head on the synthetic sample and print scores, predictions and stems.

    Parameters
    ----------
    max_steps : int, optional
        Stop after this many steps, for a quick run.

    Returns
    -------
    Run
        The fine-tuning.

    Examples
    --------
    >>> from biorel.cli.demo import run_demo
    >>> run = run_demo(max_steps=1)  # doctest: +ELLIPSIS
    A synthetic corpus in the form of DDI-2013: ...
    """
    corpus = load_sample("ddi")
    print("A synthetic corpus in the form of DDI-2013: invented drugs, generated sentences, no medical content.\n")
    _show(corpus.statistics()[["split", "documents", "sentences", "pairs", *corpus.labels]])

    print("\nFine-tuning the attention head on MiniLM ...")
    # Not the paper's settings (2e-5, 10 epochs): few short sentences need a higher rate and fewer passes.
    run = finetune(corpus, "minilm", head="attention", learning_rate=2e-4, epochs=5, max_steps=max_steps)
    print()
    _show(run.epochs.round(3))

    print("\nScores on the test split (synthetic: they say nothing about real text)\n")
    _show(run.scores.round(3))
    print(run.scores.protocol)

    print("\nNew sentences\n")
    for text, pairs in run.model.predict(demo_sentences()).groupby("sentence", sort=False):
        print(text)
        _show(pairs[["entity1", "entity2", "relation", "probability"]].round(3), indent=4)

    print("\nStems with the largest mean attention weight near the two drugs, in related pairs of the test split\n")
    _show(top_stems(run.attention())[["stem", "word", "weight", "count", "low", "high"]].round(3))
    return run


def _show(table: pd.DataFrame, indent: int = 0) -> None:
    text = pd.DataFrame(table).to_string(index=False, na_rep="")
    print("\n".join(" " * indent + line for line in text.splitlines()))
