"""Named settings of `finetune`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar

from biorel.errors import ConfigError

Preset: TypeAlias = Literal["paper", "standard", "one-pass", "quick"]
# Those that leave the head to an experiment.
PairPreset: TypeAlias = Literal["paper", "standard", "quick"]

# The rates were chosen on AIMed's training data with MiniLM (benchmarks/results/scores); F1, with two seeds their
# mean. `standard`, with the head `attention`: 38.3 with these, 33.9 with 5e-5; with one seed 37.2 with 5e-5 and
# moments that are not corrected. `one-pass`, with six epochs: 49.0; with one seed 48.3 with 5e-5, and 38.3 with
# moments that are not corrected.
SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},  # the defaults of `finetune`
    "standard": {"learning_rate": 1e-4, "epochs": 3, "bias_correction": True},
    "one-pass": {
        "head": "entity-attention",
        "marking": "levitated",
        "learning_rate": 1e-4,
        "epochs": 10,
        "bias_correction": True,
        "max_length": 384,
    },
    "quick": {"max_steps": 300, "learning_rate": 1e-4},
}
_P = ParamSpec("_P")
_R = TypeVar("_R")


def with_preset(preset: str | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, over those of the preset.

    Raises
    ------
    ConfigError
        For an unknown preset.
    """
    if preset is not None and preset not in SETTINGS:
        raise ConfigError(f"preset: must be one of {', '.join(SETTINGS)}, not {preset!r}", "preset")
    return {**SETTINGS.get(preset or "paper", {}), **settings}


def takes_preset(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Call the function with the settings of its keyword argument `preset`, which those that are given override."""

    @functools.wraps(function)
    def call(*arguments: _P.args, **given: _P.kwargs) -> _R:
        # The keywords of a function that the wrapper knows nothing of.
        settings: Any = with_preset(given.get("preset"), given)  # type: ignore[arg-type]
        return function(*arguments, **settings)

    return call
