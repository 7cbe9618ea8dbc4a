"""Options that several commands share, and how a command is added."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from biorel._biorel import CORPORA
from biorel.cli.output import LOG_LEVELS, say
from biorel.data.corpus import Corpus
from biorel.data.loading import load_corpus
from biorel.data.tables import read_table
from biorel.errors import ConfigError
from biorel.models.relation_model import RelationModel, load

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class Repeated(argparse.Action):
    """Like argparse's ``append``, but values on the command line replace the default instead of being added to it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Add one value."""
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [values] if before is self.default else [*before, values])


class _Help(argparse.HelpFormatter):
    """Help whose usage has no list of all options: they stand below it, and before an error they hide the error."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        """Add the usage: help, required options, the others as OPTION, and the arguments."""
        actions = list(actions)
        named = [action for action in actions if action.required or not action.option_strings or action.dest == "help"]
        if len(named) < len(actions):
            named.append(argparse.Action([], "option", nargs="*", metavar="OPTION"))
            # Argparse puts options first; the others keep their order.
            named.sort(key=lambda action: action.metavar != "OPTION")
        super().add_usage(usage, named, [], prefix)


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    """A new command, which `run` executes."""
    parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False, formatter_class=_Help)
    parser.set_defaults(run=run)
    text = "TOML file of options; options on the command line take precedence"
    parser.add_argument("--config", metavar="FILE", help=text)
    text = "messages on standard error: error, warning, info (also progress) or debug (also where an error arose)"
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="info", help=f"{text} (default: info)")
    return parser


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """The arguments that `read_corpus` reads."""
    parser.add_argument("corpus", help=f"format: {', '.join(CORPORA)}")
    parser.add_argument("path", nargs="+", help="folder, file(s) or .zip")
    add_table(parser)
    group = parser.add_argument_group("corpus")
    text = "table, documents: all labels in order (default: those of the data)"
    group.add_argument("--labels", nargs="+", metavar="LABEL", help=text)
    text = "table, documents: the label that means no relation (default: a label such as none, false or 0)"
    group.add_argument("--negative", metavar="LABEL", help=text)
    text = "documents: types of the first and second entity of candidate pairs (default: those of the relations)"
    group.add_argument("--pairs", nargs="+", metavar="FIRST,SECOND", help=text)
    group.add_argument("--splits", help="ddi: full or blue")
    text = "documents: raise stops at an unreadable document, skip reports it (default: raise)"
    group.add_argument("--errors", choices=["raise", "skip"], default="raise", help=text)
    text = "pubtator, bioc, brat: pairs of mentions in a sentence or of concepts in a document (default: sentence)"
    group.add_argument("--scope", choices=["sentence", "document"], default="sentence", help=text)
    text = "scope document: how many mentions of each concept a pair has at most (default: 4)"
    group.add_argument("--max-mentions", type=int, metavar="N", help=text)


def add_table(parser: argparse.ArgumentParser) -> None:
    """The options that describe a user's table."""
    group = parser.add_argument_group("table")
    text = "table: our names and yours for columns, such as text=sentence entity1=drug_a entity2=drug_b "
    text += "(default: ours, or those of the table that trained the model)"
    group.add_argument("--columns", nargs="+", metavar="OURS=YOURS", help=text)
    text = "table: what offsets count: characters or bytes (default: characters)"
    group.add_argument("--offsets", choices=["characters", "bytes"], default="characters", help=text)


def column_names(options: argparse.Namespace) -> dict[str, str] | None:
    """The value of --columns: our names of columns and the user's."""
    return (
        None if options.columns is None else dict(equation("columns", text, "OURS=YOURS") for text in options.columns)
    )


def equation(option: str, text: str, form: str) -> tuple[str, str]:
    """The two sides of an option's value such as ``text=sentence``."""
    left, equals, right = text.partition("=")
    if not equals or not left or not right:
        raise ConfigError(f"{option}: `{text}` is not of the form {form}", option)
    return left, right


