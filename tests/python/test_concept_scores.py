"""Scores of relations between concepts, on cases written from the protocols of BioRED and BC5CDR."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import biorel
import numpy as np
import pandas as pd
import pytest

# BioRED's form: relations of identifiers, of which one is a variant with pipes, and two are in one composite mention.
BIORED = (
    "1|t|CYP2C9 and c.430C>T change warfarin. Aspirin or ibuprofen too.\n"
    "1|a|Warfarin causes bleeding.\n"
    "1\t0\t6\tCYP2C9\tGeneOrGeneProduct\t1559\n"
    "1\t11\t19\tc.430C>T\tSequenceVariant\tc|SUB|C|430|T\n"
    "1\t27\t35\twarfarin\tChemicalEntity\tD014859\n"
    "1\t37\t57\tAspirin or ibuprofen\tChemicalEntity\tD001241,D007052\n"
    "1\t63\t71\tWarfarin\tChemicalEntity\tD014859\n"
    "1\t79\t87\tbleeding\tDiseaseOrPhenotypicFeature\tD006470\n"
    "1\tAssociation\t1559\tD014859\tNovel\n"
    "1\tNegative_Correlation\tc|SUB|C|430|T\tD014859\tNovel\n"
    "1\tPositive_Correlation\tD014859\tD006470\tNo\n"
    "1\tCotreatment\tD001241\tD014859\tNo\n"
    "1\tAssociation\tD014859\tD999999\tNo\n"
)
GENE, VARIANT, WARFARIN, ASPIRIN, IBUPROFEN = "1559", "c|SUB|C|430|T", "D014859", "D001241", "D007052"
BLEEDING = "D006470"
# BC5CDR's form: CID relations of a chemical and a disease; the same identifiers occur in two documents.
CDR = "".join(
    f"{name}|t|Lithium, nausea, tremor.\n{name}|a|\n"
    f"{name}\t0\t7\tLithium\tChemical\tD008094\n"
    f"{name}\t9\t15\tnausea\tDisease\tD009325\n"
    f"{name}\t17\t23\ttremor\tDisease\tD014202\n"
    f"{name}\tCID\tD008094\t{disease}\n\n"
    for name, disease in [("2", "D009325"), ("3", "D014202")]
)

Reads = Callable[[str], list[biorel.Document]]


@pytest.fixture
def read(tmp_path: Path) -> Reads:
    def of(text: str) -> list[biorel.Document]:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.txt"
        path.write_text(text, encoding="utf-8")
        return list(biorel.read_documents(path))

    return of


def table(*rows: tuple[Any, ...], document: str = "1") -> pd.DataFrame:
    """Predictions: two concepts, relation, probability."""
    columns = ["concept1", "concept2", "relation", "probability"]
    return pd.DataFrame(rows, columns=columns).assign(document=document)


def counts(scores: biorel.Scores, name: str = "micro") -> tuple[int, int, int]:
    """Correct, predicted, gold."""
    row = scores.set_index("class").loc[name]
    return int(row["correct"]), int(row["predicted"]), int(row["support"])


def test_a_relation_counts_when_identifiers_and_type_agree(read: Reads) -> None:
    predicted = table(
        (WARFARIN, GENE, "Association", 0.9),  # the other order
        (VARIANT, WARFARIN, "Association", 0.8),  # the pair, another type
        (WARFARIN, BLEEDING, "Positive_Correlation", 0.7),
        (GENE, BLEEDING, "Association", 0.6),  # not gold
        (ASPIRIN, WARFARIN, "none", 0.9),
    )
    scores = biorel.concept_scores(read(BIORED), predicted)
    assert counts(scores) == (2, 4, 5)
    assert counts(scores, "micro, any relation") == (3, 4, 5)
    row = scores.set_index("class").loc["micro"]
    assert row[["precision", "recall", "f1"]].tolist() == pytest.approx([2 / 4, 2 / 5, 4 / 9])
    assert counts(scores, "Association") == (1, 3, 2)
    assert counts(scores, "Negative_Correlation") == (0, 0, 1)
    assert counts(scores, "ChemicalEntity - GeneOrGeneProduct") == (1, 1, 1)
    assert counts(scores, "ChemicalEntity - SequenceVariant") == (0, 1, 1)
    assert counts(scores, "ChemicalEntity - SequenceVariant, any relation") == (1, 1, 1)
    assert scores.protocol == (
        "micro-F1 over (concept, concept, relation), direction ignored, "
        "the most probable relation of a pair's mentions, 1 documents, 5 gold relations, "
        "1 of them unreachable, counted as misses"
    )


def test_direction_counts_if_wanted(read: Reads) -> None:
    predicted = table((WARFARIN, GENE, "Association", 0.9), (ASPIRIN, WARFARIN, "Cotreatment", 0.9))
    assert counts(biorel.concept_scores(read(BIORED), predicted)) == (2, 2, 5)
    directed = biorel.concept_scores(read(BIORED), predicted, directed=True)
    assert counts(directed) == (1, 2, 5)
    assert counts(directed, "ChemicalEntity - GeneOrGeneProduct") == (0, 1, 0)
    assert counts(directed, "GeneOrGeneProduct - ChemicalEntity") == (0, 0, 1)


def test_gold_that_cannot_be_found_is_a_miss_and_is_listed(read: Reads) -> None:
    predicted = table((WARFARIN, GENE, "none", 0.9), (ASPIRIN, WARFARIN, "Cotreatment", 0.9))
    relations = biorel.concept_relations(read(BIORED), predicted)
    assert list(zip(relations["concept1"], relations["concept2"], relations["reason"], strict=True)) == [
        (GENE, WARFARIN, ""),  # a candidate that was missed
        (ASPIRIN, WARFARIN, ""),
        (BLEEDING, WARFARIN, "no pair among the predictions"),
        (WARFARIN, "D999999", "a concept without a mention"),
        (WARFARIN, VARIANT, "no pair among the predictions"),
    ]
    scores = biorel.concept_scores(read(BIORED), predicted).set_index("class")
    assert scores.loc["micro", ["support", "unreachable"]].tolist() == [5, 3]
    assert scores.loc["Association", ["support", "unreachable"]].tolist() == [2, 1]


def test_mentions_of_a_pair_give_one_relation_or_all(read: Reads) -> None:
    predicted = table(
        (WARFARIN, BLEEDING, "Association", 0.6),
        (WARFARIN, BLEEDING, "Positive_Correlation", 0.8),
        (WARFARIN, BLEEDING, "Positive_Correlation", 0.5),
        (WARFARIN, BLEEDING, "none", 0.99),
    )
    assert counts(biorel.concept_scores(read(BIORED), predicted)) == (1, 1, 5)
    assert counts(biorel.concept_scores(read(BIORED), predicted, per_pair="all")) == (1, 2, 5)
    relations = biorel.concept_relations(read(BIORED), predicted).query("predicted")
    assert relations[["relation", "probability"]].values.tolist() == [["Positive_Correlation", 0.8]]


def test_a_composite_mention_stands_for_each_of_its_concepts(read: Reads) -> None:
    [document] = read(BIORED)
    assert document.entities["concept"][3] == "D001241;D007052"
    row = {"document": "1", "relation": "Cotreatment", "probability": 0.9, "concept2": WARFARIN}
    joined = pd.DataFrame([row | {"concept1": "D001241;D007052", "id1": document.entities["id"][3]}])
    assert counts(biorel.concept_scores([document], joined)) == (1, 2, 5)
    assert set(biorel.concept_relations([document], joined).query("predicted")["concept1"]) == {ASPIRIN, IBUPROFEN}


def test_a_mention_without_an_identifier_is_its_own_concept(read: Reads) -> None:
    documents = read("1|t|Aspirin, pain.\n1|a|\n1\t0\t7\tAspirin\tDrug\t-\n1\t9\t13\tpain\tDisease\tD1\n")
    row = {"document": "1", "concept1": "", "start1": 0, "end1": 7, "concept2": "D1", "relation": "x"}
    relations = biorel.concept_relations(documents, pd.DataFrame([row | {"probability": 0.5}]))
    assert relations[["concept1", "type1", "concept2", "gold"]].values.tolist() == [["@0-7", "Drug", "D1", False]]
    without = pd.DataFrame([row | {"probability": 0.5}]).drop(columns=["start1"])
    with pytest.raises(biorel.ConfigError, match="row 0: `concept1` is empty"):
        biorel.concept_relations(documents, without)


def test_relations_count_by_document(read: Reads) -> None:
    """BC5CDR: the identifiers of a chemical and a disease, document by document."""
    row = ("D008094", "D009325", "CID", 0.9)
    predicted = pd.concat([table(row, document="2"), table(row, document="3")], ignore_index=True)
    scores = biorel.concept_scores(read(CDR), predicted)
    assert counts(scores) == (1, 2, 2)
    assert counts(scores, "Chemical - Disease") == (1, 2, 2)
    assert scores["class"].tolist()[0] == "CID"
    # Nothing is predicted for a document: its relations are misses.
    assert counts(biorel.concept_scores(read(CDR), predicted.head(1))) == (1, 1, 2)
    assert counts(biorel.concept_scores(read(CDR), predicted.head(0))) == (0, 0, 2)


def test_documents_with_predicted_relations_are_scored(read: Reads) -> None:
    wrong = CDR.replace("3\tCID\tD008094\tD014202", "3\tCID\tD008094\tD009325\n3\tCID\tD008094\tD014202")
    scores = biorel.concept_scores(read(CDR), read(wrong))
    assert counts(scores) == (2, 3, 2)
    assert "all relations of a pair's mentions, 2 documents, 2 gold relations" in scores.protocol


def test_the_negative_label_is_that_of_the_model_or_none(read: Reads) -> None:
    predicted = table((WARFARIN, BLEEDING, "false", 0.9), (WARFARIN, GENE, "Association", 0.9))
    with pytest.raises(biorel.ConfigError, match="negative: the table has no relation `none`, but `false`"):
        biorel.concept_scores(read(BIORED), predicted)
    assert counts(biorel.concept_scores(read(BIORED), predicted, negative="false")) == (1, 1, 5)
    predicted.attrs["negative"] = "false"
    assert counts(biorel.concept_scores(read(BIORED), predicted)) == (1, 1, 5)


def test_what_does_not_fit_is_refused(read: Reads) -> None:
    documents = read(CDR)
    good = table(("D008094", "D009325", "CID", 0.9), document="2")
    with pytest.raises(biorel.ConfigError, match=r"row 0: the document '9' is not among the gold documents"):
        biorel.concept_scores(documents, good.assign(document="9"))
    with pytest.raises(biorel.ConfigError, match="no column `relation`; the columns are concept1, concept2"):
        biorel.concept_scores(documents, good.drop(columns="relation"))
    with pytest.raises(biorel.ConfigError, match="no column `probability`"):
        biorel.concept_scores(documents, good.drop(columns="probability"))
    with pytest.raises(biorel.ConfigError, match="row 0: the relation has no `probability`"):
        biorel.concept_scores(documents, good.assign(probability=np.nan))
    with pytest.raises(biorel.ConfigError, match="documents: document 2 appears twice"):
        biorel.concept_scores([*documents, documents[0]], good)
    with pytest.raises(biorel.ConfigError, match="per_pair: `first` is unknown; choose best or all"):
        biorel.concept_scores(documents, good, per_pair="first")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be a (list of )?Document"):
        biorel.concept_scores(["2"], good)  # type: ignore[list-item]


def test_the_table_of_a_model_is_scored(read: Reads, run: biorel.Run) -> None:
    """All pairs of mentions in a sentence: what a sentence does not hold cannot be found."""
    text = "1|t|Testol and placebol. Ibutest.\n1|a|\n"
    for start, end, name, concept in [(0, 6, "Testol", "D1"), (11, 19, "placebol", "D2"), (21, 28, "Ibutest", "D3")]:
        text += f"1\t{start}\t{end}\t{name}\tdrug\t{concept}\n"
    documents = read(text + "1\teffect\tD1\tD2\n1\teffect\tD1\tD3\n")
    found = biorel.predict_documents(run.model, documents)
    assert isinstance(found, pd.DataFrame)
    assert found.attrs["negative"] == "false"
    # Numbers as identifiers, which pandas reads back as floats where some are missing.
    numbered = (
        text.replace("D1", "4193").replace("D2", "7157").replace("\tD3", "\t-").replace(". I", ", I")
        + "1\teffect\t4193\t7157\n"
    )
    documents = read(numbered)
    table = biorel.predict_documents(run.model, documents)
    assert isinstance(table, pd.DataFrame)
    table = table.assign(relation="effect")
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert again["concept2"].dtype == float
    expected = biorel.concept_scores(documents, table, negative="false")
    pd.testing.assert_frame_equal(biorel.concept_scores(documents, again, negative="false"), expected)
    assert expected.set_index("class").loc["micro", "recall"] == 1
    documents = read(text + "1\teffect\tD1\tD2\n1\teffect\tD1\tD3\n")
    relations = biorel.concept_relations(documents, found).query("gold")
    assert dict(zip(relations["concept2"], relations["reason"], strict=True)) == {
        "D2": "",
        "D3": "no pair among the predictions",
    }


@pytest.mark.parametrize(
    ("name", "relations"), [("biored/Test.PubTator", 1163), ("bc5cdr/CDR_TrainingSet.PubTator.PubTator.txt", 1038)]
)
def test_counts_equal_those_of_sets_of_lines(corpora: Path, name: str, relations: int) -> None:
    """An independent count: the lines of relations as sets, some of them changed or left out."""
    lines = (corpora / name).read_text(encoding="utf-8").splitlines()
    gold = []
    for fields in (line.split("\t") for line in lines):
        if len(fields) >= 4 and not fields[1].isdigit():
            gold.append((fields[0], *sorted(fields[2:4]), fields[1]))
    assert len(gold) == len(set(gold)) == relations
    numbers = np.random.default_rng(1)
    types = sorted({relation for *_, relation in gold})
    predicted = []
    for document, first, second, relation in gold:
        chance = numbers.random()
        if chance < 0.5:
            predicted.append((document, second, first, relation))
        elif chance < 0.7:
            predicted.append((document, first, second, types[numbers.integers(len(types))]))
        elif chance < 0.8:
            predicted.append((document, first, "D000000", relation))
    frame = pd.DataFrame(predicted, columns=["document", "concept1", "concept2", "relation"]).assign(probability=0.9)
    scores = biorel.concept_scores(list(biorel.read_documents(corpora / name)), frame, per_pair="all")
    found = {(document, *sorted([first, second]), relation) for document, first, second, relation in predicted}
    assert counts(scores) == (len(found & set(gold)), len(found), len(gold))
    pairs = [{triple[:3] for triple in triples} for triples in (found, gold)]
    assert counts(scores, "micro, any relation") == (len(pairs[0] & pairs[1]), len(pairs[0]), len(pairs[1]))
    for relation in types:
        own = [{triple for triple in triples if triple[3] == relation} for triples in (found, gold)]
        assert counts(scores, relation) == (len(own[0] & own[1]), len(own[0]), len(own[1]))


def test_attributes_are_scored_for_the_predicted_relations(read: Reads) -> None:
    predicted = table(
        (WARFARIN, GENE, "Association", 0.9),  # novel, which is right
        (VARIANT, WARFARIN, "Association", 0.8),  # another type, but novel
        (WARFARIN, BLEEDING, "Positive_Correlation", 0.7),  # not novel; said to be
        (GENE, BLEEDING, "Association", 0.6),  # not gold
        (ASPIRIN, WARFARIN, "none", 0.9),
    )
    pairs = [(WARFARIN, GENE), (WARFARIN, VARIANT), (WARFARIN, BLEEDING), (GENE, BLEEDING), (ASPIRIN, WARFARIN)]
    novelty = pd.DataFrame(pairs, columns=["concept1", "concept2"]).assign(document="1", relation="none")
    # The second pair is negative by the second model: the more probable of the two values counts all the same.
    novelty["p_none"], novelty["p_No"], novelty["p_Novel"] = [0.1, 0.6, 0.2, 0.2, 0.8], 0.1, [0.8, 0.3, 0.7, 0.7, 0.1]
    scores = biorel.concept_scores(read(BIORED), predicted, attributes={"novelty": novelty})
    assert counts(scores) == (2, 4, 5)
    assert counts(scores, "micro, novelty") == (2, 4, 5)
    assert counts(scores, "micro, relation and novelty") == (1, 4, 5)
    # One concept has no mention; the pair of aspirin is no relation, but was classified.
    for name in ("micro", "micro, novelty", "micro, relation and novelty"):
        assert scores.set_index("class").loc[name, "unreachable"] == 1
    plain = biorel.concept_scores(read(BIORED), predicted)
    pd.testing.assert_frame_equal(pd.DataFrame(plain), pd.DataFrame(scores).iloc[: len(plain)])


def test_attributes_that_do_not_fit_are_errors(read: Reads) -> None:
    predicted = table((WARFARIN, GENE, "Association", 0.9))
    novelty = predicted.assign(p_none=0.1, p_No=0.2, p_Novel=0.7)
    with pytest.raises(biorel.ConfigError, match="relation of document 1 has no `novel`; it has novelty"):
        biorel.concept_scores(read(BIORED), predicted, attributes={"novel": novelty})
    with pytest.raises(biorel.ConfigError, match="table of `novelty` needs document, concept1, concept2 and p_VALUE"):
        biorel.concept_scores(read(BIORED), predicted, attributes={"novelty": predicted})
