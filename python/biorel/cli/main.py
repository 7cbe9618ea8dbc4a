"""The command line: ``biorel COMMAND``; ``biorel --help`` lists the commands.

Tables go to standard output, everything else to standard error. Exit codes: 0 success, 1 bad input, 2 an invalid
command, 130 Ctrl-C, with a line that says whether the command resumes.

The library is argparse. ``finetune`` and ``predict`` take 248 lines of code with it and 235 with cyclopts 5.5, which
adds 8 packages and 0.19 s of imports and reads ``epochs = 2.5`` in TOML as 2, so that ``config_file.py`` would stay.
jsonargparse 4.53 does not name the file of a wrong key. typer 0.29 reads neither TOML nor parameters in docstrings.
"""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biorel.cli import corpora, demo, experiments, interpretation, prediction, serve, template, training
from biorel.cli.config_file import read_config
from biorel.cli.options import Commands
from biorel.cli.output import say, set_encoding, set_log_level
from biorel.cli.version import ShowVersion
from biorel.errors import BiorelError
from biorel.training.run import TrainingInterrupted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows ``biorel``; by default the arguments of the process.

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
    set_log_level("info")
    if arguments is None:
        set_encoding()
    options = argparse.Namespace()
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        set_log_level(options.log_level)
        if options.log_level in ("error", "warning"):
            options.no_progress = True
        options.run(options)
    except TrainingInterrupted as stopped:
        if getattr(options, "output", None):
            stopped.run.model.save(options.output)
            say(f"stopped; the model as trained so far is in {options.output}")
        else:
            say(_stopped(options))
        return 130
    except KeyboardInterrupt:
        say(_stopped(options))
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; there is no one to report to.
        sys.stderr.close()
        return 1
    except (BiorelError, OSError) as error:
        if getattr(options, "log_level", "") == "debug":
            traceback.print_exc()
        say(f"error: {error}", "error")
        return 1
    return 0


def _stopped(options: argparse.Namespace) -> str:
    """What Ctrl-C left behind."""
    given = vars(options)
    run, output = given.get("directory"), given.get("output")
    # A stream of documents resumes from its directory; of a table nothing is written before its end.
    run = run if given.get("source") is None else output
    checkpoint = given.get("checkpoint")
    if (run is not None and Path(run).is_dir()) or (checkpoint is not None and Path(checkpoint).is_file()):
        return "stopped; run the same command again to resume"
    unsaved = "encoder" in given and (output is None or not Path(output).exists())
    return "stopped; nothing was saved" if unsaved else "stopped"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command: from the command line, else the configuration file, else the defaults."""
    parser, commands = make_parser()
    before = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    before.add_argument("--config")
    config = before.parse_known_args(arguments)[0].config
    command = commands.choices.get(arguments[0], parser) if arguments else parser
    if config is not None and command is not parser:
        read_config(Path(config), command)
    options, rest = parser.parse_known_args(arguments)
    # In `predict MODEL --format tsv FILE` argparse settles for no FILE as soon as it has seen the model.
    if getattr(options, "source", None) == [] and all(name == "-" or not name.startswith("-") for name in rest):
        options.source, rest = rest, []
    if rest:
        command.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def make_parser() -> tuple[argparse.ArgumentParser, Commands]:
    """The parser of the command line, and its commands by name."""
    parser = argparse.ArgumentParser(
        prog="biorel", description="Biomedical relation extraction with BERT.", allow_abbrev=False
    )
    text = "show the version, the build and the instruction set"
    parser.add_argument("--version", action=ShowVersion, nargs=0, help=text)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    corpora.add_commands(commands)
    training.add_commands(commands)
    experiments.add_commands(commands)
    prediction.add_commands(commands)
    serve.add_commands(commands)
    interpretation.add_commands(commands)
    experiments.add_reproduce(commands)
    demo.add_demo(commands)
    template.add_config(commands)
    return parser, commands


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"warning: {message}", "warning")