def _pair(text: str) -> tuple[str, str]:
    first, comma, second = text.partition(",")
    if not comma or not first or not second:
        raise ConfigError(f"pairs: `{text}` is not of the form FIRST,SECOND", "pairs")
    return first, second


def read_corpus(options: argparse.Namespace, model: RelationModel | None = None) -> Corpus:
    """The corpus of the command line; what its reader left out or changed goes to standard error.

    Without --columns a table has the columns of the one that trained `model`.
    """
    if model is not None and options.corpus == "table" and options.columns is None:
        trained, header = model._core.task.columns, set(read_table(options.path).frame.columns)
        options.columns = [f"{ours}={theirs}" for ours, theirs in trained.items() if theirs in header] or None
    corpus = load_described_corpus(options)
    for line in corpus.summary:
        say(line)
    return corpus


def load_described_corpus(options: argparse.Namespace) -> Corpus:
    """The corpus of the command line."""
    return load_corpus(
        options.corpus,
        options.path,
        splits=options.splits,
        columns=column_names(options),
        labels=options.labels,
        negative=options.negative,
        pairs=None if options.pairs is None else [_pair(text) for text in options.pairs],
        offsets=options.offsets,
        errors=options.errors,
        scope=options.scope,
        max_mentions=options.max_mentions,
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """The arguments that `load_model` reads."""
    parser.add_argument("model", help="directory of a saved model")
    group = parser.add_argument_group("execution")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    group.add_argument("--precision", default="auto", help="auto, f32 or bf16 (default: auto)")
    group.add_argument("--threads", type=int, help="processor threads (default: all)")


def load_model(options: argparse.Namespace) -> RelationModel:
    """The model of the command line."""
    return load(options.model, device=options.device, precision=options.precision, threads=options.threads)


def add_model_on_split(parser: argparse.ArgumentParser) -> None:
    """A model, a corpus, and which split of it."""
    add_model(parser)
    add_corpus(parser)
    parser.add_argument("--split", default="test", help="split of the corpus (default: test)")


def add_encoder(parser: argparse.ArgumentParser) -> None:
    """Which encoder is fine-tuned."""
    parser.add_argument("--encoder", default="minilm", help="alias, hub id or directory (default: minilm)")


def add_folds(parser: argparse.ArgumentParser) -> None:
    """How a corpus is divided into folds."""
    group = parser.add_argument_group("folds")
    text = "number of folds (default: 10 in cross-validation, or as many as the corpus defines)"
    group.add_argument("--folds", type=int, help=text)
    text = "what stays in one fold: document, given (the corpus's own folds), split (each split is a fold) or instance"
    group.add_argument("--by", help=text)
    group.add_argument("--fold-seed", type=int, default=1, help="seed of the folds (default: 1)")


def add_execution(parser: argparse.ArgumentParser, what: str) -> None:
    """Where trials or folds run, and how many of them concurrently."""
    group = parser.add_argument_group("execution")
    group.add_argument("--jobs", type=int, metavar="N", help=f"run N {what} concurrently (default: 1)")
    text = f"where {what} run: local, or ray for a cluster (default: local)"
    group.add_argument("--engine", choices=["local", "ray"], default="local", help=text)


def shows_progress(options: argparse.Namespace) -> bool:
    """Whether to show progress: unless --no-progress or --log-level say otherwise."""
    return not getattr(options, "no_progress", False)


def add_format(parser: argparse.ArgumentParser) -> None:
    """The format of the table on standard output."""
    text = "format of the output (default: table)"
    output_group(parser).add_argument("--format", choices=["table", "tsv", "csv", "jsonl"], default="table", help=text)


def output_group(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The group of a command's options for what it writes."""
    groups = [group for group in parser._action_groups if group.title == "output"]
    return groups[0] if groups else parser.add_argument_group("output")
