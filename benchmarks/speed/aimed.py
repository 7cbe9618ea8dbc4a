"""AIMed for the PyTorch baseline: marked text, label and fold of every pair.

It deliberately shares no code with biorel, so that the agreement of the two is a result.
"""

import csv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Example:
    """One candidate pair: the sentence with its two proteins anonymised, and 1 where they interact."""

    text: str
    label: int
    fold: int


def anonymise(text: str, first: tuple[int, int], second: tuple[int, int], tag: str = "@PROTEIN$") -> str:
    """Replace both mentions by `tag`; where they overlap, one `tag` replaces both."""
    (start1, end1), (start2, end2) = sorted([first, second])
    if start2 < end1:
        return text[:start1] + tag + text[max(end1, end2) :]
    return text[:start1] + tag + text[end1:start2] + tag + text[end2:]


def read_pairs(path: Path) -> list[Example]:
    """All pairs of aimed_pairs.tsv, in file order; an invalid row is an error."""
    examples = []
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True):
            spans = [(int(row[f"e{i}_start"]), int(row[f"e{i}_end"])) for i in (1, 2)]
            for (start, end), mention in zip(spans, (row["e1"], row["e2"])):
                if row["text"][start:end] != mention:
                    raise ValueError(f"{path}: {row['pair_id']}: text[{start}:{end}] is not {mention!r}")
            if row["label"] not in ("positive", "negative"):
                raise ValueError(f"{path}: {row['pair_id']}: label {row['label']!r}")
            examples.append(Example(anonymise(row["text"], *spans), int(row["label"] == "positive"), int(row["fold"])))
    return examples
