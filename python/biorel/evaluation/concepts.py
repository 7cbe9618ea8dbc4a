"""Scores of relations between concepts: what BioRED and BC5CDR evaluate."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import pandas as pd
from biorel import _biorel
from biorel._tables import text_of
from biorel.data.documents import Document, checked_documents
from biorel.errors import ConfigError
from biorel.evaluation.scores import Scores

PerPair: TypeAlias = Literal["best", "all"]

# Document, first concept, second concept.
_Pair: TypeAlias = tuple[str, str, str]
# A pair and its relation.
_Triple: TypeAlias = tuple[str, str, str, str]

# Of the identifiers of a composite mention.
_SEPARATORS = re.compile("[;|,]")

NO_MENTION = "a concept without a mention"
NO_PAIR = "no pair among the predictions"


class _Predicted(NamedTuple):
    """Predictions by concept: each relation with its probability, all pairs that were classified, types of concepts."""

    relations: dict[_Triple, float]
    # None if only relations are known, not the pairs without one.
    pairs: set[_Pair] | None
    # Of (document, concept).
    types: dict[tuple[str, str], str]


def concept_relations(
    documents: Iterable[Document],
    predictions: pd.DataFrame | Iterable[Document],
    *,
    directed: bool = False,
    per_pair: PerPair = "best",
    negative: str | None = None,
) -> pd.DataFrame:
    r"""The gold and the predicted relations between concepts, document by document.

    Parameters
    ----------
    documents, predictions, directed, per_pair, negative
        As ``concept_scores`` takes them.

    Returns
    -------
    pandas.DataFrame
        One row per relation that is gold or predicted: ``document``; ``concept1``, ``type1``, ``concept2``, ``type2``;
        ``relation``; ``gold`` and ``predicted`` (bool); its ``probability``, missing if it is not predicted or has
        none; ``reason``: why a gold relation could not be found (``a concept without a mention``, ``no pair among the
        predictions``), else empty. If direction is ignored, the two concepts are in the order of their names.

    Raises
    ------
    ConfigError
        As ``concept_scores``.

    Examples
    --------
    >>> text = "1|t|Aspirin, bleeding.\n1|a|\n1\t0\t7\tAspirin\tChemical\tD1\n1\t9\t17\tbleeding\tDisease\tD2\n"
    >>> _ = (folder / "gold.txt").write_text(text + "1\tCID\tD1\tD2\n")
    >>> documents = list(biorel.read_documents(folder / "gold.txt"))
    >>> row = {"document": "1", "concept1": "D1", "concept2": "D2", "relation": "CID", "probability": 0.9}
    >>> table = biorel.concept_relations(documents, pd.DataFrame([row]))
    >>> table[["concept1", "concept2", "relation", "gold", "predicted"]].values.tolist()
    [['D1', 'D2', 'CID', True, True]]
    """
    if per_pair not in ("best", "all"):
        raise ConfigError(f"per_pair: `{per_pair}` is unknown; choose best or all", "per_pair")
    known = {document.id: document for document in _unique(documents, "documents")}
    if isinstance(predictions, pd.DataFrame):
        predicted = _of_table(predictions, known, directed, per_pair, negative)
    else:
        predicted = _of_documents(predictions, known, directed)
    concepts = _types_of(known.values())
    types = {**predicted.types, **concepts}
    gold = _gold(known.values(), directed)
    rows = []
    for triple in sorted({*gold, *predicted.relations}):
        name, first, second, relation = triple
        reason = ""
        if triple in gold and triple not in predicted.relations:
            if (name, first) not in concepts or (name, second) not in concepts:
                reason = NO_MENTION
            elif predicted.pairs is not None and (name, first, second) not in predicted.pairs:
                reason = NO_PAIR
        sides = (first, types.get((name, first), ""), second, types.get((name, second), ""))
        found = predicted.relations.get(triple)
        rows.append((name, *sides, relation, triple in gold, found is not None, found, reason))
    columns = ["document", "concept1", "type1", "concept2", "type2", "relation"]
    table = pd.DataFrame(rows, columns=[*columns, "gold", "predicted", "probability", "reason"])
    return table.astype({"gold": bool, "predicted": bool, "probability": float})


def concept_scores(
    documents: Iterable[Document],
    predictions: pd.DataFrame | Iterable[Document],
    *,
    directed: bool = False,
    per_pair: PerPair = "best",
    negative: str | None = None,
    attributes: Mapping[str, pd.DataFrame] | None = None,
) -> Scores:
    r"""Score predictions by the relations between concepts that they give, as BioRED and BC5CDR do.

    A predicted relation is correct if the document states the same relation between the same two identifiers. A mention
    with several identifiers stands for each of them, one without an identifier for itself (``@start-end``). However
    many mentions a pair of concepts has, its relation counts once.

    Parameters
    ----------
    documents : iterable of Document
        The gold documents, with their relations: ``biorel.read_documents("Test.PubTator")``.
    predictions : DataFrame or iterable of Document
        The table that ``predict_documents`` returns for these documents, at any scope; a table of any program with
        ``document``, ``concept1``, ``concept2``, ``relation`` and, for ``per_pair="best"``, ``probability``; or the
        documents with predicted relations, in any format that ``read_documents`` reads. Give all pairs, with
        ``related_only=False``, so that relations that were never candidates can be told from those that were missed.
    directed : bool
        Whether the first and the second concept must agree. BioRED and BC5CDR ignore direction.
    per_pair : {"best", "all"}
        The relations of a pair of concepts with several pairs of mentions: the most probable one that is predicted for
        any of them, or all of them. Relations of Document objects have no probability: all of them count.
    negative : str, optional
        The label of the table that means "no relation"; by default that of the model that made it, else ``none``.

    attributes : mapping of str to DataFrame, optional
        An attribute of the relations, such as BioRED's ``novelty``, with a table of its predictions for the same pairs
        (of a model of ``load_corpus(..., attribute="novelty")``). Adds the rows ``micro, novelty`` and ``micro,
        relation and novelty``, which are BioRED's: a predicted relation counts if its pair has the right novelty, or
        relation and novelty. The novelty of a predicted relation is the most probable one of its pair, ``none`` aside.

    Returns
    -------
    Scores
        One row per class: ``class``; ``by``: what the class is (``relation``; ``types``, the types of the two concepts;
        ``all``); ``precision``, ``recall``, ``f1``; ``support`` (gold relations), ``predicted``, ``correct``;
        ``unreachable``: the gold relations that could not be found, since a concept has no mention or no pair of the
        predictions joins the two. They count as misses; ``concept_relations`` lists them. Classes that end in ``any
        relation`` score pairs of concepts, whatever the relation. The protocol is printed with the table.

    Raises
    ------
    ConfigError
        For a table without a needed column, a document that is not among the gold documents, one that is there twice,
        and a negative label that the table does not have although another one means "no relation".

    Examples
    --------
    >>> text = "1|t|Aspirin, bleeding.\n1|a|\n1\t0\t7\tAspirin\tChemical\tD1\n1\t9\t17\tbleeding\tDisease\tD2\n"
    >>> _ = (folder / "gold.txt").write_text(text + "1\tCID\tD1\tD2\n1\tCID\tD1\tD3\n")
    >>> documents = list(biorel.read_documents(folder / "gold.txt"))
    >>> row = {"document": "1", "concept1": "D2", "concept2": "D1", "relation": "CID", "probability": 0.9}
    >>> scores = biorel.concept_scores(documents, pd.DataFrame([row]))
    >>> scores.set_index("class").loc["micro", ["precision", "recall", "unreachable"]].tolist()
    [1.0, 0.5, 1.0]
    """
    documents = list(documents)
    table = concept_relations(documents, predictions, directed=directed, per_pair=per_pair, negative=negative)
    joined = table["type1"].str.cat(table["type2"], sep=" - ")
    if not directed:
        swapped = table["type2"].str.cat(table["type1"], sep=" - ")
        joined = joined.where(table["type1"] <= table["type2"], swapped)
    table = table.assign(types=joined)
    rows = [_row(str(name), "relation", part) for name, part in table.groupby("relation")]
    rows += [_row(str(name), "types", part) for name, part in table.groupby("types")]
    pairs = table.groupby(["document", "concept1", "concept2"], as_index=False).agg(
        types=("types", "first"), gold=("gold", "any"), predicted=("predicted", "any"), reason=("reason", "max")
    )
    rows += [_row(f"{name}, any relation", "types", part) for name, part in pairs.groupby("types")]
    rows += [_row("micro", "all", table), _row("micro, any relation", "all", pairs)]
    for attribute, predicted in (attributes or {}).items():
        values = _values(predicted, {document.id: document for document in documents}, attribute, directed)
        rows += _attribute_rows(documents, table, attribute, values, directed)
    scores = Scores(pd.DataFrame(rows))
    scores.attrs["protocol"] = _protocol(len(documents), table, predictions, directed=directed, per_pair=per_pair)
    return scores


def _row(name: str, by: str, part: pd.DataFrame) -> dict[str, Any]:
    support, predicted = int(part["gold"].sum()), int(part["predicted"].sum())
    correct = int((part["gold"] & part["predicted"]).sum())
    precision, recall = (correct / count if count else 0.0 for count in (predicted, support))
    return {
        "class": name,
        "by": by,
        "precision": precision,
        "recall": recall,
        "f1": 2 * correct / (support + predicted) if support + predicted else 0.0,
        "support": support,
        "predicted": predicted,
        "correct": correct,
        # A pair of concepts is reachable if a relation of it is predicted.
        "unreachable": int((part["reason"].ne("") & part["gold"] & ~part["predicted"]).sum()),
    }


def _values(
    table: pd.DataFrame, known: dict[str, Document], attribute: str, directed: bool
) -> dict[_Pair, tuple[float, str]]:
    """The most probable value of an attribute of each pair of concepts, with its probability."""
    negative = _negative(table, None)
    labels = [column[2:] for column in table.columns if str(column).startswith("p_") and column != f"p_{negative}"]
    for column in ("document", "concept1", "concept2"):
        if column not in table.columns or not labels:
            message = f"attributes: the table of `{attribute}` needs document, concept1, concept2 and p_VALUE columns"
            raise ConfigError(message, "attributes")
    names = {name: _Names(document) for name, document in known.items()}
    found: dict[_Pair, tuple[float, str]] = {}
    for number, row in zip(table.index, table.to_dict("records"), strict=True):
        name = text_of(row["document"])
        _check_known(name, known, f"row {number} of `{attribute}`")
        best = max((float(row[f"p_{label}"]), label) for label in labels)
        firsts, seconds = (names[name].of(row, side, f"row {number} of `{attribute}`") for side in (1, 2))
        for first, second in ((one, other) for one in firsts for other in seconds):
            pair = _ordered(name, first, second, directed=directed)
            found[pair] = max(found.get(pair, best), best)
    return found


def _attribute_rows(
    documents: list[Document],
    table: pd.DataFrame,
    attribute: str,
    values: dict[_Pair, tuple[float, str]],
    directed: bool,
) -> list[dict[str, Any]]:
    """The scores of pairs with the value of an attribute, without and with the relation."""
    gold: set[tuple[_Pair, str, str]] = set()
    for document in documents:
        for relation, firsts, seconds, stated in document._core.concept_relations():
            if attribute not in stated:
                have = ", ".join(stated) or "none"
                message = f"attributes: a relation of document {document.id} has no `{attribute}`; it has {have}"
                raise ConfigError(message, "attributes")
            pairs = (_ordered(document.id, one, other, directed=directed) for one in firsts for other in seconds)
            gold |= {(pair, relation, stated[attribute]) for pair in pairs}
    columns = ["document", "concept1", "concept2", "relation"]
    predicted = set()
    for name, first, second, relation in table.loc[table["predicted"], columns].itertuples(index=False):
        predicted.add(((name, first, second), relation, values.get((name, first, second), (0.0, ""))[1]))
    lost = set(table.loc[table["reason"].ne(""), columns[:3]].itertuples(index=False, name=None))
    rows = []
    for name, part in ((f"micro, {attribute}", slice(2, None)), (f"micro, relation and {attribute}", slice(1, None))):
        sides = [{(one[0], *one[part]) for one in side} for side in (gold, predicted)]
        frame = pd.DataFrame({"key": sorted(sides[0] | sides[1])})
        frame["gold"], frame["predicted"] = (frame["key"].isin(side) for side in sides)
        frame["reason"] = [NO_PAIR if key[0] in lost else "" for key in frame["key"]]
        rows.append(_row(name, "all", frame))
    return rows


def _protocol(
    documents: int,
    table: pd.DataFrame,
    predictions: pd.DataFrame | Iterable[Document],
    *,
    directed: bool,
    per_pair: PerPair,
) -> str:
    gold = int(table["gold"].sum())
    direction = "direction counts" if directed else "direction ignored"
    single = per_pair == "best" and isinstance(predictions, pd.DataFrame)
    several = "the most probable relation" if single else "all relations"
    text = f"micro-F1 over (concept, concept, relation), {direction}, {several} of a pair's mentions, "
    text += f"{documents:,} documents, {gold:,} gold relations"
    if unreachable := int(table["reason"].ne("").sum()):
        text += f", {unreachable:,} of them unreachable, counted as misses"
    return text


def _unique(documents: Iterable[Document], field: str) -> Iterator[Document]:
    seen: set[str] = set()
    for document in checked_documents(documents, field):
        if document.id in seen:
            raise ConfigError(f"{field}: document {document.id} appears twice", field)
        seen.add(document.id)
        yield document


def _ordered(name: str, first: str, second: str, *, directed: bool) -> _Pair:
    return (name, first, second) if directed or first <= second else (name, second, first)


def _gold(documents: Iterable[Document], directed: bool) -> set[_Triple]:
    return {
        (*_ordered(document.id, first, second, directed=directed), relation)
        for document in documents
        for relation, firsts, seconds, _ in document._core.concept_relations()
        for first in firsts
        for second in seconds
    }


def _of_documents(predictions: Iterable[Document], known: dict[str, Document], directed: bool) -> _Predicted:
    documents = list(_unique(predictions, "predictions"))
    for document in documents:
        _check_known(document.id, known, f"document {document.id}")
    found = dict.fromkeys(_gold(documents, directed), float("nan"))
    return _Predicted(found, None, _types_of(documents))


def _types_of(documents: Iterable[Document]) -> dict[tuple[str, str], str]:
    """The type of each (document, concept); of an identifier with several types the first in the text."""
    types: dict[tuple[str, str], str] = {}
    for document in documents:
        for concept, entity_type, _ in document._core.concepts():
            types.setdefault((document.id, concept), entity_type)
    return types


def _check_known(name: str, known: dict[str, Document], where: str) -> None:
    if name not in known:
        message = f"predictions: {where}: the document {name!r} is not among the gold documents"
        raise ConfigError(message, "predictions")


def _of_table(
    table: pd.DataFrame, known: dict[str, Document], directed: bool, per_pair: PerPair, negative: str | None
) -> _Predicted:
    needed = ["document", "concept1", "concept2", "relation", *(["probability"] if per_pair == "best" else [])]
    for column in needed:
        if column not in table.columns:
            have = ", ".join(map(str, table.columns))
            raise ConfigError(f"predictions: no column `{column}`; the columns are {have}", "predictions")
    negative = _negative(table, negative)
    names = {name: _Names(document) for name, document in known.items()}
    # Every relation of a pair with its highest probability.
    found: dict[_Pair, dict[str, float]] = defaultdict(dict)
    types: dict[tuple[str, str], str] = {}
    pairs = set()
    for number, row in zip(table.index, table.to_dict("records"), strict=True):
        name = text_of(row["document"])
        _check_known(name, known, f"row {number}")
        firsts, seconds = (names[name].of(row, side, f"row {number}") for side in (1, 2))
        relation = None if pd.isna(row["relation"]) else str(row["relation"])
        probability = float(row.get("probability", float("nan")))
        if per_pair == "best" and relation not in (None, negative) and pd.isna(probability):
            raise ConfigError(f"predictions: row {number}: the relation has no `probability`", "predictions")
        for side, concepts in enumerate((firsts, seconds), 1):
            for concept in concepts:
                types.setdefault((name, concept), str(row.get(f"type{side}", "")))
        for first, second in ((one, other) for one in firsts for other in seconds):
            pair = _ordered(name, first, second, directed=directed)
            pairs.add(pair)
            if relation is not None and relation != negative:
                best = found[pair].get(relation)
                found[pair][relation] = probability if best is None else max(best, probability)
    relations: dict[_Triple, float] = {}
    for pair, own in found.items():
        # Of equally probable relations the first one of the table.
        chosen = [max(own, key=lambda relation: own[relation])] if per_pair == "best" else list(own)
        relations |= {(*pair, relation): own[relation] for relation in chosen}
    return _Predicted(relations, pairs, types)


def _negative(table: pd.DataFrame, given: str | None) -> str | None:
    """The label that means "no relation"."""
    if given is not None or "negative" in table.attrs:
        return given if given is not None else table.attrs["negative"]
    labels = {str(label) for label in table["relation"].dropna()}
    others = sorted(label for label in labels if _biorel.means_none(label))
    if "none" not in labels and others:
        message = f"negative: the table has no relation `none`, but `{others[0]}`; say which label means no relation"
        raise ConfigError(message, "negative")
    return "none"


class _Names:
    """The names of the concepts of one gold document, for the rows of a table."""

    def __init__(self, document: Document) -> None:
        self._concepts = {concept for concept, _, _ in document._core.concepts()}
        self._mentions: dict[str, list[str]] = {}
        for name, _, identifiers, _, _ in document._core.mentions:
            self._mentions.setdefault(name, identifiers)

    def of(self, row: dict[Any, Any], side: int, where: str) -> list[str]:
        """The concepts of one side of a row: one, or those of a composite mention (``D1;D2``)."""
        concept = row[f"concept{side}"]
        concept = "" if pd.isna(concept) else text_of(concept)
        if not concept:
            start, end = (row.get(f"{name}{side}") for name in ("start", "end"))
            if start is None or end is None or pd.isna(start) or pd.isna(end):
                message = (
                    f"predictions: {where}: `concept{side}` is empty, and there is no `start{side}` and `end{side}`"
                )
                raise ConfigError(message, "predictions")
            return [f"@{int(start)}-{int(end)}"]
        if concept in self._concepts:
            return [concept]
        own = self._mentions.get(text_of(row.get(f"id{side}", "")), [])
        # The gold relations may name a composite identifier as a whole.
        same = own and _SEPARATORS.split(";".join(own)) == _SEPARATORS.split(concept)
        return own if same else [part for part in concept.split(";") if part]
