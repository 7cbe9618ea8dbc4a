"""The model card: a README.md with a model's task, usage, scores, training and limits.

``model_card.md`` is the template of its body. Its front matter has the fields that the Hugging Face hub reads. It has
labels, entity types, hashes and numbers, but no text of a corpus.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, TypeAlias

import pandas as pd
import yaml
from biorel._tables import markdown_table, markdown_text
from biorel._warnings import warn
from biorel.errors import ConfigError
from biorel.evaluation.scores import MEASURES
from biorel.models.hub import ALIASES, CARD

# One table of scores or several.
ReportedScores: TypeAlias = "pd.DataFrame | Sequence[pd.DataFrame]"

MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
LONGEST_CARD = 4 << 20  # bytes
# The tasks of the published corpora, which are in English. The language of a user's own table is not known.
TASKS = {
    "ppi": "protein-protein interactions",
    "ddi": "drug-drug interactions",
    "chemprot": "interactions of chemicals and proteins",
}
MARKINGS = {
    "typed": "each of the two entities is replaced by the tag of its type (`@DRUG$`)",
    "blue": "the two entities are replaced by tags, by the rules of the BLUE benchmark",
    "markers": "each of the two entities is kept, between markers",
    "levitated": "every entity of the sentence is replaced by its type's tag; markers behind the text point at the two",
    "levitated-visible": "the text is unchanged; markers behind it point at the two entities",
}
# What the card of a model says that was trained on the sample.
SYNTHETIC = "**Trained on biorel's synthetic sample**"
_LOADING = re.compile(r"^model = biorel\.load\(.*\)", re.MULTILINE)


def write_card(
    about: Mapping[str, Any],
    *,
    name: str,
    headline: str,
    synthetic: bool = False,
    scores: ReportedScores | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Write a model card.

    Parameters
    ----------
    about : mapping
        ``RelationModel.card``.
    name : str
        The argument of ``biorel.load``: a directory's name, or ``owner/name``.
    headline : str
        The row of a table of scores by which the task is reported.
    synthetic : bool
        Whether it was trained on the sample that ships with biorel.
    scores : DataFrame or sequence of DataFrame, optional
        Tables with their protocol in ``attrs``.
    metadata : mapping, optional
        Fields of the front matter, which replace or add to the others.

    Returns
    -------
    str
        Markdown with front matter.
    """
    tables = _tables(scores)
    front = _front_matter(about, name, [_metrics(table, about, headline) for table in tables])
    if synthetic:
        front["tags"].append("synthetic-data")
    front |= {field: _plain(field, value) for field, value in (metadata or {}).items()}
    front = {field: value for field, value in front.items() if value is not None}
    fields = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=math.inf)
    return f"---\n{fields}---\n\n{_body(about, name, tables, front, synthetic=synthetic)}"


def read_card(directory: Path) -> str | None:
    """The README of a model's directory, if there is one. It is never an error, since the model does not need it."""
    readme = directory / CARD
    if not readme.is_file():
        return None
    if readme.stat().st_size > LONGEST_CARD:
        warn(f"{readme} is too long for a model card; saving this model will write a new one")
        return None
    return readme.read_text(encoding="utf-8", errors="replace")


def rename_in_card(text: str, name: str) -> str:
    """The same card, for a model that is loaded under another name."""
    return _LOADING.sub(lambda _: f"model = biorel.load({json.dumps(name)})", text, count=1)


def _tables(scores: ReportedScores | None) -> list[pd.DataFrame]:
    tables = [] if scores is None else [scores] if isinstance(scores, pd.DataFrame) else list(scores)
    for table in tables:
        if not isinstance(table, pd.DataFrame) or not table.attrs.get("protocol"):
            message = (
                "scores: must be tables with their protocol, such as run.scores, comparison.results or "
                "cross_validation.scores"
            )
            raise ConfigError(message, "scores")
    return tables


def _front_matter(about: Mapping[str, Any], name: str, metrics: list[list[dict[str, Any]]]) -> dict[str, Any]:
    task = about["task"]["name"]
    results = [
        {
            "task": {"type": "text-classification", "name": "relation extraction"},
            "dataset": {"name": task, "type": task},
            "metrics": found,
        }
        for found in metrics
        if found
    ]
    return {
        "language": "en" if task in TASKS else None,
        "license": None,
        "library_name": "biorel",
        # No pipeline_tag: by it transformers' `pipeline` would put an untrained head on the encoder, and answer.
        "tags": ["biorel", "relation-extraction", "biomedical", "bert", task],
        "base_model": base_model(about["encoder"]),
        "metrics": list(MEASURES) if results else None,
        "model-index": [{"name": Path(name).name, "results": results}] if results else None,
    }


