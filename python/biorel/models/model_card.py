"""The model card: a README.md that says what a model is, how it was made and scored, and how it is used.

Its front matter has the fields that the Hugging Face hub reads. Nothing of the text of a corpus stands in it: labels,
types of entities, hashes and numbers do.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from biorel._tables import markdown_table, markdown_text
from biorel.errors import ConfigError
from biorel.evaluation.scores import MEASURES
from biorel.models.hub import ALIASES, CARD

# One table of scores or several.
ReportedScores: TypeAlias = "pd.DataFrame | Sequence[pd.DataFrame]"

MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
LONGEST_CARD = 4 << 20  # bytes
# The tasks of the published corpora, which are in English; what language a user's own table is in only the user knows.
TASKS = {
    "ppi": "protein-protein interactions",
    "ddi": "drug-drug interactions",
    "chemprot": "interactions of chemicals and proteins",
}
MARKINGS = {
    "typed": "each of the two entities is replaced by the tag of its type (`@DRUG$`)",
    "blue": "the two entities are replaced by tags, by the rules of the BLUE benchmark",
    "markers": "the two entities stay and stand between markers",
}
_LOADING = re.compile(r"^model = biorel\.load\(.*\)", re.MULTILINE)


def write_card(
    about: Mapping[str, Any],
    *,
    name: str,
    headline: str,
    scores: ReportedScores | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """The text of a model card.

    Parameters
    ----------
    about : mapping
        ``RelationModel.card``.
    name : str
        What ``biorel.load`` takes: a directory's name, or ``owner/name``.
    headline : str
        The row of a table of scores that the task goes by.
    scores : DataFrame or sequence of DataFrame, optional
        Tables with their protocol in ``attrs``.
    metadata : mapping, optional
        Fields of the front matter, instead of or besides ours.

    Returns
    -------
    str
        Markdown with front matter.
    """
    tables = _tables(scores)
    front = _front_matter(about, name, [_metrics(table, about, headline) for table in tables])
    for field, value in (metadata or {}).items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"metadata: `{field}` cannot be written as YAML ({error})", "metadata") from None
        front[field] = value
    front = {field: value for field, value in front.items() if value is not None}
    parts = ["---", *_yaml(front), "---", "", *_body(about, name, tables, front)]
    return "\n".join(parts) + "\n"


def read_card(directory: Path) -> str | None:
    """The README of a model's directory, if there is one; it is for people, and never keeps a model from being used."""
    readme = directory / CARD
    if not readme.is_file():
        return None
    if readme.stat().st_size > LONGEST_CARD:
        warnings.warn(
            f"{readme} is too long for a model card; a model saved from this one gets a new one", stacklevel=3
        )
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
                "cross_validation.scores; a score without its protocol says nothing"
            )
            raise ConfigError(message, "scores")
    return tables


def _front_matter(about: Mapping[str, Any], name: str, metrics: list[list[dict[str, Any]]]) -> dict[str, Any]:
    task = about["task"]["name"]
    data = {"name": task, "type": task}
    kind = {"type": "text-classification", "name": "relation extraction"}
    results = [{"task": kind, "dataset": data, "metrics": found} for found in metrics if found]
    return {
        "language": "en" if task in TASKS else None,
        "license": None,
        "library_name": "biorel",
        "pipeline_tag": "text-classification",
        "tags": ["biorel", "relation-extraction", "biomedical", "bert", task],
        "base_model": base_model(about["encoder"]),
        "metrics": list(MEASURES) if results else None,
        "model-index": [{"name": Path(name).name, "results": results}] if results else None,
    }


def base_model(encoder: str) -> str | None:
    """The encoder's id on the hub, where its name has one: a directory of this machine has none."""
    if encoder == "minilm":
        return MINILM_HUB_ID
    if encoder in ALIASES:
        return ALIASES[encoder].hub_id
    hub_id = encoder.partition("@")[0]
    plain = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", hub_id, re.ASCII)
    return hub_id if plain and not Path(encoder).exists() else None


def _metrics(table: pd.DataFrame, about: Mapping[str, Any], headline: str) -> list[dict[str, Any]]:
    """The figures that the hub shows: of the headline row, of the mean, of this model's head."""
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


