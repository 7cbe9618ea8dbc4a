"""Options from a TOML file. Its keys are the names of a command's options; unknown keys are errors."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path
from typing import Any

from biorel.cli.options import Repeated
from biorel.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_config(path: Path, command: argparse.ArgumentParser) -> None:
    """Make the values of a file the defaults of a command's options.

    Parameters
    ----------
    path : Path
        A TOML file with lines such as ``head = "lstm"`` and ``learning-rate = 5e-5``; ``learning_rate`` is the same
        key.
    command : argparse.ArgumentParser
        The command. Options that the file sets are no longer required on the command line.

    Raises
    ------
    ConfigError
        For a file that is not TOML, an unknown key, or a value of the wrong type.
    OSError
        When the file cannot be read.

    Examples
    --------
    >>> import argparse
    >>> parser = argparse.ArgumentParser()
    >>> action = parser.add_argument("--learning-rate", type=float)
    >>> _ = (folder / "settings.toml").write_text("learning-rate = 5e-5")
    >>> read_config(folder / "settings.toml", parser)
    >>> parser.parse_args([]).learning_rate
    5e-05
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # wrong syntax or encoding, or too deep nesting
        raise ConfigError(f"{path}: not a TOML file ({error})", "config") from None
    known = {action.dest: action for action in command._actions if action.dest not in ("help", "config")}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean `{near[0].replace('_', '-')}`?" if near else ""
            options = ", ".join(name.replace("_", "-") for name in known)
            raise ConfigError(f"{path}: `{key}` is not an option of this command.{hint} Its options are {options}", key)
        known[name].default = _checked(value, known[name], f"{path}: {key}", key)
        known[name].required = False


def _checked(value: Any, action: argparse.Action, place: str, key: str) -> Any:
    if isinstance(action, argparse.BooleanOptionalAction) or action.nargs == 0:
        return _of_kind(value, bool, place, key)
    if isinstance(value, dict) and action.dest == "class_weights":
        return {label: _of_kind(weight, float, f"{place}.{label}", key) for label, weight in value.items()}
    if action.dest == "variant":
        variants = _table(value, place, key)
        return {name: _named_settings(_table(entry, f"{place}.{name}", key)) for name, entry in variants.items()}
    if action.dest == "dev" and isinstance(value, float):  # a fraction instead of a split's name
        return value
    if action.dest == "freeze":  # a number of layers, or a word
        return value if isinstance(value, str) else _of_kind(value, int, place, key)
    kind: Any = action.type or str
    if action.nargs in (None, "?") and not isinstance(action, Repeated):
        return _one_of(_of_kind(value, kind, place, key), action, place, key)
    several = value if isinstance(value, list) else [value]
    if not several or (isinstance(action.nargs, int) and len(several) != action.nargs):
        wanted = "at least one" if not isinstance(action.nargs, int) else str(action.nargs)
        raise ConfigError(f"{place} must have {wanted}, not {value!r}", key)
    return [_of_kind(entry, kind, place, key) for entry in several]


def _table(value: Any, place: str, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{place} must be a table, such as [variant.NAME], not {value!r}", key)
    return value


def _named_settings(table: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in table.items()}


def _of_kind(value: Any, kind: type, place: str, key: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
        raise ConfigError(f"{place} must be {names[kind]}, not {value!r}", key)
    return value


def _one_of(value: Any, action: argparse.Action, place: str, key: str) -> Any:
    if action.choices is not None and value not in action.choices:
        choices = ", ".join(map(str, action.choices))
        raise ConfigError(f"{place} must be one of {choices}, not {value!r}", key)
    return value
