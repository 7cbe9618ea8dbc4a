"""Warnings that point at the user's line, however deep in the package they arise."""

from __future__ import annotations

import sys
import warnings


def warn(message: str) -> None:
    """Issue a UserWarning whose place is the first caller outside of the package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "biorel":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
