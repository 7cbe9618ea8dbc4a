"""Entity types of documents that a model does not know: which of its own types they may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from biorel import _biorel

_COUNTED = re.compile(r'skipped: an entity of type "(.*)", which the model does not know', re.DOTALL)
# Names that corpora use for the same kind of entity.
_SAME = (
    {"chemical", "drug", "chebi", "compound", "simple_chemical", "chemicalentity"},
    {"gene", "protein", "gene-y", "gene-n", "geneorgeneproduct", "gene_or_gene_product", "ggp"},
    {"disease", "disorder", "diseaseorphenotypicfeature"},
)


def describe_unknown_types(task: _biorel.Task, counts: Mapping[str, int], pairs: int) -> str | None:
    """What to do if no pair was formed because the model does not know the types of the documents; None if all is well.

    Parameters
    ----------
    task : Task
        The model's task.
    counts : mapping of str to int
        What was counted while reading, such as entities of unknown types.
    pairs : int
        The number of pairs that were formed.
    """
    unknown = {match[1]: count for what, count in counts.items() if (match := _COUNTED.match(what))}
    if pairs or not unknown:
        return None
    found = sorted(unknown, key=lambda name: -unknown[name])
    guesses = {name: known for name in found if (known := _alike(name, task.types)) is not None}
    known = ", ".join(dict.fromkeys(task.types))
    message = (
        "types: no pair was formed: the model relates entities of the types "
        f"{known}, and the documents have {', '.join(f'{name} ({unknown[name]:,})' for name in found)}"
    )
    if guesses:
        options = " ".join(f"--type {name}={known}" for name, known in guesses.items())
        return f"{message}; if they are the same, give types={guesses} ({options})"
    return f"{message}; give types={{THEIRS: OURS}} (--type THEIRS=OURS) for those that are the same"


def _alike(name: str, known: Iterable[str]) -> str | None:
    """The known type that probably means the same."""
    known = list(known)
    for same in _SAME:
        if name.casefold() in same:
            return next((one for one in known if one.casefold() in same), None)
    return "entity" if known == ["entity"] else None
