"""The commands that apply a saved model: ``evaluate`` and ``predict``."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import pandas as pd
from biorel.cli.options import (
    Commands,
    Repeated,
    add_command,
    add_format,
    add_model,
    add_model_on_split,
    add_table,
    column_names,
    equation,
    load_model,
    read_corpus,
)
from biorel.cli.output import print_table, say
from biorel.data.table_files import decode, is_table_file, json_lines
from biorel.data.tables import Table, read_table
from biorel.errors import ConfigError, CorpusError
from biorel.prediction.documents import DocumentPredictions, predict_documents
from biorel.prediction.output_directory import FORMATS


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    parser = add_command(commands, "evaluate", _evaluate, "score a saved model on a corpus")
    add_model_on_split(parser)
    add_format(parser)

    text = "classify the entity pairs of a table, of new sentences, or of a stream of documents"
    parser = add_command(commands, "predict", _predict, text)
    add_model(parser)
    text = (
        "a table with the columns that trained the model (.csv, .tsv, .jsonl, .parquet, .xlsx); or JSON lines with "
        "text and entities (start, end, type), or - for standard input"
    )
    parser.add_argument("sentences", nargs="?", help=text)
    add_table(parser)
    text = "files or folders of documents (PubTator, BioC, brat; also gzipped); needs --output, runs in bounded memory"
    parser.add_argument("--input", nargs="+", metavar="PATH", help=text)
    text = "directory for the relations, from which a killed run resumes"
    parser.add_argument("--output", metavar="DIR", help=text)
    text = "format of the documents, where their names do not show it: pubtator, bioc-json, bioc-xml, brat"
    parser.add_argument("--input-format", metavar="FORMAT", help=text)
    text = "the model's name (OURS) for an entity type of the documents (THEIRS); may be repeated"
    parser.add_argument("--type", action=Repeated, metavar="THEIRS=OURS", help=text)
    parser.add_argument("--related-only", action="store_true", help="leave out pairs that are not related")
    text = "leave out relations with a lower probability (default: 0)"
    parser.add_argument("--threshold", type=float, default=0.0, help=text)
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="process shard I of N (default: 1/1)")
    parser.add_argument("--part-documents", type=int, default=1000, help="documents per part (default: 1000)")
    parser.add_argument("--part-pairs", type=int, default=16_384, help="pairs per part (default: 16384)")
    text = "skip a document with more pairs (default: 100000)"
    parser.add_argument("--max-pairs", type=int, default=100_000, help=text)
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    text = f"sentences: table, tsv, csv, jsonl (default: table); documents: {', '.join(FORMATS)}, same (default: jsonl)"
    parser.add_argument("--format", metavar="FORMAT", help=text)


def _evaluate(options: argparse.Namespace) -> None:
    print_table(load_model(options).evaluate(read_corpus(options), options.split), options.format)


def _predict(options: argparse.Namespace) -> None:
    if (options.sentences is None) == (options.input is None):
        raise ConfigError("input: give either sentences (JSON lines) or --input with documents", "input")
    if options.input is not None:
        _predict_documents(options)
        return
    style = options.format or "table"
    if options.output is not None or style not in ("table", "tsv", "csv", "jsonl"):
        field = "output" if options.output is not None else "format"
        message = f"{field}: for sentences, a table goes to standard output (--format table, tsv, csv or jsonl)"
        raise ConfigError(message, field)
    print_table(_predict_sentences(options), style)


def _predict_sentences(options: argparse.Namespace) -> pd.DataFrame:
    """The predictions for a table, or for JSON lines of sentences."""
    path = options.sentences
    if is_table_file(path) and Path(path).suffix.lower() not in (".jsonl", ".ndjson"):
        return load_model(options).predict_table(read_table(path), column_names(options), options.offsets)
    model = load_model(options)
    try:
        text = sys.stdin.read() if path == "-" else decode(path, Path(path).read_bytes())
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: is not UTF-8 ({error}); convert it to UTF-8 first", path) from None
    rows = list(json_lines(path, text))
    if rows and "entities" not in rows[0][1]:
        lines: list[tuple[str, int | None]] = [(path, line) for line, _ in rows]
        table = Table(pd.DataFrame([row for _, row in rows], dtype=object), lines)
        return model.predict_table(table, column_names(options), options.offsets)
    if options.columns is not None:
        raise ConfigError("columns: applies to a table, not to sentences with entities", "columns")
    return model.predict([row for _, row in rows])


def _predict_documents(options: argparse.Namespace) -> None:
    if options.output is None:
        raise ConfigError("output: name the directory for the relations with --output", "output")
    shard = re.fullmatch(r"(\d+)/(\d+)", options.shard)
    if shard is None:
        raise ConfigError(f"shard: `{options.shard}` is not of the form 3/10", "shard")
    types = dict(equation("type", text, "THEIRS=OURS") for text in options.type or [])
    predictions = predict_documents(
        load_model(options),
        options.input,
        options.output,
        input_format=options.input_format,
        format=options.format or "jsonl",
        types=types,
        related_only=options.related_only,
        threshold=options.threshold,
        shard=(int(shard[1]), int(shard[2])),
        part_documents=options.part_documents,
        part_pairs=options.part_pairs,
        max_pairs=options.max_pairs,
        progress=not options.no_progress,
    )
    assert isinstance(predictions, DocumentPredictions)
    for what, count in predictions.counts.items():
        say(f"{count:,} x {what}")
    output = Path(options.output)
    say(f"{predictions.documents:,} documents, {predictions.pairs:,} pairs: {output / 'relations'}")
    if predictions.failed:
        say(f"{predictions.failed:,} documents could not be used: {output / 'errors.jsonl'}")
