"""Published corpora by name, compared with counts by small independent parsers of their files.

The parsers take only the starts of sentences from biorel; they read lines, identifiers, relations and XML themselves.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import biorel
import pandas as pd
import pytest
from test_field_files import concepts, named

DATA = Path(__file__).parent.parent / "data"

BIORED_PAIRS = {
    frozenset(pair)
    for pair in [
        ("DiseaseOrPhenotypicFeature", "GeneOrGeneProduct"),
        ("DiseaseOrPhenotypicFeature", "SequenceVariant"),
        ("GeneOrGeneProduct",),
        ("ChemicalEntity", "GeneOrGeneProduct"),
        ("ChemicalEntity", "DiseaseOrPhenotypicFeature"),
        ("ChemicalEntity", "SequenceVariant"),
        ("ChemicalEntity",),
        ("SequenceVariant",),
    ]
}
BC5CDR_PAIRS = {frozenset(("Chemical", "Disease"))}


class Counts(NamedTuple):
    """What a split has, by an independent count."""

    documents: int
    entities: int
    pairs: int
    labels: Counter[str]
    lost: int


class Mention(NamedTuple):
    """A mention: its place, text and type, and its identifiers."""

    start: int
    end: int
    text: str
    type: str
    concepts: set[str]


def sentence_of(starts: list[int], position: int) -> int:
    return sum(start <= position for start in starts)


def pubtator_blocks(path: Path) -> Iterator[tuple[str, list[Mention], list[list[str]]]]:
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8").strip()):
        rows = [line.rstrip("\r").split("\t") for line in block.split("\n")]
        mentions = [
            Mention(int(row[1]), int(row[2]), row[3], row[4], concepts(row[5].strip() if len(row) > 5 else ""))
            for row in rows
            if len(row) >= 5 and row[1].isdigit()
        ]
        yield rows[0][0].split("|")[0], mentions, [row for row in rows if len(row) >= 4 and not row[1].isdigit()]


def count_pubtator(path: Path, allowed: set[frozenset[str]]) -> Counts:
    """Candidate pairs are those of a sentence with allowed types; a relation of two concepts labels all of theirs."""
    starts = {one.id: one.sentences["start"].tolist() for one in biorel.read_documents(path, "pubtator")}
    documents = entities = pairs = lost = 0
    labels: Counter[str] = Counter()
    for document, mentions, relations in pubtator_blocks(path):
        documents += 1
        entities += len(mentions)
        home = [sentence_of(starts[document], mention.start) for mention in mentions]
        candidates = {
            frozenset((one, other))
            for one, other in itertools.combinations(range(len(mentions)), 2)
            if home[one] == home[other]
            and frozenset((mentions[one].type, mentions[other].type)) in allowed
            and (mentions[one][:2] != mentions[other][:2] or mentions[one].type != mentions[other].type)
        }
        gold: dict[frozenset[int], set[str]] = defaultdict(set)
        for row in relations:
            plain = [tuple(mention) for mention in mentions]
            sides = [named(row[number].strip(), plain) for number in (2, 3)]  # type: ignore[arg-type]
            found = {frozenset(pair) for pair in itertools.product(*sides)} & candidates
            for pair in found:
                gold[pair].add(row[1])
            lost += not found
        labels["none"] += len(candidates) - len(gold)
        for own in gold.values():
            labels.update(own)
    pairs = labels.total()
    return Counts(documents, entities, pairs, labels, lost)


def check(corpus: biorel.Corpus, expected: dict[str, Counts]) -> None:
    statistics = corpus.statistics().set_index("split")
    assert statistics.index.tolist() == list(expected)
    for split, counts in expected.items():
        row = statistics.loc[split]
        found = {label: int(row[label]) for label in corpus.labels if row[label]}
        assert found == dict(counts.labels), split
        assert (row["documents"], row["pairs"], row["lost"]) == (counts.documents, counts.pairs, counts.lost), split
        findings = corpus.findings()[["split", "reason"]].itertuples(index=False, name=None)
        skipped = [reason for own, reason in findings if own == split and "a mention that no" in reason]
        assert row["entities"] + len(skipped) == counts.entities, split


def test_biored(corpora: Path) -> None:
    corpus = biorel.load_corpus("biored", corpora / "biored")
    files = {"train": "Train.PubTator", "dev": "Dev.PubTator", "test": "Test.PubTator"}
    expected = {split: count_pubtator(corpora / "biored" / file, BIORED_PAIRS) for split, file in files.items()}
    assert [counts.documents for counts in expected.values()] == [400, 100, 100]
    check(corpus, expected)
    assert (corpus.name, corpus.negative) == ("biored", "none")
    assert corpus.labels[1:] == [
        "Association", "Positive_Correlation", "Negative_Correlation", "Bind", "Cotreatment", "Comparison",
        "Drug_Interaction", "Conversion",
    ]  # fmt: skip
    findings = corpus.findings()
    # The release has the same documents in other formats; relations have no direction that could be lost.
    assert findings["reason"].eq("another form of the documents of a split").sum() == 1
    assert not findings["reason"].str.contains("direction").any()
    outside = findings[findings["reason"].str.contains("types that are not candidates")]
    assert len(outside) == 1, "one relation is outside of the guidelines' pairs of types"
    gold = sum(len(rows) for file in files.values() for _, _, rows in pubtator_blocks(corpora / "biored" / file))
    assert gold == 4178 + 1162 + 1163


def test_novelty_is_an_attribute_in_both_formats(corpora: Path) -> None:
    expected = Counter(row[4] for _, _, rows in pubtator_blocks(corpora / "biored" / "Dev.PubTator") for row in rows)
    assert expected == {"Novel": 835, "No": 327}
    texts, xml = (
        {one.id: one.relations for one in biorel.read_documents(corpora / "biored" / name)}
        for name in ("Dev.PubTator", "Dev.BioC.XML")
    )
    assert texts.keys() == xml.keys()
    columns = ["type", "entity1", "entity2", "novelty"]
    for document, relations in texts.items():
        if len(relations):
            pd.testing.assert_frame_equal(relations[columns], xml[document][columns])
    assert Counter(pd.concat([table for table in texts.values() if len(table)])["novelty"]) == expected


@pytest.mark.parametrize("scope", ["sentence", "document"])
def test_novelty_can_be_the_label(corpora: Path, scope: Any) -> None:
    path = corpora / "biored" / "Dev.PubTator"
    types = biorel.load_corpus("biored", path, scope=scope)
    novelty = biorel.load_corpus("biored", path, scope=scope, attribute="novelty")
    assert (novelty.name, novelty.labels, novelty.negative) == ("biored-novelty", ["none", "No", "Novel"], "none")
    related, novel = (corpus.instances("dev", "levitated-visible") for corpus in (types, novelty))
    pairs = ["document", "sentence", "entity1", "entity2", "text"]
    assert set(map(tuple, related[pairs].to_numpy())) == set(map(tuple, novel[pairs].to_numpy()))
    if scope == "document":
        assert (related["label"].eq("none") == novel["label"].eq("none")).all()
    with pytest.raises(biorel.CorpusError, match=r"Dev.PubTator.*has no attribute `novel`; it has novelty"):
        biorel.load_corpus("biored", path, attribute="novel")
    skipped = biorel.load_corpus("biored", path, attribute="novelty", errors="skip")
    assert skipped.statistics()["documents"].tolist() == [100]
    with pytest.raises(biorel.ConfigError, match="attribute"):
        biorel.load_corpus("ddi", biorel.sample_path("ddi"), attribute="novelty")


def test_bc5cdr(corpora: Path) -> None:
    folder = corpora / "bc5cdr"
    corpus = biorel.load_corpus("bc5cdr", folder)
    expected = {
        "train": count_pubtator(folder / "CDR_TrainingSet.PubTator.PubTator.txt", BC5CDR_PAIRS),
        "dev": count_pubtator(folder / "CDR_DevelopmentSet.PubTator.txt", BC5CDR_PAIRS),
    }
    check(corpus, expected)
    assert corpus.labels == ["none", "CID"]
    assert [counts.lost for counts in expected.values()] == corpus.statistics()["lost"].tolist()
    assert set(corpus._core.pairs("dev")["type1"]) == {"Chemical"}
    xml = biorel.load_corpus("bc5cdr", folder / "CDR_DevelopmentSet.BioC.xml", errors="skip")
    assert xml.splits == ["dev"]
    assert xml.statistics()["documents"].tolist() == [499]
    with pytest.raises(biorel.CorpusError, match="document 6415512"):
        biorel.load_corpus("bc5cdr", folder / "CDR_DevelopmentSet.BioC.xml")


def count_drugprot(folder: Path, part: str) -> Counts:
    def rows(kind: str) -> list[list[str]]:
        text = (folder / f"drugprot_{part}_{kind}.tsv").read_text(encoding="utf-8")
        return [line.split("\t") for line in text.split("\n") if line]

    texts = {pmid: f"{title} {abstract}" for pmid, title, abstract in rows("abstracs")}
    mentions: dict[str, dict[str, tuple[int, int, str]]] = defaultdict(dict)
    for pmid, name, entity_type, start, end, text in rows("entities"):
        assert texts[pmid][int(start) : int(end)] == text
        mentions[pmid][name] = (int(start), int(end), entity_type)
    gold: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for pmid, label, first, second in rows("relations"):
        gold[pmid, first.removeprefix("Arg1:"), second.removeprefix("Arg2:")].add(label)
    labels: Counter[str] = Counter()
    formed = set()
    for document in biorel.read_documents(folder / f"drugprot_{part}_abstracs.tsv"):
        spans = [(start, start + len(text)) for start, text in document.sentences[["start", "text"]].values]
        own = mentions[document.id]
        for (one, (start, end, one_type)), (other, (first, last, other_type)) in itertools.product(
            own.items(), repeat=2
        ):
            inside = any(left <= min(start, first) and max(end, last) <= right for left, right in spans)
            if one_type == "CHEMICAL" and other_type.startswith("GENE") and inside:
                formed.add((document.id, one, other))
                labels.update(gold.get((document.id, one, other), {"none"}))
    lost = sum(len(own) for pair, own in gold.items() if pair not in formed)
    return Counts(len(texts), sum(map(len, mentions.values())), labels.total(), labels, lost)


def test_drugprot(corpora: Path, tmp_path: Path) -> None:
    folder = corpora / "drugprot"
    corpus = biorel.load_corpus("drugprot", folder)
    expected = count_drugprot(folder, "development")
    check(corpus, {"dev": expected})
    assert len(corpus.labels) == 14
    positives = sum(count for label, count in expected.labels.items() if label != "none")
    repeated = corpus.findings()["reason"].eq("the same gold relation is stated twice").sum()
    assert (positives, expected.lost, repeated) == (3761, 0, 4)
    documents = list(biorel.read_documents(folder))
    assert (len(documents), sum(len(one.relations) for one in documents)) == (750, 3765)
    biorel.write_documents(documents, tmp_path, "drugprot")
    for kind in ("abstracs", "entities", "relations"):
        written, original = (
            sorted((path / f"drugprot_{middle}{kind}.tsv").read_text(encoding="utf-8").splitlines())
            for path, middle in ((tmp_path, ""), (folder, "development_"))
        )
        assert written == original, kind
    # A test set has no relations.
    (tmp_path / "drugprot_relations.tsv").unlink()
    with pytest.raises(biorel.CorpusError, match="no table of relations: a set without gold relations is for predict"):
        biorel.load_corpus("drugprot", tmp_path)
    assert all(len(one.relations) == 0 for one in biorel.read_documents(tmp_path))


PPI = {
    "aimed": ("aimed/xml", "AIMed"),
    "bioinfer": ("ppi", "BioInfer"),
    "hprd50": ("ppi", "HPRD50"),
    "iepa": ("ppi", "IEPA"),
    "lll": ("ppi", "LLL"),
}


def count_unified(folder: Path, name: str) -> Counts:
    """Any two entities of a sentence are a pair; an interaction of an entity with itself is lost."""
    documents = entities = lost = 0
    labels: Counter[str] = Counter()
    for file in sorted(folder.glob(f"{name}-*.xml")):
        root = ElementTree.parse(file).getroot()
        documents += len(root.findall("document"))
        for sentence in root.iter("sentence"):
            own = [entity.get("id") for entity in sentence.iter("entity")]
            entities += len(own)
            stated = [(one.get("e1"), one.get("e2")) for one in sentence.iter("interaction")]
            if sentence.find("pair") is not None:
                stated = [
                    (one.get("e1"), one.get("e2")) for one in sentence.iter("pair") if one.get("interaction") == "True"
                ]
            positive = {frozenset(pair) for pair in stated if pair[0] != pair[1]}
            lost += sum(pair[0] == pair[1] for pair in stated)
            labels["positive"] += len(positive)
            labels["negative"] += len(own) * (len(own) - 1) // 2 - len(positive)
    return Counts(documents, entities, labels.total(), labels, lost)


def test_five_corpora_by_name_and_together(corpora: Path) -> None:
    expected = {name: count_unified(corpora / folder, file) for name, (folder, file) in PPI.items()}
    sizes = {name: (counts.pairs, counts.labels["positive"]) for name, counts in expected.items()}
    assert sizes == {
        "aimed": (5775, 991),
        "bioinfer": (9666, 2534),
        "hprd50": (433, 163),
        "iepa": (817, 335),
        "lll": (330, 164),
    }
    for name, (folder, _) in PPI.items():
        corpus = biorel.load_corpus(name, corpora / folder)
        assert corpus.name == name
        check(corpus, {"all": expected[name]})
    together = biorel.load_corpus("ppi", [corpora / "aimed" / "xml", corpora / "ppi"])
    check(together, expected)
    # With the flat table, AIMed is read from it: it has one document more.
    table = biorel.load_corpus("ppi", [corpora / "aimed", corpora / "ppi"])
    assert table.statistics().set_index("split")["pairs"].to_dict() == {
        name: 5834 if name == "aimed" else counts.pairs for name, counts in expected.items()
    }
    # The roles agent and target of LLL give the answer away; all entities are proteins.
    assert set(together._core.pairs("lll")["type1"]) == {"protein"}
    assert together.findings()["reason"].str.contains("agent, agent/target, target").any()


def test_a_corpus_by_name_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(biorel.CorpusError, match="no file has the source lll; there are files of handmade"):
        biorel.load_corpus("lll", DATA / "corpora" / "ppi" / "pairs_exclusive.xml")
    with pytest.raises(biorel.CorpusError, match="no file in the format biored was found"):
        biorel.load_corpus("biored", DATA / "documents" / "brat")
    with pytest.raises(biorel.ConfigError, match="labels: biored does not take it"):
        biorel.load_corpus("biored", DATA / "documents" / "pubtator", labels=["a", "b"])
    nameless = (DATA / "corpora" / "ppi" / "pairs_exclusive.xml").read_text(encoding="utf-8")
    (tmp_path / "a.xml").write_text(re.sub(r' source="\w+"', "", nameless), encoding="utf-8")
    with pytest.raises(biorel.CorpusError, match="no attribute `source`, the name of the corpus; add it"):
        biorel.load_corpus("ppi", tmp_path)


def ppi_xml(source: str, sentences: int) -> str:
    """A unified file with the sentences `P0 binds Q0 not R0.` and so on, each in a document of its own."""
    parts = []
    for number in range(sentences):
        text, identifier = f"P{number} binds Q{number} not R{number} in {source}.", f"{source}.d{number}.s0"
        entities = "".join(
            f'<entity id="{identifier}.e{at}" charOffset="{text.index(name)}-{text.index(name) + len(name)}"'
            f' text="{name}" type="protein"/>'
            for at, name in enumerate(f"{letter}{number}" for letter in "PQR")
        )
        pairs = "".join(
            f'<pair id="{identifier}.p{at}" e1="{identifier}.e{one}" e2="{identifier}.e{two}" interaction="{yes}"/>'
            for at, (one, two, yes) in enumerate([(0, 1, "True"), (0, 2, "False"), (1, 2, "False")])
        )
        parts.append(
            f'<document id="{source}.d{number}"><sentence id="{identifier}" text="{text}">{entities}{pairs}'
            "</sentence></document>"
        )
    return f'<corpus source="{source}">{"".join(parts)}</corpus>'


def test_cross_corpus_evaluation(tmp_path: Path, encoder: biorel.Encoder) -> None:
    for source, sentences in (("LLL", 3), ("IEPA", 2), ("HPRD50", 4)):
        (tmp_path / f"{source}.xml").write_text(ppi_xml(source, sentences), encoding="utf-8")
    corpus = biorel.load_corpus("ppi", tmp_path)
    assert corpus.splits == ["hprd50", "iepa", "lll"]
    result = biorel.cross_validate(corpus, encoder, by="split", max_steps=1, max_length=64, progress=False)
    columns = ["fold", "split", "train", "test"]
    assert result.folds[columns].values.tolist() == [[0, "hprd50", 15, 12], [1, "iepa", 21, 6], [2, "lll", 18, 9]]
    sources = result.predictions["document"].str.split(".").str[0].str.lower()
    assert sources.tolist() == ["hprd50"] * 12 + ["iepa"] * 6 + ["lll"] * 9
    assert "3 folds, one for each split (hprd50, iepa, lll)" in result.scores.protocol
    with pytest.raises(biorel.ConfigError, match="folds: each split is a fold"):
        biorel.cross_validate(corpus, encoder, by="split", folds=3)
    with pytest.raises(biorel.ConfigError, match="has one split"):
        biorel.cross_validate(biorel.load_corpus("lll", tmp_path), encoder, by="split")
