"""The commands about corpora: ``statistics`` and ``check``."""

from __future__ import annotations

import argparse

from biorel.cli.options import Commands, add_command, add_corpus, add_format, load_described_corpus, read_corpus
from biorel.cli.output import print_table, say
from biorel.errors import CorpusError


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    text = "sizes and label distribution of a corpus (the paper's Table I)"
    parser = add_command(commands, "statistics", _statistics, text)
    add_corpus(parser)
    add_format(parser)

    text = "what may be wrong with a corpus: offsets, labels, splits; exit code 1 for an error"
    parser = add_command(commands, "check", _check, text)
    add_corpus(parser)
    add_format(parser)


def _statistics(options: argparse.Namespace) -> None:
    print_table(read_corpus(options).statistics(), options.format)


def _check(options: argparse.Namespace) -> None:
    corpus = load_described_corpus(options)
    say(repr(corpus))
    found = corpus.check()
    if options.format != "table":
        print_table(found, options.format)
    elif found.empty:
        say("nothing was found")
    else:
        print(found)
    if errors := int((found["severity"] == "error").sum()):
        raise CorpusError(f"{corpus.name}: {errors} of these findings are errors")
