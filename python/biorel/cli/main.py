"""The command line: ``biorel COMMAND``; ``biorel --help`` lists the commands.

Tables go to standard output, everything else to standard error. Exit codes: 0 success, 1 bad input, 2 a command that
cannot be understood, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pandas as pd
from biorel._biorel import CORPORA, __version__
from biorel._files import atomic_write
from biorel.cli.config_file import Repeated, read_config
from biorel.cli.demo import run_demo
from biorel.data.corpus import Corpus, load_corpus
from biorel.errors import BiorelError, ConfigError, CorpusError, TrainingError
from biorel.evaluation.scores import Scores
from biorel.experiments.compare import compare
from biorel.experiments.cross_validation import cross_validate
from biorel.interpretation.faithfulness import faithfulness
from biorel.models.encoder import load_encoder
from biorel.models.relation_model import load
from biorel.prediction.documents import DocumentPredictions, predict_documents
from biorel.prediction.output_directory import FORMATS, json_lines
from biorel.reproduction.reproduce import reproduce
from biorel.reproduction.study import PRESETS
from biorel.training.callbacks import MLflow, TensorBoard, WandB
from biorel.training.finetune import finetune
from biorel.training.run import TrainingInterrupted

# Parameters of `finetune` that are no settings: the commands have arguments of their own for them.
_ARGUMENTS = ("corpus", "encoder", "train", "test", "callbacks", "progress")
_SETTINGS = [name for name in inspect.signature(finetune).parameters if name not in _ARGUMENTS]
# With folds or several heads the training checkpoints are in the experiment's directory.
_COMPARE_SETTINGS = [name for name in _SETTINGS if name not in ("checkpoint", "head", "seed")]
# A fold has no split to evaluate on while training.
_FOLD_SETTINGS = [
    name for name in _SETTINGS if name not in ("checkpoint", "dev", "eval_steps", "patience", "load_best_model")
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows ``biorel``; by default what the shell gave.

    Returns
    -------
    int
        The exit code.

    Examples
    --------
    >>> from biorel.cli.main import main
    >>> main(["statistics", "ddi", str(biorel.sample_path("ddi")), "--format", "csv"])
    split,documents,documents_with_pairs,sentences,sentences_with_pairs,entities,pairs,false,mechanism,effect,...
    train,28,28,280,280,623,406,162,76,49,74,45,0
    test,10,10,100,100,221,142,54,28,19,26,15,0
    0
    """
    warnings.showwarning = _show_warning
    options = argparse.Namespace()
    try:
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        options.run(options)
    except TrainingInterrupted as stopped:
        if getattr(options, "output", None):
            stopped.run.model.save(options.output)
            _say(f"stopped; the model so far is in {options.output}")
        return 130
    except KeyboardInterrupt:
        if getattr(options, "input", None):
            _say("stopped; call it again with the same options, and it goes on")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; nothing is left to say to it.
        sys.stderr.close()
        return 1
    except (BiorelError, OSError) as error:
        _say(f"error: {error}")
        return 1
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command with its options: those typed, else those of the configuration file, else the defaults."""
    parser, commands = _parser()
    before = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    before.add_argument("--config")
    config = before.parse_known_args(arguments)[0].config
    if config is not None and arguments[0] in commands:
        read_config(Path(config), commands[arguments[0]])
    options, rest = parser.parse_known_args(arguments)
    # In `predict MODEL --format tsv FILE` argparse settles for no FILE as soon as it has seen the model.
    if len(rest) == 1 and getattr(options, "sentences", "") is None and (rest == ["-"] or not rest[0].startswith("-")):
        options.sentences = rest.pop()
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        prog="biorel", description="Biomedical relation extraction with BERT.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"biorel {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    by_name: dict[str, argparse.ArgumentParser] = {}

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(run=run)
        sub.add_argument("--config", metavar="FILE", help="a TOML file of options; what is typed here comes first")
        by_name[name] = sub
        return sub

    sub = command("statistics", _statistics, "sizes and label distribution of a corpus (the paper's Table I)")
    _add_corpus(sub)
    _add_format(sub)

    sub = command("finetune", _finetune, "fine-tune an encoder on a corpus, score it, save the model")
    _add_corpus(sub)
    sub.add_argument("--encoder", default="minilm", help="alias, hub id or directory (default: minilm)")
    sub.add_argument("--output", metavar="DIR", help="where to save the model")
    sub.add_argument("--train", action=Repeated, metavar="SPLIT", help="split to learn from; may be repeated")
    sub.add_argument("--test", metavar="SPLIT", help="split to score (default: test)")
    sub.add_argument("--predictions", metavar="FILE", help="write the test split's predictions (.tsv, .csv, .jsonl)")
    sub.add_argument("--history", metavar="FILE", help="write loss, learning rate, ... of every step")
    sub.add_argument("--evaluations", metavar="FILE", help="write the scores on the dev split while training")
    sub.add_argument("--tensorboard", metavar="DIR", help="log to TensorBoard")
    sub.add_argument("--mlflow", metavar="EXPERIMENT", help="log to MLflow")
    sub.add_argument("--wandb", metavar="PROJECT", help="log to Weights & Biases")
    sub.add_argument("--casing", choices=["cased", "uncased"], help="of the encoder, where its files do not say")
    sub.add_argument("--fold", type=int, metavar="N", help="hold fold N out, for a corpus without a train split")
    _add_settings(sub, _SETTINGS)
    _add_format(sub)

    sub = command("cross-validate", _cross_validate, "train on all folds but one and score that one, in turn")
    _add_corpus(sub)
    sub.add_argument("--encoder", default="minilm", help="alias, hub id or directory (default: minilm)")
    _add_folds(sub)
    sub.add_argument("--predictions", metavar="FILE", help="write all predictions (.tsv, .csv, .jsonl)")
    sub.add_argument("--leakage", metavar="FILE", help="write what training and test data share (.tsv, .csv, .jsonl)")
    sub.add_argument("--directory", metavar="DIR", help="keep finished folds; a killed run goes on from there")
    _add_engine(sub, "folds")
    _add_settings(sub, _FOLD_SETTINGS)
    _add_format(sub)

    sub = command("compare", _compare, "fine-tune every head with every encoder, seed and fold")
    _add_corpus(sub)
    sub.add_argument("--head", action=Repeated, required=True, help="may be repeated")
    sub.add_argument("--encoder", action=Repeated, help="alias, hub id or directory; may be repeated (default: minilm)")
    sub.add_argument("--seed", action=Repeated, type=int, help="may be repeated (default: 1)")
    _add_folds(sub)
    sub.add_argument("--directory", metavar="DIR", required=True, help="keep finished trials; go on from there")
    sub.add_argument("--retry-failed", action="store_true", help="try trials again that failed before")
    _add_engine(sub, "trials")
    sub.add_argument("--paired", nargs=2, metavar="HEAD", help="print the tests of one head against another")
    _add_settings(sub, _COMPARE_SETTINGS)
    _add_format(sub)

    sub = command("evaluate", _evaluate, "score a saved model on a corpus")
    _add_model(sub)
    _add_corpus(sub)
    sub.add_argument("--split", default="test")
    _add_format(sub)

    sub = command("predict", _predict, "classify the entity pairs of new sentences, or of documents in a stream")
    _add_model(sub)
    text = "JSON lines with text and entities (start, end, type), or - for standard input"
    sub.add_argument("sentences", nargs="?", help=text)
    text = "files or folders of documents (PubTator, BioC, brat; gzip too); with --output, in bounded memory"
    sub.add_argument("--input", nargs="+", metavar="PATH", help=text)
    text = "directory for the relations; a killed run goes on from there"
    sub.add_argument("--output", metavar="DIR", help=text)
    text = "of the documents, where names do not tell: pubtator, bioc-json, bioc-xml, brat"
    sub.add_argument("--input-format", metavar="FORMAT", help=text)
    sub.add_argument("--type", action=Repeated, metavar="THEIRS=OURS", help="the model's name for a type; repeatable")
    sub.add_argument("--related-only", action="store_true", help="leave out pairs that are not related")
    sub.add_argument("--threshold", type=float, default=0.0, help="leave out relations less probable (default: 0)")
    sub.add_argument("--shard", default="1/1", metavar="I/N", help="do share I of N (default: 1/1)")
    sub.add_argument("--part-documents", type=int, default=1000, help="documents in a part (default: 1000)")
    sub.add_argument("--part-pairs", type=int, default=16_384, help="pairs in a part (default: 16384)")
    sub.add_argument("--max-pairs", type=int, default=100_000, help="of a document that is used (default: 100000)")
    sub.add_argument("--no-progress", action="store_true", help="no progress bar")
    text = f"sentences: table, tsv, csv, jsonl (default: table); documents: {', '.join(FORMATS)}, same (default: jsonl)"
    sub.add_argument("--format", metavar="FORMAT", help=text)

    sub = command("attention", _attention, "attention of the words of a corpus's split")
    _add_model(sub)
    _add_corpus(sub)
    sub.add_argument("--split", default="test")
    sub.add_argument("--kind", choices=["head", "encoder", "gradient"], default="head", help="whose (default: head)")
    _add_format(sub)

    sub = command("faithfulness", _faithfulness, "mask the words with the most attention: do the decisions change?")
    _add_model(sub)
    _add_corpus(sub)
    sub.add_argument("--split", default="test")
    sub.add_argument("--words", action=Repeated, type=int, help="how many to mask; may be repeated (default: 1, 3, 5)")
    sub.add_argument("--limit", type=int, default=500, help="at most so many instances (default: 500)")
    _add_format(sub)

    sub = command("reproduce", _reproduce, "the paper's tables and figures beside the printed ones")
    sub.add_argument("what", nargs="+", help="table1, table3 to table6, figure3, figure4, faithfulness, or all")
    sub.add_argument("--corpora", required=True, metavar="DIR", help="folder that holds aimed, ddi and chemprot")
    sub.add_argument("--directory", default="reproduction", metavar="DIR", help="default: reproduction")
    sub.add_argument("--preset", choices=list(PRESETS), default="paper", help="quick: small and short (default: paper)")
    sub.add_argument("--encoder", action=Repeated, help="as in the paper by default; repeated ones are for table6")
    sub.add_argument("--seed", action=Repeated, type=int, help="may be repeated (default: 1)")
    sub.add_argument("--folds", choices=["all", "first"], help="of AIMed's ten (default: all; quick: the first)")
    _add_engine(sub, "trials")
    _add_settings(sub, _COMPARE_SETTINGS)
    # What is not given is the preset's.
    sub.set_defaults(**dict.fromkeys(_COMPARE_SETTINGS))

    sub = command("demo", _demo, "fine-tune on the synthetic sample and show what comes out")
    sub.add_argument("--max-steps", type=int, help="stop after this many steps")
    sub.add_argument("--output", metavar="DIR", help="where to save the model")
    return parser, by_name


def _add_engine(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--jobs", type=int, metavar="N", help=f"do N {what} at once (default: 1)")
    text = f"where: ray sends {what} to a cluster (default: local)"
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help=text)


def _add_corpus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", help=f"format: {', '.join(CORPORA)}")
    parser.add_argument("path", nargs="+", help="folder, file(s) or .zip")
    parser.add_argument("--splits", help="ddi: full or blue")
    help_text = "pubtator, bioc, brat: leave out documents that cannot be read, and say which"
    parser.add_argument("--errors", choices=["raise", "skip"], default="raise", help=help_text)


def _add_folds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folds", type=int, help="how many; cross-validation: 10, or as many as the corpus states")
    parser.add_argument("--by", help="what stays together: document, given (the corpus's own folds) or instance")
    parser.add_argument("--fold-seed", type=int, default=1, help="seed of the division (default: 1)")


def _add_settings(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Options for settings of training: type and default from `finetune`'s signature, help from its docstring."""
    parameters = inspect.signature(finetune).parameters
    hints = get_type_hints(finetune)
    texts = _descriptions()
    for name in names:
        default = parameters[name].default
        choices = _choices(hints[name])
        text = f"{texts[name]}: {', '.join(choices)}" if choices else texts[name]
        if name == "class_weights":
            option: dict[str, Any] = {"nargs": "+", "metavar": "LABEL=WEIGHT"}
            text = "weight of labels in the loss, or: balanced"
        else:
            option = _option(hints[name])
        text = text if default in (None, False) else f"{text} (default: {default})"
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, help=text.replace("%", "%%"), **option)
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def _option(hint: Any) -> dict[str, Any]:
    """What argparse needs to know about a type. The allowed values are checked with the setting, not here."""
    kinds = get_args(hint) or (hint,)
    if bool in kinds:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": next((kind for kind in (int, float) if kind in kinds), str)}