def _body(about: Mapping[str, Any], name: str, tables: list[pd.DataFrame], front: Mapping[str, Any]) -> list[str]:
    task, training = about["task"], about["training"]
    what = TASKS.get(task["name"], "relations between two entities of a sentence")
    encoder = (
        front.get("base_model") or f"a directory of the author, `{markdown_text(os.path.basename(about['encoder']))}`"
    )
    negative = None if task["negative"] is None else task["labels"][task["negative"]]
    lines = [
        f"# {markdown_text(Path(name).name)}",
        "",
        f"A classifier of {what} in biomedical sentences, fine-tuned with biorel {about['version']}: BERT with the "
        f"head `{training['head']}` of Su & Vijay-Shanker (BIBM 2020).",
        "",
        "## How to use it",
        "",
        "```python",
        "import biorel",
        "",
        f"model = biorel.load({json.dumps(name)})",
        f"model.predict([{_example(task)}])",
        "```",
        "",
        "The entities are given, with their types and their characters in the sentence; the model decides about every "
        "pair of them. `biorel.load_encoder` and transformers' `AutoModel` open the same directory as an encoder.",
        "",
        "## What it decides",
        "",
        f"Labels: {', '.join(f'`{markdown_text(label)}`' for label in task['labels'])}."
        + ("" if negative is None else f" `{markdown_text(negative)}` means that the sentence states no relation."),
        "",
        *(_pair_line(rule) for rule in task["candidates"]["rules"]),
        f"Marking: `{about['marking']}`, {MARKINGS[about['marking']]}.",
        "",
        "## Scores",
        "",
    ]
    for table in tables:
        rows = ([_cell(value) for value in row] for row in table.itertuples(index=False))
        lines += [f"{markdown_text(table.attrs['protocol'])}.", "", *markdown_table(table.columns, rows), ""]
    if not tables:
        lines += ["None were given when the model was saved (`model.save(..., scores=run.scores)`).", ""]
    lines += [
        "## How it was made",
        "",
        f"- Encoder: {encoder}",
        f"- Training data: SHA-256 `{about['data']}` of what was trained on (texts, entities, labels, in order)"
        if about["data"]
        else "- Training data: its hash is not known",
        f"- Optimizer steps: {about['steps']:,}",
        f"- Learning rate: linear rise over the first {training['warmup_ratio']:g} of the steps, then "
        + ("BERT's `lr (1 - t / T)`" if training.get("compat") == "su2020" else "linear fall from the peak to 0"),
        f"- Numbers: large products in {training['precision']}, everything else in f32",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {setting} | {markdown_text(_value(value))} |" for setting, value in training.items()),
        "",
        "## Limits",
        "",
        "- It reads one sentence at a time, and does not find entities itself.",
        f"- It reads at most {training['max_length']} word pieces of a sentence, in windows around the two entities.",
        "- It has learned the annotation rules, the domain and the errors of its training data. Scores on that corpus "
        "say little about other texts.",
        "- Its probabilities are not calibrated.",
        "- What it finds is what a sentence seems to say, not what is true. It is not for decisions about patients.",
        "",
        "## Licence",
        "",
        f"`{markdown_text(str(front['license']))}`."
        if front.get("license")
        else "Not stated. The terms of the encoder and of the training data bind whoever passes the model on.",
    ]
    return lines


def _pair_line(rule: Sequence[Sequence[str]]) -> str:
    first, second = (", ".join(f"`{markdown_text(kind)}`" for kind in kinds) for kinds in rule)
    return f"Pairs: a first entity of type {first}; a second of type {second}.\n"


def _example(task: Mapping[str, Any]) -> str:
    """A call with invented entities of types that the model knows."""
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


def _yaml(value: Any, indent: int = 0) -> list[str]:
    """Mappings, lists and scalars in YAML's block form; written here because it needs no package."""
    pad = "  " * indent
    lines = []
    if isinstance(value, Mapping):
        for key, inner in value.items():
            nested = isinstance(inner, (Mapping, list, tuple)) and len(inner)
            lines += [f"{pad}{_scalar(str(key))}:" + ("" if nested else f" {_scalar(inner)}")]
            if nested:
                lines += _yaml(inner, indent + 1)
    else:
        for inner in value:
            if isinstance(inner, (Mapping, list, tuple)) and len(inner):
                first, *rest = _yaml(inner, indent + 1)
                lines += [f"{pad}- {first.lstrip()}", *rest]
            else:
                lines.append(f"{pad}- {_scalar(inner)}")
    return lines


def _scalar(value: Any) -> str:
    """A scalar; a JSON string is one of YAML too, but for characters that YAML does not let stand as they are."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", value)
    # Words that YAML reads as something else are quoted too.
    if plain and value.lower() not in ("null", "true", "false", "yes", "no", "on", "off", "y", "n"):
        return str(value)
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(
        r"[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]", _escape, text
    )


def _escape(found: re.Match[str]) -> str:
    return f"\\U{ord(found.group()):08x}"
