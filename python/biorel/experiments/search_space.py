"""The space of a search: ranges and choices of settings, as Optuna's distributions."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from biorel._types import Row
from biorel.errors import ConfigError
from biorel.training.finetune import finetune

# A range of these is searched on a logarithmic scale: a factor counts, not a difference.
LOG_SCALE = ("learning_rate",)
# What `finetune` takes and a search does not vary, with the reason.
_FIXED = {
    "corpus": "it is the first argument",
    "encoder": "it has its own argument; search once for each encoder",
    "train": "trials train on the train split",
    "dev": "all trials are scored on the same data, which has its own argument",
    "test": "the test split is not read",
    "seed": "it has its own argument; the best of several seeds would be luck",
    "device": "all trials run on one device",
    "threads": "it does not change results",
    "callbacks": "they observe a single run",
    "checkpoint": "the directory also stores training checkpoints",
    "save_steps": "it does not change results",
    "gradient_checkpointing": "it does not change results",
    "progress": "it has its own argument",
}


def library() -> Any:
    """Import Optuna; if it is missing, the error says what to install."""
    try:
        import optuna  # noqa: PLC0415  an extra
    except ImportError:
        raise ConfigError('space: Optuna is not installed; run: pip install "biorel[search]"', "space") from None
    return optuna


class Space:
    """The settings that a search varies.

    Parameters
    ----------
    given : mapping of str to tuple, list or distribution
        As in ``search``.
    settings : mapping
        The settings that are fixed; none may be in the space.
    """

    def __init__(self, given: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        if not isinstance(given, Mapping) or not given:
            raise ConfigError(f"space: must be a mapping of settings to ranges or choices, not {given!r}", "space")
        known = inspect.signature(finetune).parameters
        self.distributions: dict[str, Any] = {}
        for name, values in given.items():
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f"; did you mean `{near[0]}`?" if near else ""
                raise ConfigError(f"space: `{name}` is not a setting of finetune{hint}", "space")
            if name in _FIXED:
                raise ConfigError(f"space: `{name}` cannot be searched; {_FIXED[name]}", "space")
            if name in settings:
                raise ConfigError(f"space: `{name}` is also given as a fixed setting; choose one", "space")
            self.distributions[name] = _distribution(name, values)

    def extremes(self, name: str) -> list[Any]:
        """The choices of a setting, or the two ends of its range."""
        distribution = self.distributions[name]
        return list(distribution.choices) if _is_choice(distribution) else [distribution.low, distribution.high]

    def plan(self) -> Row:
        """The distributions in types that JSON has."""
        to_json = library().distributions.distribution_to_json
        return {name: json.loads(to_json(distribution)) for name, distribution in self.distributions.items()}

    def table(self) -> pd.DataFrame:
        """One row per setting: ``setting``, ``values``, ``scale``; see ``Search.space``."""
        rows = []
        for name, distribution in self.distributions.items():
            ends = self.extremes(name)
            if _is_choice(distribution):
                rows.append((name, ", ".join(map(str, ends)), "choices"))
            else:
                step = "" if distribution.step in (None, 1) else f" in steps of {distribution.step}"
                rows.append((name, f"{ends[0]} to {ends[1]}{step}", "log" if distribution.log else "linear"))
        return pd.DataFrame(rows, columns=["setting", "values", "scale"])


def _is_choice(distribution: Any) -> bool:
    return hasattr(distribution, "choices")


def _distribution(name: str, values: Any) -> Any:
    distributions = library().distributions
    if isinstance(values, distributions.BaseDistribution):
        found = values
    elif isinstance(values, list) and values:
        _check_choices(name, values)
        found = distributions.CategoricalDistribution(values)
    elif isinstance(values, tuple) and len(values) == 2 and all(type(end) in (int, float) for end in values):
        kinds = {type(end) for end in values}
        kind = distributions.IntDistribution if kinds == {int} else distributions.FloatDistribution
        try:
            found = kind(*values, log=name in LOG_SCALE)
        except ValueError as error:
            raise ConfigError(f"space: {name}: {error}", "space") from None
    else:
        message = f"space: {name} must be a range (low, high), a list of choices or an Optuna distribution"
        raise ConfigError(f"{message}, not {values!r}", "space")
    return found


def _check_choices(name: str, choices: list[Any]) -> None:
    for choice in choices:
        if not isinstance(choice, (str, int, float, type(None))):
            message = f"space: {name}: a choice must be text, a number, True, False or None, not {choice!r}"
            raise ConfigError(message, "space")
