"""Options for the settings of training, derived from the signatures and docstrings of ``finetune`` and ``adapt``."""

from __future__ import annotations

import argparse
import difflib
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from biorel.cli.options import equation, output_group
from biorel.errors import ConfigError
from biorel.training.adapt import adapt
from biorel.training.finetune import finetune

_PARAMETERS = inspect.signature(finetune).parameters
# Parameters of `finetune` that are no settings: the commands have arguments of their own for them.
_ARGUMENTS = ("corpus", "encoder", "train", "test", "callbacks", "progress")
SETTINGS = [name for name in _PARAMETERS if name not in _ARGUMENTS]
ADAPT_SETTINGS = [name for name in inspect.signature(adapt).parameters if name not in ("encoder", "texts", "progress")]
# With folds or several heads the training checkpoints are in the experiment's directory.
COMPARE_SETTINGS = [name for name in SETTINGS if name not in ("checkpoint", "head", "seed", "preset")]
# A fold has no split to evaluate on while training.
FOLD_SETTINGS = [
    name for name in SETTINGS if name not in ("checkpoint", "dev", "eval_steps", "patience", "load_best_model")
]

# The groups of `--help`. A setting that is in none of them is in the first.
_GROUPS = {
    "training": (),
    "model": ("head", "marking", "max_length", "too_long", "dropout", "head_dropout", "freeze", "compat"),
    "optimizer": (
        "learning_rate",
        "warmup_ratio",
        "weight_decay",
        "max_grad_norm",
        "adam_beta1",
        "adam_beta2",
        "adam_epsilon",
        "bias_correction",
        "layerwise_lr_decay",
    ),
    "loss and sampling": ("class_weights", "focal_gamma", "negative_ratio"),
    "evaluation during training": ("dev", "eval_steps", "patience", "load_best_model"),
    "execution": ("gradient_checkpointing", "precision", "checkpoint", "save_steps", "device", "threads"),
}


def add_settings(parser: argparse.ArgumentParser, names: Iterable[str], of: Callable[..., Any] = finetune) -> None:
    """Options for settings: type and default from the signature of a function, help from its docstring.

    An option that is not given is None, so that a preset can decide; `usual` is the default that the help shows.
    """
    hints, parameters = get_type_hints(of), inspect.signature(of).parameters
    texts = _descriptions(of)
    names = list(names)
    place = {name: title for title, members in _GROUPS.items() for name in members}
    existing = {group.title: group for group in parser._action_groups}
    groups = {
        title: existing.get(title) or parser.add_argument_group(title)
        for title in _GROUPS
        if any(place.get(name, "training") == title for name in names)
    }
    for name in names:
        default = parameters[name].default
        choices = _choices(hints[name])
        # The docstring explains the choices after a colon; the help lists them there.
        shown = f"{', or ' if {int, float} & set(get_args(hints[name])) else ': '}{', '.join(choices)}"
        text = re.split("[:;] ", texts[name])[0] + shown if choices else texts[name]
        if name == "class_weights":
            option: dict[str, Any] = {"nargs": "+", "metavar": "LABEL=WEIGHT"}
            text = "weights of labels in the loss, or balanced"
        else:
            option = _option(hints[name])
        text = text if default in (None, False) else f"{text} (default: {default})"
        group = groups[place.get(name, "training")]
        action = group.add_argument(f"--{name.replace('_', '-')}", default=None, help=text.replace("%", "%%"), **option)
        vars(action)["usual"] = default
    output_group(parser).add_argument("--no-progress", action="store_true", help="no progress bar")


def settings_from(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """The values of the named options that were given, as functions such as `finetune` take them."""
    values = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    weights = values.get("class_weights")
    if isinstance(weights, list):
        values["class_weights"] = "balanced" if weights == ["balanced"] else dict(map(_label_weight, weights))
    if isinstance(values.get("dev"), str):
        values["dev"] = _split_or_fraction(values["dev"])
    return values


def variants_from(given: dict[str, dict[str, Any]] | list[list[str]] | None) -> dict[str, dict[str, Any]] | None:
    """The variants of a comparison: tables of a configuration file, or ``NAME SETTING=VALUE ...`` for each."""
    if not isinstance(given, list):
        return given
    names = [words[0] for words in given]
    if len(set(names)) < len(names):
        raise ConfigError(f"variant: two have the same name; there are {', '.join(names)}", "variant")
    return {name: dict(map(_setting, words)) for name, *words in given}


def _setting(text: str) -> tuple[str, Any]:
    """The name and value of ``SETTING=VALUE``."""
    left, value = equation("variant", text, "SETTING=VALUE")
    name = left.replace("-", "_")
    known = [*COMPARE_SETTINGS, "head", "preset"]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise ConfigError(f"variant: `{left}` is not a setting of finetune{hint}", "variant")
    if name == "dev":
        return name, _split_or_fraction(value)
    option = _option(get_type_hints(finetune)[name])
    try:
        return name, option["type"](value) if "type" in option else {"true": True, "false": False}[value.lower()]
    except (KeyError, ValueError):
        kind = {int: "a whole number", float: "a number"}.get(option.get("type", bool), "true or false")
        raise ConfigError(f"variant: {left} must be {kind}, not `{value}`", "variant") from None


def _split_or_fraction(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _label_weight(text: str) -> tuple[str, float]:
    label, _, weight = text.rpartition("=")
    try:
        return label, float(weight)
    except ValueError:
        message = f"class_weights: `{text}` is neither `balanced` nor a label with its weight, such as mechanism=2.5"
        raise ConfigError(message, "class_weights") from None


def _option(hint: Any) -> dict[str, Any]:
    """What argparse needs to know about a type. The allowed values are checked with the setting, not here."""
    kinds = get_args(hint) or (hint,)
    if int in kinds and _choices(hint):
        return {"type": _number_or_word}
    if str in kinds:
        return {"type": str}
    if bool in kinds:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": next((kind for kind in (int, float) if kind in kinds), str)}


def _number_or_word(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _choices(hint: Any) -> list[str]:
    """The strings that a type allows, where it lists them."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [choice for kind in get_args(hint) for choice in _choices(kind)]


def _descriptions(of: Callable[..., Any]) -> dict[str, str]:
    """The first sentence about each parameter of a function, from its docstring."""
    texts: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(of.__doc__ or "").splitlines():
        if match := re.match(r"(\w+) : ", line):
            name = match[1]
        elif line.startswith("    ") and name:
            texts[name] = f"{texts.get(name, '')} {line.strip()}".strip()
        elif not line.startswith(" "):
            name = ""
    first = {name: re.split(r"(?<=[a-z0-9`)])[.] ", text)[0].rstrip(".") for name, text in texts.items()}
    return {name: text.replace("`", "") for name, text in first.items()}