def base_model(encoder: str) -> str | None:
    """The encoder's id on the hub, if it has one; a local directory has none."""
    if encoder == "minilm":
        return MINILM_HUB_ID
    if encoder in ALIASES:
        return ALIASES[encoder].hub_id
    hub_id = encoder.partition("@")[0]
    plain = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", hub_id, re.ASCII)
    return hub_id if plain and not Path(encoder).exists() else None


def _metrics(table: pd.DataFrame, about: Mapping[str, Any], headline: str) -> list[dict[str, Any]]:
    """The scores that the hub shows: of the headline row, the mean over folds, or this model's head."""
    if "class" in table.columns:
        rows = table[table["class"] == headline]
    elif "over" in table.columns:
        rows = table[table["over"] == "mean"]
    elif {"encoder", "head"} <= set(table.columns):
        rows = table[(table["head"] == about["training"]["head"]) & (table["encoder"] == about["encoder"])]
    else:
        rows = table[:0]
    if len(rows) != 1:
        return []
    values = rows.iloc[0]
    return [
        {"type": measure, "name": f"{measure} ({table.attrs['protocol']})", "value": round(float(values[measure]), 6)}
        for measure in MEASURES
        if measure in rows.columns and pd.notna(values[measure])
    ]


def _body(
    about: Mapping[str, Any], name: str, tables: list[pd.DataFrame], front: Mapping[str, Any], *, synthetic: bool
) -> str:
    task, training = about["task"], about["training"]
    encoder = (
        front.get("base_model")
        or f"a local directory of the author, `{markdown_text(os.path.basename(about['encoder']))}`"
    )
    values = {
        "title": markdown_text(Path(name).name),
        "what": TASKS.get(task["name"], "relations between two entities of a sentence"),
        "version": about["version"],
        "synthetic": "",
        "head": training["head"],
        "name": json.dumps(name),
        "example": _example(task),
        "labels": _code(task["labels"]),
        "negative": "",
        "pairs": "".join(map(_pair_rule, task["candidates"]["rules"])),
        "marking": about["marking"],
        "marking_rule": MARKINGS[about["marking"]],
        "scores": "\n\n".join(map(_score_table, tables)),
        "encoder": encoder,
        "data": "hash unknown",
        "steps": f"{about['steps']:,}",
        "warmup_ratio": f"{training['warmup_ratio']:g}",
        "decay": "linear fall from the peak to 0",
        "precision": training["precision"],
        "settings": "\n".join(f"| {setting} | {markdown_text(_value(value))} |" for setting, value in training.items()),
        "max_length": training["max_length"],
        "licence": "Not stated. The terms of the encoder and of the training data apply to distribution.",
    }
    if synthetic:
        values["synthetic"] = (
            f"{SYNTHETIC}: invented names in generated sentences. It shows how biorel works and is of no use for real "
            "texts; its scores say nothing about them.\n\n"
        )
    if task["negative"] is not None:
        values["negative"] = f" {_code([task['labels'][task['negative']]])} means that the sentence states no relation."
    if not tables:
        values["scores"] = "None were passed when the model was saved (`model.save(..., scores=run.scores)`)."
    if about["data"]:
        values["data"] = f"SHA-256 `{about['data']}` of the training instances (texts, entities, labels, in order)"
    if training.get("compat") == "su2020":
        values["decay"] = "BERT's `lr (1 - t / T)`"
    if front.get("license"):
        values["licence"] = f"{_code([str(front['license'])])}."
    template = Template(files("biorel.models").joinpath("model_card.md").read_text(encoding="utf-8"))
    return template.substitute(values)


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{markdown_text(name)}`" for name in names)


def _pair_rule(rule: Sequence[Sequence[str]]) -> str:
    return f"Pairs: a first entity of type {_code(rule[0])}; a second of type {_code(rule[1])}.\n\n"


def _score_table(table: pd.DataFrame) -> str:
    rows = ([_cell(value) for value in row] for row in table.itertuples(index=False))
    lines = [f"{markdown_text(table.attrs['protocol'])}.", "", *markdown_table(table.columns, rows)]
    return "\n".join(lines)


def _example(task: Mapping[str, Any]) -> str:
    """A sentence with invented entities of types that the model knows."""
    rules = task["candidates"]["rules"]
    kinds = [rules[0][0][0], rules[0][1][0]] if rules and all(rules[0]) else ["TYPE", "TYPE"]
    text = "Aaa increases the level of bbb."
    spans = ((0, 3), (27, 30))
    entities = [{"start": start, "end": end, "type": kind} for (start, end), kind in zip(spans, kinds, strict=True)]
    return json.dumps({"text": text, "entities": entities}, ensure_ascii=False)


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(field: str, value: Any) -> Any:
    """The value in Python's plain types, which is what YAML can express."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"metadata: `{field}` cannot be written as YAML ({error})", "metadata") from None
