"""The commands that train: ``finetune`` and ``adapt``."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

from biorel._biorel import CORPORA
from biorel.cli.options import (
    Commands,
    Repeated,
    add_command,
    add_corpus,
    add_encoder,
    add_format,
    output_group,
    read_corpus,
)
from biorel.cli.output import (
    check_encoder_directory,
    check_model_directory,
    check_suffix,
    default_directory,
    print_table,
    say,
    write_table,
)
from biorel.cli.settings import ADAPT_SETTINGS, SETTINGS, add_settings, settings_from
from biorel.data.checks import describe_checks
from biorel.data.corpus import Corpus
from biorel.data.loading import load_corpus
from biorel.errors import ConfigError
from biorel.models.encoder import load_encoder
from biorel.training.adapt import adapt, check_texts, texts_of
from biorel.training.callbacks import MLflow, TensorBoard, WandB
from biorel.training.finetune import finetune
from biorel.training.presets import with_preset


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    text = "fine-tune an encoder on a corpus, score it, save the model"
    parser = add_command(commands, "finetune", _finetune, text)
    add_corpus(parser)
    add_encoder(parser)
    text = "directory for the model (default: a new one, such as ddi-attention)"
    output = output_group(parser)
    output.add_argument("--output", metavar="DIR", help=text)
    splits = parser.add_argument_group("splits")
    splits.add_argument("--train", action=Repeated, metavar="SPLIT", help="split to train on; may be repeated")
    splits.add_argument("--test", metavar="SPLIT", help="split to score (default: test)")
    text = "write the predictions on the test split (.tsv, .csv, .jsonl)"
    output.add_argument("--predictions", metavar="FILE", help=text)
    text = "write the loss, the learning rate, ... of each step (.tsv, .csv, .jsonl)"
    output.add_argument("--history", metavar="FILE", help=text)
    text = "write the scores on the dev split during training (.tsv, .csv, .jsonl)"
    output.add_argument("--evaluations", metavar="FILE", help=text)
    output.add_argument("--tensorboard", metavar="DIR", help="log to TensorBoard")
    output.add_argument("--mlflow", metavar="EXPERIMENT", help="log to MLflow")
    output.add_argument("--wandb", metavar="PROJECT", help="log to Weights & Biases")
    text = "casing of the encoder, where its files do not define it"
    parser.add_argument("--casing", choices=["cased", "uncased"], help=text)
    text = "divide the corpus at random: score this fraction of its pairs and train on the others"
    parser.add_argument("--test-fraction", type=float, metavar="X", help=text)
    text = "what --test-fraction keeps together: document or instance (default: document)"
    parser.add_argument("--split-by", choices=["document", "instance"], help=text)
    text = "score fold N and train on the others, for a corpus without a train split"
    splits.add_argument("--fold", type=int, metavar="N", help=text)
    add_settings(parser, SETTINGS)
    add_format(parser)
    text = "train an encoder further on unlabelled texts, as a masked language model, before fine-tuning"
    parser = add_command(commands, "adapt", _adapt, text)
    parser.add_argument("encoder", help="directory, or name such as minilm or biobert")
    text = "files or folders of documents (PubTator, BioC, brat), or plain text: .txt files with a blank line between "
    text += "texts, or one text a line; or a corpus, such as ddi=DDICorpus-2013.zip, without its split test"
    parser.add_argument("texts", nargs="+", help=text)
    output = output_group(parser)
    text = "directory for the encoder (default: a new one, such as minilm-adapted)"
    output.add_argument("--output", metavar="DIR", help=text)
    text = "write the loss, the learning rate, ... of each step (.tsv, .csv, .jsonl)"
    output.add_argument("--history", metavar="FILE", help=text)
    text = "casing of the encoder, where its files do not define it"
    parser.add_argument("--casing", choices=["cased", "uncased"], help=text)
    add_settings(parser, ADAPT_SETTINGS, adapt)
    add_format(parser)


def _adapt(options: argparse.Namespace) -> None:
    check_suffix(options.history, "history")
    if options.output is None:
        options.output = default_directory(f"{Path(options.encoder).name}-adapted")
    check_encoder_directory(options.output)
    texts = itertools.chain.from_iterable([texts_of(_source(text)) for text in options.texts])
    encoder = load_encoder(options.encoder, casing=options.casing)
    settings = settings_from(options, ADAPT_SETTINGS)
    adapted = adapt(encoder, texts, **settings, progress=not options.no_progress)
    if adapted.new_decoder:
        say("encoder: it has no language model, so that above it was newly initialised")
    say(f"{adapted.texts:,} texts, {adapted.pieces:,} word pieces, {len(adapted.history):,} steps")
    adapted.save(options.output)
    say(f"encoder saved to {options.output}")
    if options.history:
        write_table(adapted.history, options.history)
    if adapted.perplexity is not None:
        print_table(adapted.perplexity.rename_axis("encoder").reset_index(), options.format)


def _source(text: str) -> str | Corpus:
    """A corpus, if it is written as NAME=PATH, else a path."""
    name, _, path = text.partition("=")
    if path and name in CORPORA and not Path(text).exists():
        return load_corpus(name, path)
    check_texts(text)
    return text


def _finetune(options: argparse.Namespace) -> None:
    for option in ("predictions", "history", "evaluations"):
        check_suffix(getattr(options, option), option)
    if options.output is not None:
        check_model_directory(options.output)
    corpus = read_corpus(options)
    if options.output is None:
        head = with_preset(options.preset, settings_from(options, ["head"])).get("head", "attention")
        options.output = default_directory(f"{options.corpus}-{head}")
        check_model_directory(options.output)
    if options.fold is not None:
        corpus = corpus.fold(options.fold)
    settings = settings_from(options, SETTINGS)
    if options.test_fraction is not None or options.split_by is not None:
        if options.fold is not None:
            raise ConfigError("test-fraction: divides the corpus, as --fold does; give one of them", "test-fraction")
        corpus = corpus.split(options.test_fraction or 0.2, by=options.split_by or "document")
    found = corpus.check()
    for check, remedy in describe_checks(found[found["severity"] == "warning"]):
        say(f"{check}; {remedy}")
    splits: dict[str, Any] = {"train": options.train or "train"} | ({"test": options.test} if options.test else {})
    trackers = [(options.tensorboard, TensorBoard), (options.mlflow, MLflow), (options.wandb, WandB)]
    callbacks = [make(where) for where, make in trackers if where is not None]
    encoder = load_encoder(options.encoder, casing=options.casing)
    run = finetune(corpus, encoder, **splits, **settings, callbacks=callbacks, progress=not options.no_progress)
    for line in [*_describe_report(run.report), f"trained in {run.settings['precision']}"]:
        say(line)
    run.save(options.output)
    say(f"model saved to {options.output}")
    if options.history:
        write_table(run.history, options.history)
    if options.evaluations:
        write_table(run.evaluations, options.evaluations)
    if run.test is None:
        say("the corpus has no test split; nothing was scored")
        return
    if options.predictions:
        write_table(run.predictions(), options.predictions)
    print_table(run.scores, options.format)


def _describe_report(report: dict[str, Any]) -> list[str]:
    """Describe where the weights came from."""
    lines = [f"encoder: {len(report['used'])} tensors of {report['path']} ({report['format']})"]
    for kind, what in (
        ("unused", "in the file but not used"),
        ("missing", "not in the file and not needed"),
        ("initialised", "newly initialised"),
    ):
        if report[kind]:
            lines.append(f"encoder: {what}: {', '.join(report[kind])}")
    return lines
