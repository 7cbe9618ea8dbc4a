"""The commands that apply a saved model: ``evaluate`` and ``predict``."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from biorel._types import DocumentFormat
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
    output_group,
    read_corpus,
    shows_progress,
)
from biorel.cli.output import check_suffix, print_table, say, write_table
from biorel.data.annotation import Annotator, add_entities, annotator_of
from biorel.data.dictionary import Dictionary
from biorel.data.documents import list_inputs, read_inputs
from biorel.data.table_files import decode, is_table_file, json_lines
from biorel.data.tables import Table, read_table
from biorel.errors import ConfigError, CorpusError
from biorel.models.table_prediction import has_entities
from biorel.prediction.documents import DocumentPredictions, predict_documents, stream_documents
from biorel.prediction.output_directory import FORMATS
from biorel.prediction.unknown_types import describe_unknown_types

# The formats of documents' relations on standard output: those whose parts can follow one another.
_PRINTED = ("table", "tsv", "csv", "jsonl", "pubtator", "pubtator-relations")
# The columns of `--format table`; the other formats have all columns.
_SHOWN = ["document", "sentence", "entity1", "type1", "entity2", "type2", "relation", "probability"]
_JSON_LINES = (".jsonl", ".ndjson")
# The endings that only tables have; documents may be .txt, .jsonl and, as DrugProt's, .tsv.
_TABLES = (".csv", ".parquet", ".xlsx", ".xls")
# Of a longer first line the kind of a file cannot be told.
_LONGEST_LINE = 1 << 26


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    parser = add_command(commands, "evaluate", _evaluate, "score a saved model on a corpus")
    add_model_on_split(parser)
    add_format(parser)

    text = "classify the entity pairs of a table, of new sentences, or of a stream of documents"
    parser = add_command(commands, "predict", _predict, text)
    add_model(parser)
    text = (
        "a table with the columns that trained the model (.csv, .tsv, .jsonl, .parquet, .xlsx); JSON lines with text "
        "and entities (start, end, type), or - for standard input; or files or folders of documents (PubTator, BioC, "
        "brat, BioNLP, DrugProt, ...; also gzipped)"
    )
    parser.add_argument("source", nargs="*", metavar="INPUT", help=text)
    add_table(parser)
    documents = parser.add_argument_group("documents")
    documents.add_argument("--input", nargs="+", metavar="PATH", help="files or folders of documents, as INPUT")
    text = (
        "documents: directory for the relations, from which a killed run resumes; tables and sentences: a file (.tsv, "
        ".csv, .jsonl) (default: standard output)"
    )
    output_group(parser).add_argument("--output", metavar="PATH", help=text)
    text = f"format of the documents, where names and first bytes do not show it: {', '.join(get_args(DocumentFormat))}"
    documents.add_argument("--input-format", metavar="FORMAT", help=text)
    text = (
        "add entities to the documents: a file of terms (term, type, identifier), and read .txt files as plain text; "
        "or scispacy, scispacy:MODEL, gliner, gliner:MODEL (without --output)"
    )
    documents.add_argument("--entities", metavar="TERMS", help=text)
    text = "how the case of terms counts: auto, sensitive, insensitive (default: auto)"
    documents.add_argument("--case", choices=["auto", "sensitive", "insensitive"], default="auto", help=text)
    documents.add_argument("--entity-types", nargs="+", metavar="TYPE", help="the types that gliner looks for")
    text = "a document that cannot be used: raise stops, skip reports it (default: skip)"
    documents.add_argument("--errors", choices=["raise", "skip"], default="skip", help=text)
    text = "the model's name (OURS) for an entity type of the documents (THEIRS); may be repeated"
    documents.add_argument("--type", action=Repeated, metavar="THEIRS=OURS", help=text)
    documents.add_argument("--related-only", action="store_true", help="leave out pairs that are not related")
    text = "with --related-only, or in documents: leave out relations with a lower probability (default: 0)"
    documents.add_argument("--threshold", type=float, default=0.0, help=text)
    documents.add_argument("--shard", default="1/1", metavar="I/N", help="process shard I of N (default: 1/1)")
    documents.add_argument("--part-documents", type=int, default=1000, help="documents per part (default: 1000)")
    documents.add_argument("--part-pairs", type=int, default=16_384, help="pairs per part (default: 16384)")
    text = "skip a document with more pairs (default: 100000)"
    documents.add_argument("--max-pairs", type=int, default=100_000, help=text)
    output_group(parser).add_argument("--no-progress", action="store_true", help="no progress bar")
    text = (
        "format on standard output: table, tsv, csv or jsonl, for documents also pubtator or pubtator-relations "
        f"(default: table); in a directory: {', '.join(FORMATS)} or same (default: jsonl)"
    )
    output_group(parser).add_argument("--format", metavar="FORMAT", help=text)


def _evaluate(options: argparse.Namespace) -> None:
    model = load_model(options)
    corpus = read_corpus(options, model)
    print_table(model.evaluate(corpus, options.split, progress=shows_progress(options)), options.format)


def _predict(options: argparse.Namespace) -> None:
    if bool(options.source) == (options.input is not None):
        raise ConfigError("input: give a table, sentences or documents, such as `biorel predict MODEL FILE`", "input")
    paths = options.source or options.input
    if options.input is None and options.entities is None and not _are_documents(paths, options.input_format):
        _predict_rows(options)
        return
    for option in ("columns", "offsets"):
        if getattr(options, option) not in (None, "characters"):
            raise ConfigError(f"{option}: applies to a table, not to documents", option)
    types = dict(equation("type", text, "THEIRS=OURS") for text in options.type or [])
    names = ("input_format", "related_only", "threshold", "part_documents", "part_pairs", "max_pairs")
    settings = {name: getattr(options, name) for name in names} | {"types": types}
    entities = None if options.entities is None else _entities(options)
    if not isinstance(entities, (Dictionary, type(None))):
        _print_annotated(options, paths, settings, entities)
    elif options.output is None:
        settings["dictionary"] = entities
        _print_documents(options, paths, settings)
    else:
        _write_documents(options, paths, settings | {"entities": entities, "errors": options.errors})


def _entities(options: argparse.Namespace) -> Annotator:
    """The list of terms or the annotator of --entities."""
    if options.entities.partition(":")[0] in ("scispacy", "gliner"):
        if options.output is not None:
            message = "entities: with --output only a file of terms can be searched; leave --output out"
            raise ConfigError(message, "entities")
        return annotator_of(options.entities, labels=options.entity_types)
    if options.entity_types is not None:
        raise ConfigError("entity-types: applies to --entities gliner only", "entity-types")
    return Dictionary(options.entities, case=options.case)


def _are_documents(paths: list[str], input_format: str | None) -> bool:
    """Whether the inputs are documents, not one table or one file of sentences."""
    path = Path(paths[0])
    tables = [one for one in paths if is_table_file(one) and Path(one).suffix.lower() in _TABLES]
    if len(paths) > 1 and tables:
        raise ConfigError(
            f"input: {tables[0]} is a table, which is classified alone; give one table at a time", "input"
        )
    if input_format is not None or len(paths) > 1 or path.is_dir():
        return True
    if path.suffix.lower() == ".tsv" and any(name in path.name.lower() for name in ("abstracs", "abstracts")):
        return True  # DrugProt's table of abstracts
    if paths == ["-"] or (is_table_file(path) and path.suffix.lower() not in _JSON_LINES):
        return False
    if not path.is_file():
        # A pipe, which can be read only once, has sentences.
        return not path.exists() and path.suffix.lower() not in _JSON_LINES
    with path.open("rb") as file:
        line = next((line for line in iter(lambda: file.readline(_LONGEST_LINE), b"") if line.strip()), b"")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if isinstance(row, dict):
        return "passages" in row or "documents" in row or "spans" in row or "data" in row
    return path.suffix.lower() not in _JSON_LINES


def _predict_rows(options: argparse.Namespace) -> None:
    style = options.format or "table"
    if style not in ("table", "tsv", "csv", "jsonl"):
        raise ConfigError(f"format: `{style}` is for documents; choose table, tsv, csv or jsonl", "format")
    for option, usual in (("related_only", False), ("threshold", 0.0), ("type", None), ("shard", "1/1")):
        if getattr(options, option) != usual:
            shown = option.replace("_", "-")
            raise ConfigError(f"{shown}: applies to documents; a table keeps its rows, with new columns", shown)
    paths = [path for path in (options.output, options.source[0]) if path is not None and Path(path).exists()]
    if len(paths) == 2 and os.path.samefile(*paths):
        raise ConfigError(f"output: {options.output} is the table that is read; choose another name", "output")
    if options.output is not None and options.format is not None:
        raise ConfigError("format: --output names a file, whose suffix is the format", "format")
    check_suffix(options.output, "output")
    table = _predict_sentences(options, options.source[0])
    if options.output is None:
        print_table(table, style)
    else:
        write_table(table, options.output)


def _predict_sentences(options: argparse.Namespace, path: str) -> pd.DataFrame:
    """The predictions for a table, or for JSON lines of sentences."""
    model, progress = load_model(options), shows_progress(options)
    if is_table_file(path) and Path(path).suffix.lower() not in _JSON_LINES:
        return model.predict_table(read_table(path), column_names(options), options.offsets, progress=progress)
    try:
        text = sys.stdin.read() if path == "-" else decode(path, Path(path).read_bytes())
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: is not UTF-8 ({error}); convert it to UTF-8 first", path) from None
    rows = list(json_lines(path, text))
    if rows and not has_entities(rows[0][1].get("entities")):
        lines: list[tuple[str, int | None]] = [(path, line) for line, _ in rows]
        frame = pd.DataFrame([row for _, row in rows], dtype=object)
        table = Table(frame, lines, {path: list(frame.columns)})
        return model.predict_table(table, column_names(options), options.offsets, progress=progress)
    if options.columns is not None:
        raise ConfigError("columns: applies to a table, not to sentences with entities", "columns")
    return model.predict([row for _, row in rows], progress=progress)


def _print_annotated(
    options: argparse.Namespace, paths: list[str], settings: dict[str, Any], annotator: Annotator
) -> None:
    """Write the relations of documents whose entities an annotator finds; all documents are kept in memory."""
    style = options.format or "table"
    if style not in ("table", "tsv", "csv", "jsonl"):
        raise ConfigError(
            f"format: `{style}` needs --entities with a file of terms; choose table, tsv, csv or jsonl", "format"
        )
    inputs, _ = list_inputs(paths, settings.pop("input_format"), plain_text=True)
    documents = list(add_entities(read_inputs(inputs, options.errors), annotator))
    names = ("types", "related_only", "threshold", "max_pairs")
    chosen = {name: settings[name] for name in names}
    table = predict_documents(load_model(options), documents, errors=options.errors, **chosen)
    assert isinstance(table, pd.DataFrame)
    print_table(table[_SHOWN] if style == "table" else table, style)


def _print_documents(options: argparse.Namespace, paths: list[str], settings: dict[str, Any]) -> None:
    """Write the relations of documents to standard output, part by part."""
    style = options.format or "table"
    if style not in _PRINTED:
        message = f"format: `{style}` needs --output; to standard output go {', '.join(_PRINTED)}"
        raise ConfigError(message, "format")
    if options.shard != "1/1":
        raise ConfigError("shard: needs --output, the directory that the shards share", "shard")
    settings["format"] = style if style.startswith("pubtator") else "table"
    failed, begun, shown = 0, False, []
    for content, failures in stream_documents(load_model(options), paths, **settings):
        if failures and options.errors == "raise":
            raise CorpusError(failures[0], "input")
        for failure in failures:
            say(f"not used: {failure}")
        failed += len(failures)
        if isinstance(content, str):
            print(content, end="", flush=True)
        elif style == "table":
            shown.append(content[_SHOWN])
        elif len(content) or not begun:
            print_table(content, style, header=not begun)
        begun = True
    if shown:
        print_table(pd.concat(shown, ignore_index=True), style)
    if failed:
        say(f"{failed:,} documents could not be used")


def _check_output_directory(path: str) -> None:
    """Refuse a name that looks like a file's."""
    if Path(path).suffix.lower() in (*_TABLES, ".tsv", *_JSON_LINES) and not Path(path).is_dir():
        message = f"output: the relations of documents are written to a directory; choose another name than {path}"
        raise ConfigError(f"{message}, or print them: --format tsv > {path}", "output")


def _write_documents(options: argparse.Namespace, paths: list[str], settings: dict[str, Any]) -> None:
    """Write the relations of documents to a directory, as a stream that resumes."""
    shard = re.fullmatch(r"(\d+)/(\d+)", options.shard)
    if shard is None:
        raise ConfigError(f"shard: `{options.shard}` is not of the form 3/10", "shard")
    _check_output_directory(options.output)
    model = load_model(options)
    predictions = predict_documents(
        model,
        paths,
        options.output,
        format=options.format or "jsonl",
        shard=(int(shard[1]), int(shard[2])),
        progress=not options.no_progress,
        **settings,
    )
    assert isinstance(predictions, DocumentPredictions)
    for what, count in predictions.counts.items():
        say(f"{count:,} x {what}")
    output = Path(options.output)
    say(f"{predictions.documents:,} documents, {predictions.pairs:,} pairs: {output / 'relations'}")
    if predictions.failed:
        say(f"{predictions.failed:,} documents could not be used: {output / 'errors.jsonl'}")
    if describe_unknown_types(model._core.task, predictions.counts, predictions.pairs):
        raise ConfigError("types: no pair was formed; map the documents' types to the model's with --type", "type")
