"""What may be wrong with a corpus: offsets, labels, splits."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, Literal

import pandas as pd
from biorel import _biorel
from biorel._html import table_html
from biorel.data.mentions import inside_words
from biorel.data.tables import bytes_at

# Fewer pairs hardly train a model.
FEWEST_PAIRS = 50
# What R, pandas, spreadsheets and databases write for a missing value; `none` is a name for no relation.
_MISSING = frozenset(("na", "n/a", "nan", "<na>", "#n/a", "null"))
_SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Check:
    """One finding, with what to do about it."""

    severity: Literal["error", "warning", "note"]
    split: str | None
    count: int
    finding: str
    remedy: str


class Checks(pd.DataFrame):
    """The table of ``Corpus.check``, which is printed in full; selecting from it returns a plain DataFrame."""

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    def __repr__(self) -> str:
        """A line per finding, and its remedy."""
        return "\n".join(f"{line}\n    {remedy}" for line, remedy in describe_checks(self)) or "nothing was found"

    def _repr_html_(self) -> str:
        return table_html(self)


def describe_checks(found: pd.DataFrame) -> list[tuple[str, str]]:
    """Each finding as one line, and its remedy."""
    places = ["" if pd.isna(split) else f"{split}: " for split in found["split"]]
    lines = zip(found["severity"], places, found["finding"], found["remedy"], strict=True)
    return [(f"{severity}: {place}{finding}", remedy) for severity, place, finding, remedy in lines]


def check_data(core: _biorel.Corpus) -> list[Check]:
    """What is wrong with the data and hardly meant: offsets in bytes, variants of labels, missing labels."""
    names = [*_variants("labels", core.task.labels, "classes"), *_variants("types", core.task.types, "types")]
    return [*names, *_missing_values(core), *(check for split in core.splits for check in _offsets(core, split))]


def check(core: _biorel.Corpus, *, guessed: bool) -> Checks:
    """The table of ``Corpus.check``; `guessed`: the user did not say which label means no relation."""
    checks = [
        *check_data(core),
        *_negative(core, guessed=guessed),
        *_training(core),
        *_types(core),
        *_shared_documents(core),
        *_without_positives(core),
        *_repeated(core),
    ]
    checks += [Check("note", None, 1, line, "Corpus.findings() lists each") for line in core.summary]
    checks.sort(key=lambda one: _SEVERITIES.index(one.severity))
    return Checks([astuple(one) for one in checks], columns=[field.name for field in fields(Check)])


def _variants(what: str, names: Sequence[str], kind: str) -> Iterator[Check]:
    same: dict[str, list[str]] = {}
    for name in names:
        same.setdefault("".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    for variants in same.values():
        if len(variants) > 1:
            finding = f"{what} that differ only in case or blanks: {_listed(map(repr, variants))}"
            if len({"".join(name.casefold().split()) for name in variants}) > 1:
                finding = f"{what} that differ only in case, blanks or Unicode form: {_listed(map(ascii, variants))}"
            remedy = f"spell them alike in your data; now they are {kind} of their own"
            yield Check("error", None, len(variants), finding, remedy)


def _missing_values(core: _biorel.Corpus) -> Iterator[Check]:
    found = [label for label in core.task.labels if label.strip().casefold() in _MISSING]
    if found:
        finding = f"labels that other programs write for a missing value: {_listed(map(repr, found))}"
        remedy = "leave their rows out, or give them a name of their own; now they are classes"
        yield Check("error", None, len(found), finding, remedy)


def _offsets(core: _biorel.Corpus, split: str) -> Iterator[Check]:
    pairs = core.pairs(split)
    cut, in_bytes, example = 0, 0, ""
    for row, text in enumerate(pairs["text"]):
        for number in (1, 2):
            start, end = pairs[f"start{number}"][row], pairs[f"end{number}"][row]
            if not inside_words(text, start, end):
                continue
            cut += 1
            example = example or f"`{text[start:end]}` in `{text[max(0, start - 15) : end + 15]}` ({pairs['id'][row]})"
            before = bytes_at(text, 0, start)
            mention = bytes_at(text, start, end)
            if not text.isascii() and mention and before is not None:
                as_bytes = (len(before), len(before) + len(mention))
                in_bytes += not inside_words(text, *as_bytes)
    if not cut:
        return
    finding = f"{cut:,} entities start or end inside a word, such as {example}"
    if in_bytes * 2 > cut:
        remedy = 'they fit as bytes: read the table with offsets="bytes" (--offsets bytes)'
        yield Check("error", split, cut, f"{finding}: the offsets seem to count bytes", remedy)
    else:
        yield Check(
            "warning", split, cut, finding, "check the offsets: characters from 0, the end is one past the last"
        )


def _negative(core: _biorel.Corpus, *, guessed: bool) -> Iterator[Check]:
    task = core.task
    if task.negative is None:
        finding = f"no label means that there is no relation; scores count all of {_listed(task.labels)}"
        yield Check("warning", None, 1, finding, 'name it, as in negative="none" (--negative none), if there is one')
    elif guessed and core.name in ("table", "documents", "pubtator", "bioc", "brat"):
        finding = f"the label `{task.negative}` is taken to mean that there is no relation"
        yield Check("note", None, 1, finding, 'if it does not, give negative="..." (--negative ...)')


def _training(core: _biorel.Corpus) -> Iterator[Check]:
    train = "train" if "train" in core.splits else core.splits[0] if len(core.splits) == 1 else None
    if train is None:
        finding = f"no split is named train, only {_listed(core.splits)}"
        remedy = "name the one to train on (train=, --train), or divide all: corpus.split(test=0.2)"
        yield Check("note", None, 1, finding, remedy)
        return
    rows = core.statistics()
    counts = {label: rows[label][rows["split"].index(train)] for label in core.task.labels}
    total = sum(counts.values())
    if total < FEWEST_PAIRS:
        finding = f"only {total} pairs to train on"
        remedy = f"add some: below {FEWEST_PAIRS}, a model hardly learns more than their texts"
        yield Check("warning", train, total, finding, remedy)
    present = [label for label, count in counts.items() if count]
    if len(present) == 1:
        remedy = "add pairs of another label; otherwise every prediction is this one"
        yield Check("error", train, total, f"every pair has the label `{present[0]}`", remedy)
    elif absent := [label for label, count in counts.items() if not count]:
        remedy = "add such pairs, or leave the label out of `labels`; it cannot be learned"
        yield Check("warning", train, len(absent), f"labels without a pair to train on: {_listed(absent)}", remedy)
    if len(core.splits) == 1:
        remedy = "divide it: corpus.split(test=0.2) (--test-fraction 0.2), or corpus.fold(0)"
        yield Check("note", train, total, f"the only split is {train}: nothing is left to score", remedy)


def _types(core: _biorel.Corpus) -> Iterator[Check]:
    if core.task.types == ["entity"]:
        finding = "the entities have no types: all are `entity`, with the tag @ENTITY$"
        remedy = (
            "columns entity1_type and entity2_type give types; those of documents are then mapped: --type Drug=entity"
        )
        yield Check("note", None, 1, finding, remedy)


def _shared_documents(core: _biorel.Corpus) -> Iterator[Check]:
    if "train" not in core.splits:
        return
    trained = set(core.sentences("train")["document"])
    for split in core.splits:
        shared = trained & set(core.sentences(split)["document"]) if split != "train" else set()
        if shared:
            finding = f"{len(shared):,} documents are also in train, such as {min(shared)}"
            remedy = "keep documents together: corpus.split() or corpus.divide(); see corpus.leakage()"
            yield Check("warning", split, len(shared), finding, remedy)


def _without_positives(core: _biorel.Corpus) -> Iterator[Check]:
    if core.task.negative is None:
        return
    rows = core.statistics()
    for number, split in enumerate(rows["split"]):
        positives = sum(rows[label][number] for label in core.task.labels if label != core.task.negative)
        if not positives and split != "train":
            remedy = "divide the corpus anew: scores on it are 0 whatever the model does"
            yield Check("warning", split, 1, "has no pair with a relation", remedy)


def _repeated(core: _biorel.Corpus) -> Iterator[Check]:
    """Pairs of a user's table that are there twice, and sentences that are in train and in another split."""
    if core.name != "table":
        return
    labels: dict[tuple[Any, ...], dict[str, str]] = {}
    texts: dict[str, set[str]] = {}
    for split in core.splits:
        pairs = core.pairs(split)
        texts[split] = set(pairs["text"])
        seen: set[tuple[Any, ...]] = set()
        again = []
        names = ("text", "start1", "end1", "start2", "end2")
        spans = zip(*(pairs[name] for name in names), strict=True)
        for span, sentence, label, name in zip(spans, pairs["sentence"], pairs["label"], pairs["id"], strict=True):
            labels.setdefault(span, {}).setdefault(label, name)
            if (sentence, span, label) in seen:
                again.append(name)
            seen.add((sentence, span, label))
        if again:
            finding = f"{len(again):,} rows repeat an earlier one, such as {again[0]}"
            yield Check("warning", split, len(again), finding, "leave them out; now they count several times")
    if several := [found for found in labels.values() if len(found) > 1]:
        (one, first), (other, second), *_ = several[0].items()
        finding = f"{len(several):,} pairs have several labels, such as `{one}` ({first}) and `{other}` ({second})"
        yield Check("warning", None, len(several), finding, "give each pair one label, or leave rows out")
    for split, own in texts.items():
        if split != "train" and (shared := own & texts.get("train", set())):
            finding = f"{len(shared):,} sentences are also in train, such as {min(shared)!r}"
            yield Check("warning", split, len(shared), finding, "keep equal sentences together; see corpus.leakage()")


def _listed(names: Iterator[str] | Sequence[str]) -> str:
    names = list(names)
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
