"""The command about corpora: ``statistics``."""

from __future__ import annotations

import argparse

from biorel.cli.options import Commands, add_command, add_corpus, add_format, read_corpus
from biorel.cli.output import print_table


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    text = "sizes and label distribution of a corpus (the paper's Table I)"
    parser = add_command(commands, "statistics", _statistics, text)
    add_corpus(parser)
    add_format(parser)


def _statistics(options: argparse.Namespace) -> None:
    print_table(read_corpus(options).statistics(), options.format)
