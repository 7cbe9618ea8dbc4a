"""Named settings of `finetune` for experiments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from biorel.errors import ConfigError

Preset: TypeAlias = Literal["paper", "standard", "quick"]

SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},  # the defaults of `finetune`
    # Chosen on AIMed's training data with MiniLM and the head `attention` (benchmarks/results/scores), mean F1 of two
    # seeds: 38.3 with these, 33.9 with 5e-5; with one seed 37.2 with 5e-5 and moments that are not corrected.
    "standard": {"learning_rate": 1e-4, "epochs": 3, "bias_correction": True},
    "quick": {"max_steps": 300, "learning_rate": 1e-4},
}


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