def _choices(hint: Any) -> list[str]:
    """The strings that a type allows, where it lists them."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [choice for kind in get_args(hint) for choice in _choices(kind)]


def _descriptions() -> dict[str, str]:
    """The first sentence about each parameter of `finetune`, from its docstring."""
    texts: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(finetune.__doc__ or "").splitlines():
        if match := re.match(r"(\w+) : ", line):
            name = match[1]
        elif line.startswith("    ") and name:
            texts[name] = f"{texts.get(name, '')} {line.strip()}".strip()
        elif not line.startswith(" "):
            name = ""
    first = {name: re.split(r"(?<=[a-z0-9`)])[.;:] ", text)[0].rstrip(".:") for name, text in texts.items()}
    return {name: text.replace("`", "") for name, text in first.items()}


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="directory of a saved model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    parser.add_argument("--precision", default="auto", help="auto, f32 or bf16")
    parser.add_argument("--threads", type=int)


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=["table", "tsv", "csv", "jsonl"], default="table")


def _read(options: argparse.Namespace) -> Corpus:
    corpus = load_corpus(options.corpus, options.path, splits=options.splits, errors=options.errors)
    for line in corpus.summary:
        _say(line)
    return corpus


def _settings(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    values = {name: getattr(options, name) for name in names}
    weights = values.get("class_weights")
    if isinstance(weights, list):
        values["class_weights"] = "balanced" if weights == ["balanced"] else dict(map(_label_weight, weights))
    return values


def _label_weight(text: str) -> tuple[str, float]:
    label, _, weight = text.rpartition("=")
    try:
        return label, float(weight)
    except ValueError:
        message = f"class_weights: `{text}` is neither balanced nor a label and its weight, as in mechanism=2.5"
        raise ConfigError(message, "class_weights") from None


def _statistics(options: argparse.Namespace) -> None:
    _print(_read(options).statistics(), options.format)


def _finetune(options: argparse.Namespace) -> None:
    for option in ("predictions", "history", "evaluations"):
        _check_ending(getattr(options, option), option)
    corpus = _read(options)
    if options.fold is not None:
        corpus = corpus.fold(options.fold)
    settings = _settings(options, _SETTINGS)
    splits: dict[str, Any] = {"train": options.train or "train"} | ({"test": options.test} if options.test else {})
    trackers = [(options.tensorboard, TensorBoard), (options.mlflow, MLflow), (options.wandb, WandB)]
    callbacks = [make(where) for where, make in trackers if where is not None]
    encoder = load_encoder(options.encoder, casing=options.casing)
    run = finetune(corpus, encoder, **splits, **settings, callbacks=callbacks, progress=not options.no_progress)
    for line in [*_report(run.report), f"trained in {run.settings['precision']}"]:
        _say(line)
    if options.output:
        run.save(options.output)
        _say(f"model saved to {options.output}")
    if options.history:
        _write(run.history, Path(options.history))
    if options.evaluations:
        _write(run.evaluations, Path(options.evaluations))
    if run.test is None:
        _say("the corpus has no test split; nothing was scored")
        return
    if options.predictions:
        _write(run.predictions(), Path(options.predictions))
    _print(run.scores, options.format)


def _report(report: dict[str, Any]) -> list[str]:
    """Describe where the weights came from."""
    lines = [f"encoder: {len(report['used'])} tensors of {report['path']} ({report['format']})"]
    for kind, what in (
        ("unused", "in the file and not used"),
        ("missing", "not in the file and not needed"),
        ("initialised", "newly initialised"),
    ):
        if report[kind]:
            lines.append(f"encoder: {what}: {', '.join(report[kind])}")
    return lines


def _cross_validate(options: argparse.Namespace) -> None:
    for option in ("predictions", "leakage"):
        _check_ending(getattr(options, option), option)
    names = ("folds", "by", "fold_seed", "directory", "jobs", "engine", *_FOLD_SETTINGS)
    settings = _settings(options, names)
    cv = cross_validate(_read(options), options.encoder, progress=not options.no_progress, **settings)
    if options.predictions:
        _write(cv.predictions, Path(options.predictions))
    if options.leakage:
        _write(cv.leaks, Path(options.leakage))
    if options.format == "table":
        print(cv.folds.merge(cv.leakage, on="fold").round(4).to_string(index=False), end="\n\n")
    _print(cv.scores, options.format)


def _compare(options: argparse.Namespace) -> None:
    names = ("folds", "by", "fold_seed", "directory", "retry_failed", "jobs", "engine", *_COMPARE_SETTINGS)
    settings = _settings(options, names)
    grid: dict[str, Any] = {"heads": options.head, "encoders": options.encoder or ["minilm"]}
    grid |= {"seeds": options.seed or [1], "progress": not options.no_progress}
    comparison = compare(_read(options), **grid, **settings)
    _print(comparison.paired(*options.paired) if options.paired else comparison.results, options.format)
    if len(comparison.failures):
        errors = "; ".join(comparison.failures["error"].unique())
        raise TrainingError(f"{len(comparison.failures)} of {len(comparison.trials)} trials failed: {errors}")


def _evaluate(options: argparse.Namespace) -> None:
    model = load(options.model, device=options.device, precision=options.precision, threads=options.threads)
    _print(model.evaluate(_read(options), options.split), options.format)


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
    model = load(options.model, device=options.device, precision=options.precision, threads=options.threads)
    try:
        text = sys.stdin.read() if options.sentences == "-" else Path(options.sentences).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        message = f"{options.sentences}: is not UTF-8 ({error}); convert it to UTF-8 first"
        raise CorpusError(message, options.sentences) from None
    sentences = []
    # Not splitlines, which also splits at characters that a text may hold.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            sentences.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            place = f"{options.sentences}:{number}"
            raise CorpusError(f"{place}: not a line of JSON ({error})", options.sentences, number) from None
    _print(model.predict(sentences), style)


def _predict_documents(options: argparse.Namespace) -> None:
    if options.output is None:
        raise ConfigError("output: say with --output in which directory the relations are to be written", "output")
    shard = re.fullmatch(r"(\d+)/(\d+)", options.shard)
    if shard is None:
        raise ConfigError(f"shard: `{options.shard}` is not of the form 3/10", "shard")
    types = dict(_equation("type", text) for text in options.type or [])
    found = predict_documents(
        load(options.model, device=options.device, precision=options.precision, threads=options.threads),
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
    assert isinstance(found, DocumentPredictions)
    for what, count in found.counts.items():
        _say(f"{count:,} x {what}")
    _say(f"{found.documents:,} documents, {found.pairs:,} pairs: {Path(options.output) / 'relations'}")
    if found.failed:
        _say(f"{found.failed:,} documents could not be used: {Path(options.output) / 'errors.jsonl'}")


def _equation(option: str, text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not equals or not left or not right:
        raise ConfigError(f"{option}: `{text}` is not of the form THEIRS=OURS", option)
    return left, right


def _attention(options: argparse.Namespace) -> None:
    model = load(options.model, device=options.device, precision=options.precision, threads=options.threads)
    _print(model.attention(_read(options), options.split, kind=options.kind), options.format)


def _faithfulness(options: argparse.Namespace) -> None:
    model = load(options.model, device=options.device, precision=options.precision, threads=options.threads)
    masked = model.mask_words(_read(options), options.split, words=options.words or (1, 3, 5), limit=options.limit)
    _print(faithfulness(masked), options.format)


def _reproduce(options: argparse.Namespace) -> None:
    given = [name for name in _COMPARE_SETTINGS if getattr(options, name) is not None]
    settings = _settings(options, given)
    made = reproduce(
        options.what,
        corpora=options.corpora,
        directory=options.directory,
        preset=options.preset,
        folds=options.folds,
        encoders=options.encoder,
        seeds=options.seed,
        jobs=options.jobs,
        engine=options.engine,
        progress=not options.no_progress,
        **settings,
    )
    print(made)
    _say(f"written: {made.directory / 'report.html'}")


def _demo(options: argparse.Namespace) -> None:
    run = run_demo(max_steps=options.max_steps)
    if options.output:
        run.model.save(options.output)
        _say(f"model saved to {options.output}")


def _print(table: pd.DataFrame, style: str) -> None:
    if style == "table":
        print(table.to_string(index=False, na_rep=""))
        if isinstance(table, Scores):
            print(table.protocol)
    else:
        print(_text(table, style), end="")
        if isinstance(table, Scores):
            _say(table.protocol)


def _text(table: pd.DataFrame, style: str) -> str:
    if style == "jsonl":
        return json_lines(table)
    return str(table.to_csv(index=False, sep="," if style == "csv" else "\t"))


def _check_ending(path: str | None, option: str) -> None:
    if path is not None and Path(path).suffix not in (".tsv", ".csv", ".jsonl"):
        raise ConfigError(f"{option}: `{path}` must end in .tsv, .csv or .jsonl", option)


def _write(table: pd.DataFrame, path: Path) -> None:
    atomic_write(path, _text(table, path.suffix[1:]))
    _say(f"written: {path}")


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say(f"warning: {message}")
