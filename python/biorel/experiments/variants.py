"""Variants of a comparison: named settings that replace the common ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from biorel._biorel import HEADS
from biorel._types import Row
from biorel.errors import ConfigError
from biorel.training.presets import with_preset

# The trials share one executor.
_COMMON = {"device": "all trials run on one device", "threads": "all trials share the threads"}


class Variant(NamedTuple):
    """One variant, or the common settings where there are no variants (`name` is None)."""

    name: str | None
    heads: list[str]
    settings: Row  # of `finetune`, as given, without the head
    changes: Row  # what differs from the common settings, with the head if the variant has its own


def checked_variants(
    variants: Mapping[str, Mapping[str, Any]] | None,
    heads: Sequence[str],
    encoders: Iterable[str],
    settings: Row,
    check: Callable[[Row, Sequence[str]], Row],
) -> tuple[Row, list[Variant]]:
    """The common settings in full, and the variants; a comparison without variants has one without a name.

    Parameters
    ----------
    variants : mapping of str to mapping, optional
        The settings of each variant.
    heads, encoders : iterable of str
        The heads of the comparison, and the names of its encoders.
    settings : dict
        The common settings, as given.
    check : function of (settings, heads)
        Validates settings with these heads; returns all that affect the results, including defaults.
    """
    distinct = list(dict.fromkeys(heads))
    if variants is None:
        return check(settings, heads), [Variant(None, distinct, settings, {})]
    if not isinstance(variants, Mapping) or not variants:
        message = f"variants: must be a mapping of names to settings with at least one entry, not {variants!r}"
        raise ConfigError(message, "variants")
    _check_names(variants, set(encoders))
    # A head that every variant replaces need not fit the common settings.
    common = check(settings, heads if any("head" not in _without_preset(given) for given in variants.values()) else [])
    found = []
    for name, named in variants.items():
        given = _without_preset(named)
        for setting, reason in _COMMON.items():
            if setting in given:
                raise ConfigError(f"variants: `{name}`: {setting}: cannot be set here; {reason}", "variants")
        own = {key: value for key, value in given.items() if key != "head"}
        merged = {**settings, **own}
        used = [given["head"]] if "head" in given else distinct
        try:
            full = check(merged, used)
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"variants: `{name}`: {error}", "variants") from None
        changes = {key: value for key, value in full.items() if value != common[key]}
        if "head" in given:
            changes["head"] = given["head"]
        found.append(Variant(name, used, merged, changes))
    return common, found


def _without_preset(given: Mapping[str, Any]) -> Row:
    """The settings, with those of the preset that they name."""
    return with_preset(given.get("preset"), {key: value for key, value in given.items() if key != "preset"})


def _check_names(variants: Mapping[str, Any], encoders: set[str]) -> None:
    """Names are parts of file names, and `Comparison.paired` takes them like those of heads and encoders."""
    seen: dict[str, str] = {}
    for name, given in variants.items():
        if not isinstance(name, str) or not re.fullmatch(r"[\w.+=-]{1,64}", name):
            message = f"variants: {name!r} is not a name: up to 64 letters, digits and the characters _ . + = -"
            raise ConfigError(message, "variants")
        if name in HEADS or name in encoders:
            kind = "a head" if name in HEADS else "an encoder"
            raise ConfigError(f"variants: `{name}` is the name of {kind}; choose another", "variants")
        if name.lower() in seen:
            message = f"variants: `{seen[name.lower()]}` and `{name}` would share files on Windows and macOS"
            raise ConfigError(message, "variants")
        seen[name.lower()] = name
        if not isinstance(given, Mapping):
            raise ConfigError(f"variants: `{name}` must be a mapping of settings, not {given!r}", "variants")
