"""``biorel config --template``: a configuration file with every option of a command, to edit."""

from __future__ import annotations

import argparse
import json
from typing import Any

from biorel.cli.options import Commands, Repeated, add_command
from biorel.errors import ConfigError


def add_config(commands: Commands) -> None:
    """Add the command ``config``; it describes the commands that have been added before."""
    parser = add_command(commands, "config", _config, "print a configuration file (for --config) to edit")
    parser.add_argument("command", nargs="?", default="finetune", help="the command (default: finetune)")
    text = "print a TOML file with all options of the command, their defaults and their meaning"
    parser.add_argument("--template", action="store_true", required=True, help=text)
    parser.set_defaults(known=dict(commands.choices))


def _config(options: argparse.Namespace) -> None:
    if options.command not in options.known:
        names = ", ".join(name for name in options.known if name != "config")
        raise ConfigError(f"command: `{options.command}` is not a command; choose one of {names}", "command")
    print(template(options.command, options.known[options.command]), end="")


def template(name: str, command: argparse.ArgumentParser) -> str:
    """A TOML file with every option of a command, commented out, with its default or an example of its type.

    Parameters
    ----------
    name : str
        The name of the command.
    command : argparse.ArgumentParser
        The command.

    Examples
    --------
    >>> import argparse
    >>> parser = argparse.ArgumentParser()
    >>> action = parser.add_argument("--epochs", type=int, default=10, help="passes (default: 10)")
    >>> print(template("finetune", parser))
    # Options of `biorel finetune`, for `biorel finetune --config FILE`. Remove the # before an option to set it.
    <BLANKLINE>
    # == options ==
    <BLANKLINE>
    # passes (default: 10)
    # epochs = 10
    <BLANKLINE>
    """
    use = f"for `biorel {name} --config FILE`. Remove the # before an option to set it."
    lines = [f"# Options of `biorel {name}`, {use}", ""]
    for group in command._action_groups:
        actions = [action for action in group._group_actions if action.dest not in ("help", "config")]
        if actions:
            lines += [f"# == {group.title} ==", ""]
        for action in actions:
            meaning = (action.help or "").replace("%%", "%")
            lines += [f"# {meaning}", f"# {action.dest.replace('_', '-')} = {_value(action)}", ""]
    return "\n".join(lines)


def _value(action: argparse.Action) -> str:
    """The default of an option in TOML; without a default, an example of its type."""
    default = vars(action).get("usual", action.default)
    if isinstance(action, argparse.BooleanOptionalAction) or action.nargs == 0:
        return str(bool(default)).lower()
    several = action.nargs not in (None, "?") or isinstance(action, Repeated)
    if action.dest == "class_weights":
        return '{ "LABEL" = 1.0 }'
    if action.dest == "variant":
        return '{ "NAME" = { "head" = "cls" } }'
    example: Any = {int: 1, float: 0.0}.get(action.type, action.metavar or action.dest.upper())  # type: ignore[call-overload]
    example = 1 if action.dest == "freeze" else example  # or a word
    example = next(iter(action.choices)) if action.choices else example
    value = example if default is None or default == [] else default
    if several and not isinstance(value, list):
        value = [value] * (action.nargs if isinstance(action.nargs, int) else 1)
    return json.dumps(value, ensure_ascii=False)
