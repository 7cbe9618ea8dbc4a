"""The commands that train many times: ``cross-validate``, ``compare`` and ``reproduce``."""

from __future__ import annotations

import argparse
from typing import Any

from biorel.cli.options import (
    Commands,
    Repeated,
    add_command,
    add_corpus,
    add_encoder,
    add_execution,
    add_folds,
    add_format,
    equation,
    output_group,
    read_corpus,
)
from biorel.cli.output import check_suffix, print_table, say, write_table
from biorel.cli.settings import COMPARE_SETTINGS, FOLD_SETTINGS, add_settings, settings_from, variants_from
from biorel.errors import ConfigError, TrainingError
from biorel.experiments.compare import compare
from biorel.experiments.cross_validation import cross_validate
from biorel.reproduction.reproduce import reproduce
from biorel.reproduction.study import PLANS


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    _add_cross_validate(commands)
    _add_compare(commands)


def _add_cross_validate(commands: Commands) -> None:
    text = "for each fold, train on the other folds and score it"
    parser = add_command(commands, "cross-validate", _cross_validate, text)
    add_corpus(parser)
    add_encoder(parser)
    add_folds(parser)
    output_group(parser).add_argument(
        "--predictions", metavar="FILE", help="write all predictions (.tsv, .csv, .jsonl)"
    )
    text = "write what training and test data share (.tsv, .csv, .jsonl)"
    output_group(parser).add_argument("--leakage", metavar="FILE", help=text)
    text = "directory for finished folds, from which a killed run resumes"
    output_group(parser).add_argument("--directory", metavar="DIR", help=text)
    add_execution(parser, "folds")
    add_settings(parser, FOLD_SETTINGS)
    add_format(parser)


def _cross_validate(options: argparse.Namespace) -> None:
    for option in ("predictions", "leakage"):
        check_suffix(getattr(options, option), option)
    names = ("folds", "by", "fold_seed", "directory", "jobs", "engine", *FOLD_SETTINGS)
    settings = settings_from(options, names)
    cv = cross_validate(read_corpus(options), options.encoder, progress=not options.no_progress, **settings)
    if options.predictions:
        write_table(cv.predictions, options.predictions)
    if options.leakage:
        write_table(cv.leaks, options.leakage)
    if options.format == "table":
        print(cv.folds.merge(cv.leakage, on="fold").round(4).to_string(index=False), end="\n\n")
    print_table(cv.scores, options.format)


def _add_compare(commands: Commands) -> None:
    text = "fine-tune every head with every encoder, variant, seed and fold"
    parser = add_command(commands, "compare", _compare, text)
    add_corpus(parser)
    parser.add_argument("--head", action=Repeated, help="may be repeated (default: cls and attention)")
    text = "alias, hub id or directory; may be repeated (default: minilm)"
    parser.add_argument("--encoder", action=Repeated, help=text)
    text = "a name and the settings in which the variant differs, such as one-pass head=entity; may be repeated"
    parser.add_argument("--variant", action=Repeated, nargs="+", metavar=("NAME", "SETTING=VALUE"), help=text)
    parser.add_argument("--seed", action=Repeated, type=int, help="may be repeated (default: 1)")
    add_folds(parser)
    text = "directory for finished trials, from which a killed run resumes"
    output_group(parser).add_argument("--directory", metavar="DIR", required=True, help=text)
    text = "run trials again that failed in an earlier call"
    parser.add_argument("--retry-failed", action="store_true", help=text)
    text = "settings that those given here override: standard is all pairs at rates chosen on training data"
    parser.add_argument("--preset", choices=list(PLANS), help=text)
    add_execution(parser, "trials")
    text = "print the paired tests of one head (or encoder, or variant) against another"
    output_group(parser).add_argument("--paired", nargs=2, metavar="HEAD", help=text)
    add_settings(parser, COMPARE_SETTINGS)
    add_format(parser)


def _compare(options: argparse.Namespace) -> None:
    names = ("folds", "by", "fold_seed", "directory", "preset", "retry_failed", "jobs", "engine")
    settings = settings_from(options, [*names, *COMPARE_SETTINGS])
    grid: dict[str, Any] = {"heads": options.head, "encoders": options.encoder, "seeds": options.seed}
    grid["variants"] = variants_from(options.variant)
    grid = {name: values for name, values in grid.items() if values is not None}
    grid["progress"] = not options.no_progress
    comparison = compare(read_corpus(options), **grid, **settings)
    print_table(comparison.paired(*options.paired) if options.paired else comparison.results, options.format)
    if len(comparison.failures):
        errors = "; ".join(comparison.failures["error"].unique())
        raise TrainingError(f"{len(comparison.failures)} of {len(comparison.trials)} trials failed: {errors}")


def add_reproduce(commands: Commands) -> None:
    """Add ``reproduce``."""
    text = "the paper's tables and figures, next to the printed ones"
    parser = add_command(commands, "reproduce", _reproduce, text)
    text = "table1, table3 to table6, figure3, figure4, faithfulness, or all"
    parser.add_argument("what", nargs="+", help=text)
    text = "folder that contains aimed, ddi and chemprot"
    parser.add_argument("--corpora", metavar="DIR", help=text)
    text = "a corpus elsewhere, such as ddi=DDICorpus-2013.zip; may be repeated"
    parser.add_argument("--corpus", action=Repeated, metavar="NAME=PATH", help=text)
    text = "directory for the report and finished trials (default: reproduction)"
    output_group(parser).add_argument("--directory", default="reproduction", metavar="DIR", help=text)
    text = "standard: MiniLM with all pairs, hours; quick: MiniLM with few steps (default: paper)"
    parser.add_argument("--preset", choices=list(PLANS), default="paper", help=text)
    text = "alias, hub id or directory (default: the paper's); several, repeated, for table6"
    parser.add_argument("--encoder", action=Repeated, help=text)
    parser.add_argument("--seed", action=Repeated, type=int, help="may be repeated (default: 1)")
    text = "which of AIMed's ten folds (default: all; with quick, the first)"
    parser.add_argument("--folds", choices=["all", "first"], help=text)
    add_execution(parser, "trials")
    add_settings(parser, COMPARE_SETTINGS)


def _reproduce(options: argparse.Namespace) -> None:
    if (options.corpora is None) == (options.corpus is None):
        raise ConfigError("corpora: give a folder with --corpora, or each corpus with --corpus NAME=PATH", "corpora")
    corpora = options.corpora or dict(equation("corpus", text, "NAME=PATH") for text in options.corpus)
    reproduction = reproduce(
        options.what,
        corpora=corpora,
        directory=options.directory,
        preset=options.preset,
        folds=options.folds,
        encoders=options.encoder,
        seeds=options.seed,
        jobs=options.jobs,
        engine=options.engine,
        progress=not options.no_progress,
        **settings_from(options, COMPARE_SETTINGS),
    )
    print(reproduction)
    say(f"written: {reproduction.directory / 'report.html'}")
