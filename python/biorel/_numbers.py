"""Numbers as settings: checks of whole numbers, and Python's own in place of numpy's."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from biorel.errors import ConfigError


def whole_number(value: Any, field: str, least: int = 0, *, also: str = "") -> int:
    """The value as an int; ConfigError unless it is whole and from `least`. `also` names what else the field takes."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise ConfigError(f"{field}: must be a whole number from {least}{also}, not {value!r}", field)
    return number


def plain(value: Any) -> Any:
    """The value with numpy's and pandas' numbers, text and collections as Python's own, in any depth.

    Experiments call it for what they are given: plans and records are JSON, and ``np.int64(1)`` is the same trial as 1.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, pd.Series):
        return plain(value.to_dict())
    if isinstance(value, Mapping):
        return {plain(key): plain(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return value
