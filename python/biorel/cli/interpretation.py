"""The commands that explain a saved model: ``attention`` and ``faithfulness``."""

from __future__ import annotations

import argparse

from biorel.cli.options import (
    Commands,
    Repeated,
    add_command,
    add_format,
    add_model_on_split,
    load_model,
    read_corpus,
    shows_progress,
)
from biorel.cli.output import print_table
from biorel.interpretation.faithfulness import faithfulness


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    parser = add_command(commands, "attention", _attention, "weight of each word of a split of a corpus")
    add_model_on_split(parser)
    text = "weights of the head, of the encoder's last layer, or of the gradient (default: head)"
    parser.add_argument("--kind", choices=["head", "encoder", "gradient"], default="head", help=text)
    add_format(parser)

    text = "whether decisions change when the words with the highest weights are masked"
    parser = add_command(commands, "faithfulness", _faithfulness, text)
    add_model_on_split(parser)
    text = "number of words to mask; may be repeated (default: 1, 3, 5)"
    parser.add_argument("--words", action=Repeated, type=int, help=text)
    parser.add_argument("--limit", type=int, default=500, help="maximum number of instances (default: 500)")
    add_format(parser)


def _attention(options: argparse.Namespace) -> None:
    model = load_model(options)
    corpus = read_corpus(options, model)
    table = model.attention(corpus, options.split, kind=options.kind, progress=shows_progress(options))
    print_table(table, options.format)


def _faithfulness(options: argparse.Namespace) -> None:
    words = options.words or (1, 3, 5)
    model = load_model(options)
    corpus = read_corpus(options, model)
    masked = model.mask_words(corpus, options.split, words=words, limit=options.limit, progress=shows_progress(options))
    print_table(faithfulness(masked), options.format)
